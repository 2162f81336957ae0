"""Jobs in other languages become commands: what cannot be judged, and builds that lie."""

from __future__ import annotations

from contextlib import suppress

import pytest

from codegen.core.errors import InputError
from codegen.sandbox import Job, Sandbox
from codegen.sandbox.languages import LANGUAGES, MissingToolchainError
from codegen.sandbox.languages.programs import MOST_SOURCE, built_files
from tests.sandbox.languages.test_base import BASH


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (Job("echo", language=BASH, mode="calls"), "mode calls"),
        (Job("x" * (MOST_SOURCE + 1), language=BASH, mode="stdio"), "too long"),
        (Job("int x;", language="c", mode="isolated"), "mode isolated"),
        (Job("int x;", test="int y;", language="c", mode="in_sandbox"), "no main"),
    ],
    ids=["calls", "long", "no answers", "no main"],
)
def test_jobs_that_cannot_be_judged(job: Job, message: str) -> None:
    try:
        opened = Sandbox(workers=1, languages=[BASH, "c"])
    except MissingToolchainError as error:
        pytest.skip(str(error))
    with opened as sandbox, pytest.raises(InputError, match=message):
        sandbox.run(job)


@pytest.mark.parametrize("text", ["", "[]", '{"../a": ""}', '{".answers": ""}', '{"a": "?"}'])
def test_a_build_is_not_taken_at_its_word(text: str) -> None:
    with pytest.raises(ValueError):
        built_files(text)
    assert built_files('{"main": "YQ=="}') == {"main": b"a"}


# Of each pattern what begins it, again and again, behind what makes a program look for it.
UNFINISHED = [
    *[("cpp", "int main() {", piece) for piece in ('R"(x', 'R"a(', '\\"', "'\\u{1", "return ")],
    *[("c", "", piece) for piece in ("int main(", "int main ", "/*", "`")],
    *[("java", "", piece) for piece in ("static void main(", "public final ", "\n", "class ")],
    *[("java", "static void main() throws ", piece) for piece in (" ", "a ", "a,")],
    *[("rust", "#[test]", piece) for piece in ("#[test]\n", "#[a ", " ", "#[cfg(test)] pub ")],
    *[("haskell", "", piece) for piece in ("module a\n", "main\n", "where ")],
    *[("go", "package a\n", piece) for piece in ("func Test(", "func main( ", "package ")],
    *[("csharp", "", piece) for piece in ("static void Main(", "/*", "static ")],
    *[("kotlin", "", piece) for piece in ("fun main(", "package ", "\n", "fun main() :")],
    *[("scala", "", piece) for piece in ("def main(", "object A ", "object A extends ", "object ")],
    *[("lua", "os.exit()", piece) for piece in ("os.exit(", "\nos.exit()", " ", ")")],
]


@pytest.mark.parametrize(("name", "before", "piece"), UNFINISHED)
def test_a_program_made_to_keep_its_reader_busy_does_not(
    name: str, before: str, piece: str
) -> None:
    """Patterns that look for an end from each beginning would take hours on these texts."""
    text, language = before + piece * (MOST_SOURCE // 4 // len(piece)), LANGUAGES[name]
    if language.names:
        language.names(text)
    if language.guard:
        with suppress(InputError):
            language.guard(text, "")
