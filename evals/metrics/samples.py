"""How much generated code repeats itself, and how much the samples of one problem differ.

Repetition: the RPG paper (Dong et al. 2025, "Rethinking Repetition Problems of LLMs in Code
Generation", arXiv 2505.10402). The scripts released with it compute other measures of the same
names.

``scope`` selects the measured text: the ``output``, or ``prompt+output``. The paper's formulas use
the output, its scripts both; in CodeRepetEval the prompts already repeat themselves, so the results
differ widely.

``rep_line`` and ``sim_line`` are from "Code Copycat Conundrum" (arXiv 2504.12608). The loop, its
onset and the structural measure are our own.

Limits: the paper does not define its tokens; here they are the lexer's (``text.lex``), not a
model's, so that models can be compared. Perplexity needs a model and is not measured.

Diversity: per problem, then the mean over problems. Unique programs are counted after
*rarefaction*: the number expected among k samples drawn from the n at hand, so that more samples do
not look more diverse.

Sources: rarefaction is Hurlbert 1971; distinct-n is Li et al. 2016 (arXiv 1510.03055); the Vendi
score is Friedman and Dieng 2023 (arXiv 2210.02410), here with the cosine of token-bigram counts as
its kernel, which is positive semi-definite.

Limits of diversity: similarity is of tokens, not of meaning.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Literal

import numpy as np

from codegen.errors import InputError
from codegen.evals.statistics import pass_at_k
from codegen.python_syntax import compiles

from .text import edit_distance, kinds, lex, normal_form, shapes, statements

# --- repetition ----------------------------------------------------------------------------------


Scope = Literal["output", "prompt+output"]
Aggregate = Literal["mean", "pooled"]
_ALIKE = 0.8  # threshold of sim-line
_MOST_PERIOD = 200  # statements or tokens of one copy of a loop


@dataclass(frozen=True, slots=True)
class Output:
    """One generation.

    Attributes:
        prompt, text: what the model was given, and what it wrote.
        finished: whether it ended by itself before its limit.
    """

    prompt: str
    text: str
    finished: bool


@dataclass(frozen=True, slots=True)
class PaperRepetition:
    """The measures as the paper defines them, and some more; shares in [0, 1].

    Attributes:
        scope, aggregate: how it was measured.
        egp: share of outputs that ended by themselves (end of generation, higher is better).
        tr_n: 1 - unique / all token 4-grams (lower is better).
        tr_s: 1 - unique / all statements (lower is better).
        ccp: share that compiles (higher is better).
        tr_kind: as ``tr_n``, of tokens by kind: names and values don't count. Of all measures this
            is nearest to the paper's, whose n-grams are of grammar symbols.
        tr_shape: as ``tr_s``, of statements by shape: names and values don't count.
        rep_line: 1 - unique / all lines that are not blank.
        sim_line: share of lines with a token edit similarity above 0.8 to another line.
        looping: share of outputs that end in a loop: three or more equal copies.
        loop_onset: mean share of the output before its loop, over outputs with a loop; NaN without
            any.
        tokens: mean length of an output in lexer tokens.
    """

    scope: Scope
    aggregate: Aggregate
    outputs: int
    egp: float
    tr_n: float
    tr_s: float
    ccp: float
    tr_kind: float
    tr_shape: float
    rep_line: float
    sim_line: float
    looping: float
    loop_onset: float
    tokens: float


def paper_repetition(
    outputs: Iterable[Output],
    *,
    scope: Scope = "output",
    aggregate: Aggregate = "mean",
    n: int = 4,
) -> PaperRepetition:
    """The paper's measures.

    Args:
        aggregate: of ``tr_n``, ``tr_s``, ``tr_kind``, ``tr_shape`` and the lines: the ``mean`` over
            outputs, or ``pooled``, all outputs' items counted together (a repetition is still one
            within one output).
        n: of the n-grams.

    Raises:
        InputError: with no outputs.
    """
    rows = list(outputs)
    _need(rows)
    texts = [row.prompt + row.text if scope == "prompt+output" else row.text for row in rows]
    tokens = [lex(text) for text in texts]
    lines = [[line.strip() for line in text.splitlines() if line.strip()] for text in texts]
    loops = [find_loop(found) for found in tokens]
    onsets = [
        loop.start / len(found)
        for loop, found in zip(loops, tokens, strict=True)
        if loop is not None
    ]

    def share(items: Sequence[Sequence[Hashable]]) -> float:
        return _aggregate([(len(one) - len(set(one)), len(one)) for one in items], aggregate)

    return PaperRepetition(
        scope=scope,
        aggregate=aggregate,
        outputs=len(rows),
        egp=sum(row.finished for row in rows) / len(rows),
        tr_n=share([list(_ngrams(found, n)) for found in tokens]),
        tr_s=share([statements(text) for text in texts]),
        ccp=sum(map(compiles, texts)) / len(rows),
        tr_kind=share([list(_ngrams(kinds(text), n)) for text in texts]),
        tr_shape=share([shapes(text) for text in texts]),
        rep_line=share(lines),
        sim_line=_aggregate([(_similar_lines(one), len(one)) for one in lines], aggregate),
        looping=len(onsets) / len(rows),
        loop_onset=sum(onsets) / len(onsets) if onsets else math.nan,
        tokens=sum(map(len, tokens)) / len(rows),
    )


def _need(rows: Sequence[Output]) -> None:
    if not rows:
        raise InputError("There are no outputs whose repetition could be measured.")


def _aggregate(counts: Sequence[tuple[int, int]], how: Aggregate) -> float:
    """(repeated, all) of each output as one share; outputs without items count as 0."""
    if how == "pooled":
        total = sum(every for _, every in counts)
        return sum(repeated for repeated, _ in counts) / total if total else 0.0
    return _mean([repeated / every if every else 0.0 for repeated, every in counts])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _ngrams(items: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return (tuple(items[i : i + n]) for i in range(len(items) - n + 1))


def _similar_lines(lines: Sequence[str]) -> int:
    """How many lines are more than 0.8 similar to another one, by tokens."""
    counts = Counter(tuple(lex(line)) for line in lines)
    distinct = list(counts)
    alike = {line for line, count in counts.items() if count > 1}
    for i, one in enumerate(distinct):
        for other in distinct[i + 1 :]:
            longer, shorter = max(len(one), len(other)), min(len(one), len(other))
            if shorter <= _ALIKE * longer or (one in alike and other in alike):
                continue  # the distance is at least the difference in length
            if 1 - edit_distance(one, other) / longer > _ALIKE:
                alike |= {one, other}
    return sum(counts[line] for line in alike)


# --- the released scripts ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loop:
    """The end of a sequence that repeats one piece: ``copies`` whole copies of ``period`` items.

    ``start`` is the index of the first item of the first copy.
    """

    period: int
    copies: int
    start: int


def find_loop(items: Sequence[Hashable], *, least: int = 3) -> Loop | None:
    """The loop that a sequence ends in, if it ends in ``least`` or more copies of a piece.

    Of several loops the longest (period times copies) counts, then the shortest period. An
    incomplete copy may follow the last one.
    """
    size = len(items)
    best: Loop | None = None
    for period in range(1, min(_MOST_PERIOD, size // least) + 1):
        run = 0
        while run < size - period and items[size - 1 - run] == items[size - 1 - run - period]:
            run += 1
        copies = 1 + run // period
        if copies >= least and (best is None or period * copies > best.period * best.copies):
            best = Loop(period, copies, size - period - run)
    return best


# --- diversity -----------------------------------------------------------------------------------


_MOST_PAIRS = 50  # per problem's samples, for the mean similarity


@dataclass(frozen=True, slots=True)
class Diversity:
    """Means over problems; shares in [0, 1].

    Attributes:
        problems: how many had the two samples that it takes.
        samples: the most samples of a problem that were measured.
        k: samples that the unique shares are rarefied to: the fewest of any problem.
        unique_text: expected share of distinct programs among k, as texts.
        unique_form: the same of their normal forms (no comments, docstrings, names of locals).
        distinct_1, distinct_2: distinct / all token n-grams, over a problem's samples.
        dissimilarity: 1 - mean token edit similarity of two samples.
        vendi: Vendi score divided by the number of samples: 1 where all are wholly different.
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
