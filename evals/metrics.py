"""Repetition and diversity measures of samples.

They measure how much generated code repeats itself and how much the samples of a problem differ.

Repetition: the RPG paper (Dong et al. 2025, "Rethinking Repetition Problems of LLMs in Code
Generation", arXiv 2505.10402). The scripts released with it compute other measures under the same
names.

``scope`` selects the measured text: the ``output``, or ``prompt+output``. The paper's formulas use
the output, its scripts both; in CodeRepetEval the prompts already repeat themselves, so the results
differ widely.

``rep_line`` and ``sim_line`` are from "Code Copycat Conundrum" (arXiv 2504.12608). The loop,
onset and structural measures are ours.

Limits: the paper does not define its tokens; here they are the lexer's (:func:`lex`), not a
model's, so that models can be compared. Perplexity needs a model and is not measured.

Diversity: computed per problem, then averaged over problems. Unique programs are counted after
*rarefaction*: the expected number among k samples taken from all n, so that more samples do not
look more diverse.

Sources: rarefaction is Hurlbert 1971; distinct-n is Li et al. 2016 (arXiv 1510.03055); the Vendi
score is Friedman and Dieng 2023 (arXiv 2210.02410), here with the cosine of token-bigram counts as
its kernel, which is positive semi-definite.

Limit: diversity compares tokens, not meaning.

Tokens and statements come from tree-sitter, which parses any text, even truncated generations.
No program is run.
"""

from __future__ import annotations

import ast
import math
import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise
from typing import Literal

import numpy as np
import tree_sitter_python
from tree_sitter import Language, Node, Parser

from codegen.core.errors import InputError
from codegen.core.python_syntax import UNPARSABLE, compiles, parse
from codegen.evals.statistics import pass_at_k

_WHOLE = frozenset({"string", "concatenated_string", "integer", "float"})
_BODIES = frozenset({"block", "module"})


@lru_cache(maxsize=1)
def _parser() -> Parser:
    return Parser(Language(tree_sitter_python.language()))


def lex(program: str) -> list[str]:
    """Returns a program's tokens without comments, newlines and indentation.

    A string is one token.
    """
    return [text for text, _ in _tokens(program)]


def _tokens(program: str) -> Iterator[tuple[str, Node]]:
    source = program.encode("utf-8", "replace")
    for node in _walk(_parser().parse(source).root_node, lambda n: n.type in _WHOLE):
        if node.type != "comment" and (not node.child_count or node.type in _WHOLE):
            text = source[node.start_byte : node.end_byte].decode("utf-8", "replace")
            if text.strip():
                yield text, node


def kinds(program: str) -> list[str]:
    """Returns the tokens, with one kind each for names, numbers and strings."""
    return [_ALIKE.get(node.type, text) for text, node in _tokens(program)]


def statements(program: str) -> list[str]:
    """Returns a program's statements in order, with whitespace reduced to single spaces.

    A compound statement is represented by its header (``for x in y :``), so that its body is not
    counted twice. Clauses such as ``else`` and decorators are separate statements. In broken code
    each line is a statement.
    """
    return [" ".join(text.split()) for text in _statements(program)]


def shapes(program: str) -> list[str]:
    """Returns the statements' shapes, which ignore names, numbers and strings."""
    return [" ".join(_shape(text)) for text in _statements(program)]


_ALIKE = {"identifier": "N", "integer": "0", "float": "0", "string": "S"}
_ALIKE["concatenated_string"] = "S"


@lru_cache(maxsize=4096)
def _shape(statement: str) -> tuple[str, ...]:
    return tuple(_ALIKE.get(node.type, text) for text, node in _tokens(statement))


def _statements(program: str) -> Iterator[str]:
    source = program.encode("utf-8", "replace")
    root = _parser().parse(source).root_node
    for node in _walk(root, lambda n: n.type == "ERROR"):
        if node.type == "ERROR":
            broken = source[node.start_byte : node.end_byte].decode("utf-8", "replace")
            yield from (line for line in broken.splitlines() if line.strip())
        elif _is_statement(node):
            text = source[node.start_byte : _end(node)].decode("utf-8", "replace").rstrip()
            if text:
                yield text


def _end(statement: Node) -> int:
    """Returns the end byte of a statement, or of its header if it has a body."""
    children = statement.children
    body = next((i for i, child in enumerate(children) if child.type == "block"), None)
    colons = [child.end_byte for child in children[:body] if child.type == ":"]
    return colons[-1] if body is not None and colons else statement.end_byte


def _is_statement(node: Node) -> bool:
    if not node.is_named or node.type in ("comment", "decorated_definition"):
        return False
    parent = node.parent
    if node.type == "decorator" or node.type.endswith("_clause"):
        return node.type == "decorator" or any(c.type == "block" for c in node.children)
    return parent is not None and (parent.type in _BODIES or parent.type == "decorated_definition")


