"""How much the samples of one problem differ, so that runs with differing n can be compared.

Per problem, then the mean over problems. Unique programs are counted after *rarefaction*: the
number expected among k samples drawn from the n at hand, so that more samples do not look more
diverse.

Sources: rarefaction is Hurlbert 1971; distinct-n is Li et al. 2016 (arXiv 1510.03055); the Vendi
score is Friedman and Dieng 2023 (arXiv 2210.02410), here with the cosine of token-bigram counts as
its kernel, which is positive semi-definite.

Limits: similarity is of tokens, not of meaning. :func:`behaviours` compares what programs do on
given inputs, by running them in the sandbox.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from codegen.errors import InputError
from codegen.evals.statistics import pass_at_k

from .text import compiles, edit_distance, lex, normal_form

if TYPE_CHECKING:
    from codegen.evals.sandbox import Sandbox

_MOST_PAIRS = 50  # of a problem's samples, for the mean similarity


@dataclass(frozen=True, slots=True)
class Diversity:
    """Means over problems; shares in [0, 1].

    Attributes:
        problems: how many had the two samples that it takes.
        samples: of each problem that were looked at, at most.
        k: samples that the unique shares are rarefied to: the fewest of any problem.
        unique_text: expected share of distinct programs among k, as texts.
        unique_form: the same of their normal forms (no comments, docstrings, names of locals).
        distinct_1, distinct_2: distinct / all token n-grams, over a problem's samples.
        dissimilarity: 1 - mean token edit similarity of two samples.
        vendi: Vendi score divided by the number of samples: 1 where all are wholly different.
        compiles: share of samples that compile.
    """

    problems: int
    samples: int
    k: int
    unique_text: float
    unique_form: float
    distinct_1: float
    distinct_2: float
    dissimilarity: float
    vendi: float
    compiles: float


def expected_unique(keys: Iterable[Hashable], k: int) -> float:
    """Rarefaction: the expected number of distinct keys among ``k`` drawn without replacement.

    sum over the distinct keys j, with n_j copies of n, of 1 - C(n - n_j, k) / C(n, k).
    """
    counts = Counter(keys)
    n = sum(counts.values())
    return math.fsum(pass_at_k(n, copies, k) for copies in counts.values())


def measure_diversity(
    programs: Mapping[str, Sequence[str]], *, most: int = 50, seed: int = 0
) -> Diversity | None:
    """Measures the samples of each problem; None if no problem has two.

    Args:
        programs: problem -> the programs of its samples.
        most: samples of a problem to look at, the first ones.
        seed: of the pairs that are compared, where there are more than 50.
    """
    groups = {id_: list(texts)[:most] for id_, texts in programs.items() if len(texts) > 1}
    if not groups:
        return None
    k = min(map(len, groups.values()))
    rows = [_measure(texts, k, _rng(seed, id_)) for id_, texts in groups.items()]
    means = [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]
    return Diversity(len(groups), max(map(len, groups.values())), k, *means)


def _rng(seed: int, id_: str) -> random.Random:
    return random.Random(f"{seed}/{id_}".encode("utf-8", "surrogatepass"))


def _measure(texts: Sequence[str], k: int, rng: random.Random) -> tuple[float, ...]:
    distinct = dict.fromkeys(texts)
    forms = {text: normal_form(text) for text in distinct}
    tokens = {text: lex(text) for text in distinct}
    right = {text: compiles(text) for text in distinct}
    lists = [tokens[text] for text in texts]
    return (
        expected_unique(texts, k) / k,
        expected_unique([forms[text] for text in texts], k) / k,
        _distinct(lists, 1),
        _distinct(lists, 2),
        1.0 - _similarity(lists, rng),
        vendi_score(lists) / len(lists),
        sum(right[text] for text in texts) / len(texts),
    )


def _distinct(lists: Sequence[Sequence[str]], n: int) -> float:
    grams = Counter(tuple(t[i : i + n]) for t in lists for i in range(len(t) - n + 1))
    return len(grams) / grams.total() if grams else 0.0


def _similarity(lists: Sequence[Sequence[str]], rng: random.Random) -> float:
    pairs = list(combinations(range(len(lists)), 2))
    if len(pairs) > _MOST_PAIRS:
        pairs = rng.sample(pairs, _MOST_PAIRS)
    values = []
    for i, j in pairs:
        one, other = lists[i], lists[j]
        longer = max(len(one), len(other))
        values.append(1.0 - edit_distance(one, other) / longer if longer else 1.0)
    return math.fsum(values) / len(values)


def vendi_score(lists: Sequence[Sequence[str]]) -> float:
    """The effective number of distinct token lists: exp of the entropy of the eigenvalues of K/n.

    K is the cosine of the counts of token bigrams (and of single tokens, so that short lists have
    some); an empty list is like itself only.
    """
    vocabulary: dict[Hashable, int] = {}
    rows = []
    for number, tokens in enumerate(lists):
        grams: Counter[Hashable] = Counter(tokens)
        grams.update(pairwise(tokens))
        if not grams:
            grams[("empty", number)] = 1
        rows.append({vocabulary.setdefault(g, len(vocabulary)): c for g, c in grams.items()})
    counts = np.zeros((len(rows), len(vocabulary)))
    for number, row in enumerate(rows):
        counts[number, list(row)] = list(row.values())
    counts /= np.linalg.norm(counts, axis=1, keepdims=True)
    spectrum = np.linalg.eigvalsh(counts @ counts.T / len(rows))
    spectrum = spectrum[spectrum > 1e-12]
    return float(np.exp(-(spectrum * np.log(spectrum)).sum()))


def behaviours(
    programs: Sequence[str],
    calls: Sequence[tuple[str, Sequence[Any]]],
    sandbox: Sandbox,
) -> list[str]:
    """What each program does on the given inputs, as a key: equal keys, equal behaviour there.

    Runs the programs in the sandbox, each distinct one once. The key holds the status and all
    returned values with their types; feed the keys to :func:`expected_unique`.

    Args:
        programs: whole programs.
        calls: (name of a function, arguments), the same for all.
        sandbox: an open one.
    """
    from codegen.evals.sandbox import Job

    if not calls:
        raise InputError("Behaviour is compared on calls, and there are none.")
    distinct = list(dict.fromkeys(programs))
    jobs = ((text, Job(text, mode="calls", calls=tuple(calls))) for text in distinct)
    keys = {text: f"{out.status} {out.values!r}" for text, out in sandbox.map(jobs)}
    return [keys[text] for text in programs]
