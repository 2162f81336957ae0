"""Languages by name, what is missing, and how a program is put together."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from codegen.cli.doctor import examine_languages
from codegen.core.errors import ConfigError, InputError, SandboxError
from codegen.sandbox import Job, Limits, Sandbox, ScriptJob
from codegen.sandbox.languages import LANGUAGES, MissingToolchainError, find, toolchains
from codegen.sandbox.languages.base import closing_brace, fill, find_toolchain, in_main, masked

BASH = "bash"


@pytest.fixture
def empty_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine without any tool."""
    monkeypatch.setenv("PATH", str(tmp_path))
    find_toolchain.cache_clear()
    yield
    find_toolchain.cache_clear()


def test_names_and_aliases_are_of_one_language_each() -> None:
    names = [name for one in LANGUAGES.values() for name in (one.name, *one.aliases)]
    assert len(names) == len(set(names))
    for name in names:
        assert name in (find(name).name, *find(name).aliases)
        assert find(name.upper()) is find(name)


def test_an_unknown_language_is_one_line_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'javascrpt'") as caught:
        find("javascrpt")
    assert "javascript" in str(caught.value) and "rust" in str(caught.value)
    with pytest.raises(ConfigError):
        Sandbox(languages=["cobol"])


@pytest.mark.usefixtures("empty_path")
@pytest.mark.parametrize("name", LANGUAGES)
def test_a_missing_toolchain_names_the_package(name: str) -> None:
    with pytest.raises(MissingToolchainError) as caught:
        toolchains([name])
    assert f"apt install {LANGUAGES[name].install}" in str(caught.value)
    assert LANGUAGES[name].title in str(caught.value)


def test_a_toolchain_elsewhere_is_mounted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "lua5.4"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho Lua 5.4.99\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    find_toolchain.cache_clear()
    try:
        found = find_toolchain(LANGUAGES["lua"])
    finally:
        find_toolchain.cache_clear()
    assert found.version == "Lua 5.4.99"
    inside = dict(found.binds)[str(tmp_path)]
    assert found.tools["lua5.4"] == f"{inside}/bin/lua5.4"
    assert str(tmp_path) not in inside


@pytest.mark.parametrize("place", ["bin", ".local/bin", "."])
def test_a_tool_in_a_home_directory_brings_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    home, elsewhere = tmp_path / "me", tmp_path / "other"
    for person in (home, elsewhere):
        for name in (".ssh/key", ".local/share/keyring", "bin/script", "notes"):
            (person / name).parent.mkdir(parents=True, exist_ok=True)
            (person / name).write_text("secret\n")
        (person / place).mkdir(parents=True, exist_ok=True)
        shutil.copy("/bin/bash", person / place / "bash")
    monkeypatch.setenv("HOME", str(home))
    program = "grep -rl secret /opt/toolchains /home /root /tmp 2>/dev/null; echo done"
    for person in (home, elsewhere) if place != ".local/bin" else (home,):
        monkeypatch.setenv("PATH", f"{person / place}:/usr/bin:/bin")
        find_toolchain.cache_clear()
        try:
            with Sandbox(workers=1, languages=[BASH]) as sandbox:
                outcome = sandbox.run(ScriptJob(program, language=BASH))
        finally:
            find_toolchain.cache_clear()
        assert outcome.stdout == "/tmp/main.sh\ndone\n", outcome


def test_names_in_braces() -> None:
    assert fill("{a}{a.b} {other} {}", {"a": "1", "a.b": "{a}"}) == "1{a} {other} {}"


def test_a_language_the_sandbox_was_not_opened_for() -> None:
    with Sandbox(workers=1) as sandbox, pytest.raises(InputError, match="languages=") as caught:
        sandbox.run(Job("echo", language="sh", mode="stdio"))
    assert "bash" in str(caught.value)


def test_other_languages_do_not_run_without_a_sandbox() -> None:
    with (
        pytest.raises(SandboxError, match="real sandbox"),
        Sandbox(workers=1, backend="unsafe_local", unsafe_local=True, languages=[BASH]),
    ):
        pass


