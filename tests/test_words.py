"""The words of docs, docstrings, comments and messages: plain American English."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import run

ROOT = Path(__file__).parents[1]

# What is not written -> what is. Code in backticks, and strings of one word, are not looked at.
WORDS = {
    r"that of which|those of which|which there (is|are) not": "say it in two sentences",
    r"(is|are|be) had": "can be obtained",
    r"go(es|ing|ne)? on from|goes on": "resumes, continues",
    r"needs somebody|whoever|for nothing|does not stand in": "say who or what",
    r"anew": "again",
    r"the newest": "the latest",
    r"mend(s|ed|ing)?": "fix, repair, correct",
    r"asker|fills_gaps|tame": "client, infilling, side-effect free",
    r"narrow weights": "quantized weights",
    r"licence(s|d)?": "license",
    r"(neighbour|behaviour|colour|favour|honour)\w*": "-or",
    r"(normal|token|quant|recogn|initial|optim|serial|random|summar|author|maxim)is"
    r"(e|ed|er|ing|ation)s?": "-ize",
    r"(label|travel)l(ed|ing)": "one l",
    r"judgement|centred?|grey|fulfil|catalogue|programme": "judgment, center, gray, fulfill, ...",
}
UNREAD = (
    "CHANGELOG.md",
    "benchmarks/tools/code_requests.py",  # prompts stay as they were measured
)
BAD = re.compile(rf"\b(?:{'|'.join(WORDS)})\b", re.IGNORECASE)
CODE = re.compile(
    r"``.*?``|`[^`\n]*`|^\s+\w+: |^(```|~~~).*?^\1|https?://\S+", re.DOTALL | re.MULTILINE
)
FIELD = re.compile(r"\{[^{}\n]*\}")  # of an f-string
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The prose of a file, each piece with the line it begins in."""
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(content).readline):
            is_sentence = token.type == tokenize.STRING and " " in token.string.strip("rbfu\"' ")
            if token.type == tokenize.COMMENT or is_sentence:
                yield token.start[0], FIELD.sub("", token.string)
    elif path.suffix in (".md", ".html", ".jinja"):
        yield 1, content
    else:
        for found in COMMENT.finditer(content):
            yield content.count("\n", 0, found.start()) + 1, found[0]


def found_in(text: str) -> list[tuple[int, str]]:
    """Each banned word in a text, with the number of line ends before it."""
    bare = CODE.sub(lambda code: "\n" * code[0].count("\n"), text)
    return [(bare.count("\n", 0, word.start()), word[0]) for word in BAD.finditer(bare)]


def better(word: str) -> str:
    """What to write instead."""
    return next(new for old, new in WORDS.items() if re.fullmatch(old, word, re.IGNORECASE))


def test_plain_words() -> None:
    kinds = ("*.py", "*.md", "*.html", "*.jinja", "*.c", "*.h", "*.cpp", "*.hpp")
    listed = run("git", "ls-files", "-z", *kinds, cwd=ROOT)
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = [
        name
        for name in listed.stdout.split("\0")
        if name and not name.startswith(("tests/", *UNREAD)) and (ROOT / name).is_file()
    ]
    wrong = [
        f"{name}:{line + offset}: {word!r} -> {better(word)}"
        for name in names
        for line, text in texts(ROOT / name)
        for offset, word in found_in(text)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It goes on\nfrom the newest.", ["goes on", "the newest"]),
        ("The `colour` of ``a neighbour`` is right.", []),
        ("Normalised tokens.\n```\nlicence\n```\nMended.", ["Normalised", "Mended"]),
        ("Recommended, amended, engrey", []),
    ],
)
def test_what_is_found(text: str, words: list[str]) -> None:
    assert [word for _, word in found_in(text)] == words
