"""Where wrong tokens come from."""

from __future__ import annotations

import ast
import keyword
import random
from collections import Counter

import pytest
from hard_programs import HARD

from codegen.methods.backspace import Codec
from codegen.methods.backspace.noise import NOISES, MistakeSite, Scopes, Syntax, Uniform, find_sites

PROGRAM = """\
import os

LIMIT = 10


class Shop:
    rate = 3

    def price(self, item, *, count=1):
        total = item.cost * count
        for extra in item.extras:
            if extra.cost >= LIMIT and count < 20:
                total += extra.cost
        return total


def main(argv):
    shop = Shop()
    return [shop.price(thing) for thing in argv]
"""


@pytest.mark.parametrize("kind", ["uniform", "syntax"])
@pytest.mark.parametrize("name", HARD)
def test_wrong_tokens_are_ordinary_and_wrong(
    kind: str, name: str, tiny: Codec, embedded: Codec
) -> None:
    rng = random.Random(0)
    for codec in (tiny, embedded):
        target = codec.target("Do it.", HARD[name], "plain")
        source = NOISES[kind](codec, target)
        positions = range(len(target.clean))
        for at in positions if len(positions) < 300 else rng.sample(positions, 300):
            most = rng.randint(1, 4)
            wrong = source.wrong_tokens(at, most, rng)
            assert len(wrong) <= most and set(wrong) <= set(codec.ordinary)
            assert not wrong or wrong[0] != target.clean[at]
            assert wrong or kind == "syntax"


def test_uniform_is_uniform(tiny: Codec) -> None:
    """Chi-squared of 60,000 draws over the ordinary tokens but the right one; 99.99 % quantile."""
    target = tiny.target("a", "x = 1\n", "plain")
    rng = random.Random(5)
    counts = Counter(Uniform(tiny, target).wrong_tokens(0, 1, rng)[0] for _ in range(60_000))
    cells = len(tiny.ordinary) - 1
    assert target.clean[0] not in counts
    expected = 60_000 / cells
    chi_squared = sum((counts[i] - expected) ** 2 / expected for i in tiny.ordinary) - expected
    assert chi_squared < cells + 3.72 * (2 * cells) ** 0.5 + 10


def mistakes(codec: Codec, program: str, tries: int = 40) -> set[str]:
    """The texts that syntax noise makes of a program, the tail after the mistake left out."""
    target = codec.target("Do it.", program, "plain")
    source = Syntax(codec, target)
    found = set()
    for at in range(len(target.clean)):
        for seed in range(tries):
            wrong = source.wrong_tokens(at, 99, random.Random(seed))
            if wrong:
                found.add(codec.decode([*target.clean[:at], *wrong]))
    return found


def test_syntax_mistakes_are_those_of_the_table(embedded: Codec) -> None:
    found = mistakes(embedded, PROGRAM)
    for part in (
        "total = item.extras",  # an attribute for another one
        "if extra.cost <=",  # an operator
        "if extra.cost >= LIMIT or",
        "LIMIT = 11",
        "LIMIT = 9",
        "count < 21",
        "count < 19",
        "return count",  # a name in scope
        "        for extra in item.extras:\n" + 15 * " ",  # the 16th is the next word's
        "        for extra in item.extras:\n" + 7 * " ",
        "total -=",
    ):
        assert any(text.endswith(part) for text in found), part


def test_a_mistake_is_how_the_mistaken_text_is_tokenised(embedded: Codec) -> None:
    """Clean tokens, then the wrong run: what the tokenizer gives for that text as a whole."""
    target = embedded.target("Do it.", PROGRAM, "plain")
    source = Syntax(embedded, target)
    agree = total = 0
    for at in range(len(target.clean)):
        wrong = source.wrong_tokens(at, 99, random.Random(at))
        if wrong:
            total += 1
            ids = [*target.clean[:at], *wrong]
            agree += embedded.encode(embedded.decode(ids))[0] == ids
    assert total > 50 and agree == total


def test_names_are_in_scope(embedded: Codec) -> None:
    """Compared with a walk by hand."""
    sites = find_sites(PROGRAM)
    at = PROGRAM.index("total += ")
    site = next(site for site in sites if site.start == at and site.names)
    assert Scopes(PROGRAM).names(site) == (
        ["count", "extra", "item", "self", "total"],  # the method's; not rate, the class's
        ["LIMIT", "Shop", "main", "os"],
    )
    attribute = next(site for site in sites if PROGRAM[site.start : site.end] == "extras")
    assert attribute.names == "attributes"
    assert Scopes(PROGRAM).names(attribute) == (["cost", "extras", "price"],)


def test_scopes_of_every_binding_form() -> None:
    program = (
        "import a.b, c as d\nfrom e import f as g, h\nfrom x import *\n"
        "def i(j, /, k, *l, m=1, **n):\n    o = p = 1\n    [q for q in k]\n"
        "    with r as s: pass\n    try: pass\n    except E as t: pass\n    (u := 1)\n"
        "    return lambda v: v\nasync def w(): pass\nclass X:\n    y = 1\nz: int = 1\n"
    )
    scopes = Scopes(program)
    module = ["X", "a", "d", "g", "h", "i", "w", "z"]
    for line, names in ((1, ""), (5, "jklmnopqstu"), (11, "jklmnopqstuv"), (12, ""), (14, "")):
        assert scopes.names(MistakeSite(0, 0, names="scope", line=line)) == (list(names), module)


@pytest.mark.parametrize("name", HARD)
def test_sites_are_where_the_text_says(name: str) -> None:
    text = HARD[name]
    for site in find_sites(text):
        assert 0 <= site.start < site.end <= len(text)
        old = text[site.start : site.end]
        assert old not in site.swaps
        if site.names:
            assert old.isidentifier() and not keyword.iskeyword(old)
    starts = [site.start for site in find_sites(text)]
    assert starts == sorted(starts)


def test_no_sites_without_a_program_of_python() -> None:
    for name in ("not python", "syntax error", "huge integer", "deep"):
        with pytest.raises((SyntaxError, MemoryError, ValueError, RecursionError)):
            ast.parse(HARD[name])
        assert find_sites(HARD[name]) == []
    assert find_sites("") == []