def test_the_description_has_the_versions() -> None:
    with Sandbox(workers=1, languages=["sh"]) as sandbox:
        assert re.search(r"version \d", sandbox.describe()["languages"]["bash"])
    with Sandbox(workers=1) as sandbox:
        assert "languages" not in sandbox.describe()


CODE = """int main() { // }
  char c = '}'; const char* s = "}\\"}"; /* } */
  if (c) { c = 1; }
  return 0;
}
void after() {}
"""


def test_braces_in_texts_and_comments_are_none() -> None:
    code = masked(CODE)
    assert len(code) == len(CODE) and code.count("\n") == CODE.count("\n")
    end = closing_brace(code, CODE.index("{"))
    assert CODE[end:].startswith("}\nvoid after")
    guarded = in_main(r"int main\(\) \{", "done();")(CODE, "").removesuffix("\n")
    assert guarded.index("done();") < guarded.index("return 0;") < guarded.index("void after")
    assert guarded.replace("\ndone();\n", "") == CODE
    assert closing_brace("{ {", 0) == -1


@pytest.mark.parametrize(
    ("name", "program", "test"),
    [
        # What the guard reads as the beginning of a comment is none.
        (
            "java",
            'class A { static void main(String[] a) {} String s = """\n/*\n"""; }',
            "class Main { static void main(String[] a) { CALLS } }",
        ),
        ("rust", 'mod a { fn main() {} const S: &str = r#"\\"#; /*" */ }', "fn main() { CALLS }"),
        # Modules and functions that are called like those of the tests.
        (
            "rust",
            "#[cfg(test)] mod a { #[test] fn one() {} pub fn codegen_one() {} }",
            "#[cfg(test)] mod tests { #[test] fn one() { CALLS } }",
        ),
    ],
)
def test_the_token_is_returned_after_the_tests_alone(name: str, program: str, test: str) -> None:
    guard = LANGUAGES[name].guard
    assert guard is not None
    text = guard(program, test)
    own, _, rest = text.partition("CALLS")
    assert "CODEGEN_TOKEN" not in own and "CodegenAnswers.done" not in own
    assert ("CODEGEN_TOKEN" in rest) != ("CodegenAnswers.done" in rest)
    if "#[test]" in test:
        assert re.findall(r"(\w+)::codegen_one\(\);", text) == ["tests"]


def test_the_limits_of_a_program_are_not_those_of_its_compiler() -> None:
    try:
        opened = Sandbox(workers=1, languages=["c"])
    except MissingToolchainError as error:
        pytest.skip(str(error))
    program = '#include <stdio.h>\nint main() { puts("1"); return 0; }\n'
    with opened as sandbox:
        limits = Limits(cpu_s=0.05, memory_mib=128, file_mib=1, processes=2)
        job = Job(program, mode="stdio", expected_stdout="1\n", language="c", limits=limits)
        outcomes = dict(sandbox.map((number, job) for number in range(6)))
        assert {outcome.status for outcome in outcomes.values()} == {"passed"}
        # Compiled once, whether before the others came or while they waited.
        assert sum(outcome.compile_s > 0 for outcome in outcomes.values()) == 1


def test_the_page_lists_all_languages_and_their_packages() -> None:
    page = (Path(__file__).parents[3] / "docs" / "languages.md").read_text(encoding="utf-8")
    for language in LANGUAGES.values():
        names = ", ".join(f"`{name}`" for name in (language.name, *language.aliases))
        assert f"| {language.title} | {names} | {language.install} |" in page


@pytest.mark.usefixtures("empty_path")
def test_the_doctor_says_what_to_install() -> None:
    checks = list(examine_languages())
    assert [check.name for check in checks] == [one.title for one in LANGUAGES.values()]
    for check, language in zip(checks, LANGUAGES.values(), strict=True):
        assert check.ok is None
        assert f"apt install {language.install}" in check.remedy


def test_strings_that_are_not_closed_hide_no_braces() -> None:
    text = '"a{" + "\\"{" { "open { \n } R"x({)x" } // {\n'
    assert re.sub(r"[^{}\n]", "", masked(text)) == "{{\n}}\n"
    assert masked('f("{")\n  /* {\n')[-8:].strip() == ""