def _walk(root: Node, whole: Callable[[Node], bool]) -> Iterator[Node]:
    """Yields all nodes in order, without recursion; skips the children if ``whole(node)``."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        if not whole(node):
            waiting.extend(reversed(node.children))


def normal_form(program: str) -> str:
    """Returns the program without comments, docstrings and layout, with numbered local names.

    Programs with the same normal form behave alike, unless they read their own source or names
    (``__doc__``, ``locals()``, arguments passed by name). The normal form of an unparsable program
    is its stripped text.
    """
    try:
        tree = _Normal().visit(parse(program))
        return ast.unparse(ast.fix_missing_locations(tree))
    except (*UNPARSABLE, OverflowError):
        return program.strip()


class _Normal(ast.NodeTransformer):
    """Drops docstrings and numbers the names that functions bind."""

    def __init__(self) -> None:
        self._scopes: list[dict[str, str]] = []
        self._count = 0

    def _name(self, name: str) -> str:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        return name

    def visit_Module(self, node: ast.Module) -> ast.AST:
        node.body = _without_docstring(node.body)
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.name = self._name(node.name)
        node.body = _without_docstring(node.body)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.name = self._name(node.name)
        node.body = _without_docstring(node.body)
        return self._inside(node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return self._inside(node)

    def _inside(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> ast.AST:
        scope: dict[str, str] = {}
        for name in _bound(node):
            scope[name] = f"v{self._count}"
            self._count += 1
        self._scopes.append(scope)
        try:
            return self.generic_visit(node)
        finally:
            self._scopes.pop()

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg = self._name(node.arg)
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._name(node.id)
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        node.name = self._name(node.name) if node.name else None
        return self.generic_visit(node)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        rest = body[1:] if isinstance(first.value.value, str) else body
        return rest or [ast.Pass()]
    return body


def _bound(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> dict[str, None]:
    """Returns the names that a function itself binds, in order, without inner functions' names."""
    bound: dict[str, None] = {}
    outside: set[str] = set()
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, arguments.vararg]
    for argument in [*every, *arguments.kwonlyargs, arguments.kwarg]:
        if argument is not None:
            bound[argument.arg] = None
    body = [function.body] if isinstance(function, ast.Lambda) else function.body
    waiting: list[ast.AST] = list(reversed(body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            outside |= set(node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound[node.id] = None
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound[node.name] = None
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            bound[node.name] = None
        elif not isinstance(node, (ast.Lambda, ast.ClassDef)):
            waiting.extend(reversed(list(ast.iter_child_nodes(node))))
    return {name: None for name in bound if name not in outside}


def edit_distance(one: Sequence[object], other: Sequence[object]) -> int:
    """Returns the Levenshtein distance: the fewest insertions, deletions and substitutions.

    Bit-parallel (Myers 1999, in Hyyro's form): a column of the table is two integers.
    """
    if not one or not other:
        return len(one) + len(other)
    places: dict[object, int] = {}
    for i, item in enumerate(one):
        places[item] = places.get(item, 0) | 1 << i
    full, last = (1 << len(one)) - 1, 1 << (len(one) - 1)
    up, down, distance = full, 0, len(one)
    for item in other:
        same = places.get(item, 0)
        across = ((same & up) + up ^ up) | same | down
        right, left = down | ~(across | up) & full, up & across
        distance += bool(right & last) - bool(left & last)
        right = (right << 1 | 1) & full
        up = (left << 1 | ~(across | right)) & full
        down = right & across
    return distance


Scope = Literal["output", "prompt+output"]
_SIMILAR = 0.8  # threshold of sim-line
_LEAST_COPIES = 3  # minimum copies in a loop
_MOST_PERIOD = 200  # maximum statements or tokens per copy in a loop


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation.

    Attributes:
        prompt, text: the model's input and output.
        finished: whether the output ended before the token limit.
    """

    prompt: str
    text: str
    finished: bool


@dataclass(frozen=True, slots=True)
class PaperRepetition:
    """The paper's measures and some others; fractions in [0, 1].

    Attributes:
        scope: the measured text.
        egp: fraction of outputs that ended by themselves (end of generation, higher is better).
        tr_n: 1 - unique / all token 4-grams (lower is better).
        tr_s: 1 - unique / all statements (lower is better).
        ccp: fraction that compiles (higher is better).
        tr_kind: ``tr_n`` on token kinds, which ignores names and values. It is the closest to the
            paper's measure, whose n-grams consist of grammar symbols.
        tr_shape: ``tr_s`` on statement shapes, which ignores names and values.
        rep_line: 1 - unique / all lines that are not blank.
        sim_line: fraction of lines with a token edit similarity above 0.8 to another line.
        looping: fraction of outputs that end in a loop: three or more equal copies.
        loop_onset: mean fraction of the output before its loop, over outputs with a loop; NaN
            without any.
        tokens: mean length of an output in lexer tokens.
    """

    scope: Scope
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
    outputs: Iterable[Generation],
    *,
    scope: Scope = "output",
) -> PaperRepetition:
    """Returns the paper's measures, each the mean over outputs.

    Raises:
        InputError: if there are no outputs.
    """
    rows = list(outputs)
    if not rows:
        raise InputError("No outputs to measure.")
    texts = [row.prompt + row.text if scope == "prompt+output" else row.text for row in rows]
    tokens = [lex(text) for text in texts]
    lines = [[line.strip() for line in text.splitlines() if line.strip()] for text in texts]
    loops = [find_loop(words) for words in tokens]
    onsets = [
        loop.start / len(words)
        for loop, words in zip(loops, tokens, strict=True)
        if loop is not None
    ]

    def share(items: Sequence[Sequence[Hashable]]) -> float:
        return _mean_share([(len(one) - len(set(one)), len(one)) for one in items])

    return PaperRepetition(
        scope=scope,
        outputs=len(rows),
        egp=sum(row.finished for row in rows) / len(rows),
        tr_n=share([list(_ngrams(words)) for words in tokens]),
        tr_s=share([statements(text) for text in texts]),
        ccp=sum(map(compiles, texts)) / len(rows),
        tr_kind=share([list(_ngrams(kinds(text))) for text in texts]),
        tr_shape=share([shapes(text) for text in texts]),
        rep_line=share(lines),
        sim_line=_mean_share([(_similar_lines(one), len(one)) for one in lines]),
        looping=len(onsets) / len(rows),
        loop_onset=sum(onsets) / len(onsets) if onsets else math.nan,
        tokens=sum(map(len, tokens)) / len(rows),
    )


def _mean_share(counts: Sequence[tuple[int, int]]) -> float:
    """Returns the mean over outputs of repeated / all items; 0 for outputs without items."""
    return sum(repeated / every if every else 0.0 for repeated, every in counts) / len(counts)


def _ngrams(items: Sequence[str], n: int = 4) -> Iterator[tuple[str, ...]]:
    return (tuple(items[i : i + n]) for i in range(len(items) - n + 1))


def _similar_lines(lines: Sequence[str]) -> int:
    """Returns the number of lines whose token similarity to another line is above 0.8."""
    counts = Counter(tuple(lex(line)) for line in lines)
    distinct = list(counts)
    alike = {line for line, count in counts.items() if count > 1}
    for i, one in enumerate(distinct):
        for other in distinct[i + 1 :]:
            longer, shorter = max(len(one), len(other)), min(len(one), len(other))
            if shorter <= _SIMILAR * longer or (one in alike and other in alike):
                continue  # the distance is at least the difference in length
            if 1 - edit_distance(one, other) / longer > _SIMILAR:
                alike |= {one, other}
    return sum(counts[line] for line in alike)


@dataclass(frozen=True, slots=True)
class RepeatedEnding:
    """The repetitive end of a sequence: ``copies`` whole copies of ``period`` items.

    ``start`` is the index of the first copy's first item.
    """

    period: int
    copies: int
    start: int


def find_loop(items: Sequence[Hashable]) -> RepeatedEnding | None:
    """Returns the loop at a sequence's end: three or more copies of a subsequence.

    The longest loop (period times copies) counts, then the shortest period. The last copy may be
    followed by an incomplete one.
    """
    size = len(items)
    best: RepeatedEnding | None = None
    for period in range(1, min(_MOST_PERIOD, size // _LEAST_COPIES) + 1):
        run = 0
        while run < size - period and items[size - 1 - run] == items[size - 1 - run - period]:
            run += 1
        copies = 1 + run // period
        if copies >= _LEAST_COPIES and (
            best is None or period * copies > best.period * best.copies
        ):
            best = RepeatedEnding(period, copies, size - period - run)
    return best


_MOST_PAIRS = 50  # maximum sample pairs per problem, for the mean similarity


@dataclass(frozen=True, slots=True)
class Diversity:
    """Means over problems; fractions in [0, 1].

    Attributes:
        problems: number of problems with at least two samples.
        samples: maximum number of samples measured per problem.
        k: sample size for rarefaction: the smallest number of samples of any problem.
        unique_text: expected fraction of distinct programs among k, compared as text.
        unique_form: likewise, compared by normal form (no comments, docstrings, local names).
        distinct_1, distinct_2: distinct / all token n-grams, over a problem's samples.
        dissimilarity: 1 - mean token edit similarity of two samples.
        vendi: Vendi score divided by the number of samples; 1 if all are completely different.
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
    """Returns the expected number of distinct keys among ``k`` of all keys (rarefaction).

    The ``k`` keys are sampled without replacement:

    sum over the distinct keys j, with n_j copies of n, of 1 - C(n - n_j, k) / C(n, k).
    """
    counts = Counter(keys)
    n = sum(counts.values())
    return math.fsum(pass_at_k(n, copies, k) for copies in counts.values())


def measure_diversity(
    programs: Mapping[str, Sequence[str]], *, most: int = 50, seed: int = 0
) -> Diversity | None:
    """Measures the diversity of each problem's samples; None if no problem has two.

    Args:
        programs: problem -> the programs of its samples.
        most: maximum number of samples per problem; the first ones are measured.
        seed: seed for sampling pairs, if there are more than 50.
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
    grams = Counter(gram for tokens in lists for gram in _ngrams(tokens, n))
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
    """Returns the effective number of distinct token lists: exp of the entropy of K/n's spectrum.

    K has the cosines of token bigram counts (and single token counts, for short lists); an empty
    list is similar only to itself.
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
