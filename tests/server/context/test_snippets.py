"""Definitions and imports by tree-sitter, full-text search against BM25's formula, order."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.server.context.snippets import (
    CodeSnippet,
    CursorContext,
    FileIndex,
    SnippetSet,
    definitions,
    words,
)
from codegen.server.context.sources import family, language_of
from codegen.server.context.symbols import read


def index_of(files: dict[str, str]) -> FileIndex:
    index = FileIndex()
    for path, text in files.items():
        language = language_of(path)
        index.put(path, text, family(language), read(text, language)[0])
    return index


def chosen(files: dict[str, str], path: str, prefix: str, suffix: str = "") -> list[CodeSnippet]:
    place = CursorContext(path, language_of(path), prefix, suffix)
    return list(definitions(index_of(files), place, 400))


FILES = {
    "shop/cart.py": "class Cart:\n    def add(self, item): ...\n\ndef total(cart): ...\n",
    "shop/__init__.py": "from .cart import Cart\n",
    "shop/db/store.py": "def save(cart): ...\n\ndef total(cart, discount): ...\n",
    "other/cart.py": "class Cart:\n    colour = 1\n",
    "web/cart.ts": "export function total(cart: Cart): number { return 1 }\n",
}


@pytest.mark.parametrize(
    ("path", "statement", "wanted"),
    [
        ("shop/main.py", "from .cart import total", ["shop/cart.py total"]),
        ("shop/main.py", "from .cart import total as t", ["shop/cart.py t"]),
        ("shop/db/main.py", "from ..cart import Cart", ["shop/cart.py Cart"]),
        ("shop/db/main.py", "from .store import total", ["shop/db/store.py total"]),
        ("main.py", "from shop.cart import total", ["shop/cart.py total"]),
        ("src/main.py", "from shop.cart import total", ["shop/cart.py total"]),
        ("main.py", "from shop import Cart", ["shop/cart.py Cart"]),  # by way of __init__
        ("main.py", "from cart import Cart", ["other/cart.py Cart", "shop/cart.py Cart"]),
        ("main.py", "from requests import total", []),
        ("main.py", "from shop.cart import missing", []),
        ("shop/cart.py", "from .cart import total", []),  # itself
    ],
)
def test_what_an_import_names(path: str, statement: str, wanted: list[str]) -> None:
    """The definition in the file that the import names, and in no other of the same name."""
    name = statement.split()[-1]
    found = chosen(FILES, path, f"{statement}\n\n\n{name}(1)\n\n")
    assert sorted(f"{piece.path} {piece.key[2].strip('.')}" for piece in found) == wanted


def bm25(query: set[str], pieces: list[list[str]]) -> list[float]:
    """The formula as SQLite's documentation gives it, a word at a time."""
    k, b = 1.2, 0.75
    mean = sum(map(len, pieces)) / len(pieces)
    scores = []
    for piece in pieces:
        counts, score = Counter(piece), 0.0
        for word in query:
            have = sum(word in other for other in pieces)
            inverse = max(math.log((len(pieces) - have + 0.5) / (have + 0.5)), 1e-6)
            f = counts[word]
            score += inverse * f * (k + 1) / (f + k * (1 - b + b * len(piece) / mean))
        scores.append(score)
    return scores


@pytest.mark.parametrize("seed", range(5))
def test_the_order_is_that_of_bm25(seed: int) -> None:
    rng = random.Random(seed)
    names = [f"{a}_{b}" for a in ("load", "save", "Cart", "user") for b in "xyz"] + ["alpha", "be"]
    texts = {
        f"{n}.py": "\n".join(" = ".join(rng.choices(names, k=3)) for _ in range(9))
        for n in range(60)
    }
    index = index_of(texts)
    query = "\n".join(rng.choices(names, k=4))
    found = index.similar(query, "python", "0.py", 10)
    pieces = {path: words(text) for path, text in texts.items()}
    all_words = list(pieces.values())
    rare = {w for w in words(query) if sum(w in p for p in all_words) <= 10}
    if not rare:
        assert found == []
        return
    scores = dict(zip(pieces, bm25(rare, all_words), strict=True))
    got = [scores[piece.path] for piece in found]
    best = sorted((s for path, s in scores.items() if path != "0.py" and s > 0), reverse=True)
    assert got == pytest.approx(best[:10])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 3)), max_size=25))
def test_an_index_that_changed_is_like_a_new_one(changes: list[tuple[int, int]]) -> None:
    texts = [
        "def alpha(cart): ...\n", "class Beta:\n    def gamma(self): ...\n",
        "x = 1\n" * 30 + "delta = 2\n", "",
    ]  # fmt: skip
    index, now = FileIndex(), dict[str, str]()
    for number, which in changes:
        path = f"{number}.py"
        if which < 0:
            index.remove(path)
            now.pop(path, None)
        else:
            index.put(path, texts[which], "python", read(texts[which], "python")[0])
            now[path] = texts[which]
    new = index_of(now)
    assert index.names == new.names and index.chars == new.chars
    for name in ("alpha", "Beta", "gamma", "delta", "x"):
        both = [sorted(one.definitions(name, "python", "")) for one in (index, new)]
        assert both[0] == both[1]
        both = [sorted(one.similar(name, "python", "", 99)) for one in (index, new)]
        assert both[0] == both[1]


def piece(number: int, text: str = "") -> CodeSnippet:
    return CodeSnippet(("similar", f"{number % 4}.py", str(number)), text or "x" * (10 + number))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 12), unique=True, max_size=6), st.integers(0, 5)),
        max_size=12,
    ),
    st.integers(30, 150),
)
def test_pieces_keep_their_places(choices: list[tuple[list[int], int]], room: int) -> None:
    """Within the room; what stays keeps its order and is in front of what is new; of what is
    wanted all that fits is there; nothing of a changed file stays that is not wanted.
    """
    shelf, states, before = SnippetSet(), Counter[str](), list[CodeSnippet]()
    for wanted, changed in choices:
        states[f"{changed}.py"] += 1
        pieces = [piece(number) for number in wanted]
        shelf.arrange(pieces, room, lambda path: states[path])
        now = [one for one, *_ in shelf.pieces]
        assert sum(one.size for one in now) <= room
        stayed = [one for one in before if one in now]
        assert now[: len(stayed)] == stayed
        new = now[len(stayed) :]
        assert new == [one for one in pieces if one in new][::-1]
        left = room
        for one in pieces:
            assert (one in now) or one.size > left
            left -= one.size if one.size <= left else 0
        for one in stayed:
            assert one in pieces or one.path != f"{changed}.py"
        before = now
