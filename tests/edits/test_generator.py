"""``codegen data edits``: real repositories in, training texts out; every refusal named."""

from __future__ import annotations

import difflib
import json
import math
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.core.errors import ConfigError, InputError
from codegen.core.records import Example
from codegen.data import MemorySource, open_source, read_rejects, read_texts, run
from codegen.data.sources import Rejected
from codegen.data.sources.git import license_of
from codegen.edits.formats import FORMATS
from codegen.edits.generator import Edits, Unsuitable
from codegen.edits.sessions import Hunk, difference

pygit2 = pytest.importorskip("pygit2", reason="pip install 'codegen-toolkit[git]'")

MIT = "MIT License\n\nPermission is hereby granted, free of charge, to any person\n"
BEFORE = "import os\n\n\ndef size(path):\n    total = os.stat(path)\n    print(total)\n" \
         "    return total\n\n\ndef other(x):\n    return x\n"  # fmt: skip
AFTER = BEFORE.replace("total", "status").replace("return x", "return x + 1")

Git = Callable[..., str]


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, Git]:
    """A repository with a license, one Python file and its change, made by git itself."""
    folder = tmp_path / "project"
    folder.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GIT_AUTHOR_DATE": "2024-05-06T07:08:09+02:00",
        "GIT_COMMITTER_DATE": "2025-01-01T00:00:00Z",
        **{f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER")
           for what in ("NAME", "EMAIL")},
    }  # fmt: skip

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=folder, env=environment, capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    git("init", "-q", "-b", "main")
    commit(folder, git, {"LICENSE": MIT, "pkg/a.py": BEFORE}, "Begin")
    commit(folder, git, {"pkg/a.py": AFTER}, "Rename a variable")
    return folder, git


def commit(folder: Path, git: Git, files: dict[str, str | bytes], subject: str) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    git("add", "-A")
    git("commit", "-q", "-m", subject)


def test_a_history_becomes_examples(repository: tuple[Path, Git]) -> None:
    folder, git = repository
    (example,) = list(open_source(f"git:{folder}"))
    assert isinstance(example, Example)
    assert example.program == BEFORE
    assert example.license == "MIT"
    assert example.source == "project"
    assert example.meta == {
        "new": AFTER,
        "path": "pkg/a.py",
        "commit": git("rev-parse", "HEAD"),
        "date": "2024-05-06T05:08:09",  # the author's, in UTC
        "author": "a@b.c",
        "subject": "Rename a variable",
    }


def test_examples_are_what_git_shows(repository: tuple[Path, Git]) -> None:
    """Merges, additions, deletions, renames, binary and large files, against ``git show``."""
    folder, git = repository
    rng = random.Random(0)
    for number in range(12):
        lines = [f"x{rng.randrange(5)} = {number}\r\n" for _ in range(rng.randrange(1, 9))]
        files: dict[str, str | bytes] = {f"pkg/m{rng.randrange(3)}.py": "".join(lines)}
        if number % 4 == 0:
            files["logo.png"] = bytes(rng.randrange(256) for _ in range(100))
            files["pkg/latin.py"] = f"# caf\xe9 {number}\n".encode("latin-1")
        commit(folder, git, files, f"Step {number}")
    git("checkout", "-q", "-b", "side", "HEAD~3")
    commit(folder, git, {"pkg/side.js": "let a = 1;\n"}, "Side")
    commit(folder, git, {"pkg/side.js": "let b = 1;\n"}, "Side again")
    git("checkout", "-q", "main")
    git("merge", "-q", "--no-ff", "-m", "Merge", "side")
    git("mv", "pkg/a.py", "pkg/b.py")
    git("commit", "-q", "-m", "Move")
    items = list(open_source(f"git:{folder}"))
    found = {item.id: item for item in items if isinstance(item, Example)}
    rejected = Counter(item.reason for item in items if isinstance(item, Rejected))
    assert rejected == {"not_utf8": 2}
    expected = set()
    for sha in git("rev-list", "--no-merges", "HEAD").split():
        for line in git("show", "--raw", "--no-renames", "--format=", sha).splitlines():
            kind, path = line.split()[4:6]
            if kind == "M" and path.endswith((".py", ".js")) and "latin" not in path:
                expected.add(f"project:{sha[:12]}:{path}")
    assert set(found) == expected
    assert {example.language for example in found.values()} == {"python", "javascript"}
    for example in found.values():
        commit_id, path = example.meta["commit"], example.meta["path"]
        for text, revision in (
            (example.program, f"{commit_id}~"),
            (example.meta["new"], commit_id),
        ):
            done = subprocess.run(
                ["git", "-C", str(folder), "show", f"{revision}:{path}"],
                capture_output=True,
                check=True,
            )
            assert done.stdout == text.encode()


def test_texts_of_a_repository(codegen: Any, repository: tuple[Path, Git], tmp_path: Path) -> None:
    folder, _ = repository
    out = tmp_path / "out"
    common = (f"git:{folder}", "--moments", "6", "--out")
    result = codegen("data", "edits", *common, str(out), "--json", "--workers", "1")
    assert result.code == 0, result.err
    assert json.loads(result.out)["licenses"] == {"MIT": 1}
    texts = list(read_texts(out))
    assert len(texts) >= 6
    categories = {text.meta["category"] for text in texts}
    assert len(categories) >= 2
    for text in texts:
        assert text.prompt.startswith("<filename>pkg/a.py\n")
        assert text.meta["trained_tokens"] == list(FORMATS["blocks"].trained)
        assert (text.trained == "<empty_output>") == (text.meta["category"] == "nothing")
    again = codegen("data", "edits", *common, str(out), "--workers", "1")
    assert "already finished" in again.err
    other = tmp_path / "other"
    done = codegen("data", "edits", *common, str(other), "--workers", "2")
    assert done.code == 0
    name = "data-00000.jsonl"
    assert (other / name).read_bytes() == (out / name).read_bytes()


def test_a_rewritten_history_is_not_resumed(
    codegen: Any, repository: tuple[Path, Git], tmp_path: Path
) -> None:
    folder, git = repository
    assert codegen("data", "edits", f"git:{folder}", "--out", str(tmp_path / "out")).code == 0
    git("commit", "-q", "--amend", "-m", "Another subject")
    result = codegen("data", "edits", f"git:{folder}", "--out", str(tmp_path / "out"))
    assert result.code == 1
    assert "heads" in result.err and "Traceback" not in result.err


def test_repositories_that_cannot_be_read(
    codegen: Any, repository: tuple[Path, Git], tmp_path: Path
) -> None:
    folder, git = repository
    plain = tmp_path / "plain"
    plain.mkdir()
    empty = tmp_path / "empty"
    pygit2.init_repository(str(empty))
    for path, message in (
        (tmp_path / "none", "No directory"),
        (plain, "not a git repository"),
        (empty, "has no history"),
        ("", "requires a path"),
    ):
        result = codegen("data", "edits", f"git:{path}", "--out", str(tmp_path / "out"))
        assert result.code == 1 and message in result.err, result.err
        assert len(result.err.strip().splitlines()) == 1
    several = tmp_path / "several"
    shutil.copytree(folder, several / "one")
    pygit2.init_repository(str(several / "empty"))
    assert len(list(open_source(f"git:{several}"))) == 1  # the empty one does not matter
    result = codegen(
        "data", "edits", f"git:{folder}", "--from-editor", "--out", str(tmp_path / "out")
    )
    assert result.code == 2 and "--from-editor cannot be used" in result.err
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    head = git("rev-parse", "HEAD^{tree}")
    (broken / ".git" / "objects" / head[:2] / head[2:]).unlink()
    (item,) = list(open_source(f"git:{broken}"))
    assert isinstance(item, Rejected) and item.reason == "missing_object"


@pytest.mark.parametrize(
    ("text", "id_"),
    [
        (MIT, "MIT"),
        ("Apache License\n Version 2.0, January 2004", "Apache-2.0"),
        ("GNU GENERAL PUBLIC LICENSE\nVersion 3", "GPL"),
        ("GNU LESSER GENERAL PUBLIC LICENSE", "LGPL"),
        ("Mozilla Public License Version 2.0", "MPL-2.0"),
        ("Redistribution and use in source and binary forms, with", "BSD-2-Clause"),
        (
            "Redistribution and use in source and binary forms: may not be used to endorse or "
            "promote products",
            "BSD-3-Clause",
        ),
        ("All rights reserved.", ""),
    ],
)
def test_license_texts(text: str, id_: str) -> None:
    assert license_of(text) == id_


# --- the generator -------------------------------------------------------------------------------


def example(**meta: Any) -> Example:
    program = meta.pop("program", BEFORE)
    license = meta.pop("license", "MIT")
    return Example("e", "", program, license=license, meta={"path": "a.py", "new": AFTER, **meta})


@pytest.mark.parametrize(
    ("given", "options", "reason"),
    [
        (example(license="GPL-3.0"), {}, "license"),
        (example(license=""), {}, "license"),
        (example(path="third_party/a.py"), {}, "vendored"),
        (example(path="x_pb2.py"), {}, "vendored"),
        (example(path=".env.py", program="x = 1\n"), {}, "secret_file"),
        (example(program="# Code generated by x. DO NOT EDIT.\n"), {}, "generated"),
        (example(subject="Revert \"x\""), {}, "subject"),
        (example(subject="Run black"), {}, "subject"),
        (example(author="dependabot[bot]"), {}, "author"),
        (example(new=BEFORE), {}, "unchanged"),
        (example(new=BEFORE.replace("(path)", "( path )")), {}, "formatting_only"),
        (example(new=BEFORE.replace("import os\n", "") + "import os\n"), {}, "moved"),
        (example(new="def f(:\n"), {}, "syntax_error"),
        (example(new="x = 1\n" * 400), {}, "too_many_changes"),
        (example(date="2024-01-01"), {"since": "2025"}, "date"),
        (example(), {"until": "2025"}, "date"),
        (example(), {"characters": 100}, "no_moment"),
        (example(new="x = '<jupyter_text>'\n"), {"refactorings": 0}, "mark_in_text"),
        (example(program="x = '\0'\n"), {}, "binary"),
    ],
)  # fmt: skip
def test_what_is_left_out(given: Example, options: dict[str, Any], reason: str) -> None:
    if reason == "secret_file":
        given = Example("e", "", "x = 1\n", license="MIT", meta={"path": ".ssh/a.py"})
    with pytest.raises(Unsuitable) as error:
        list(Edits(**options).generate(given, random.Random(0)))
    assert error.value.reason == reason


PROPOSAL: dict[str, Any] = {
    "path": "a.py", "history": [["a.py", 0, "x = 1\n", "y = 1\n"]], "window": [0, 2], "cursor": 3,
    "proposed": "y = 1\nprint(y)\n", "shown": True, "accepted": True, "kept": True,
    "unchanged": False,
}  # fmt: skip


@pytest.mark.parametrize(
    "damage",
    [
        {"window": [5, 9]}, {"window": [2, 0]}, {"window": [-1, 1]}, {"window": [0, 10**400]},
        {"window": "02"}, {"cursor": -5}, {"cursor": 10**9}, {"cursor": math.inf}, {"cursor": None},
        {"history": 5}, {"history": [[None, 0, "", "x"]]}, {"history": [["a.py", -5, "", "x"]]},
        {"history": [["a.py", 0, 5, "x"]]}, {"history": [["a.py", 0]]}, {"proposed": 3},
        {"proposed": None},
    ],
)  # fmt: skip
def test_a_damaged_proposal_is_left_out(damage: dict[str, Any]) -> None:
    text = "y = 1\nprint(x)\n"
    whole = Example("e", "", text, license="MIT", meta=PROPOSAL)
    assert len(list(Edits().generate(whole, random.Random(0)))) == 1
    broken = Example("e", "", text, license="MIT", meta=PROPOSAL | damage)
    with pytest.raises(Unsuitable) as error:
        list(Edits().generate(broken, random.Random(0)))
    assert error.value.reason == "not_a_proposal"


def test_secrets_and_addresses_do_not_get_into_texts() -> None:
    key = "sk-" + "a1B2" * 10
    before = BEFORE + f'KEY = "{key}"\nMAIL = "someone@example.org"\n'
    given = example(program=before, new=before.replace("total", "status"))
    texts = list(Edits(moments=8, above=40, below=40).generate(given, random.Random(0)))
    assert texts
    assert not any(key in text.text or "someone@" in text.text for text in texts)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_makes_data(name: str) -> None:
    texts = list(Edits(format=name, characters=9000).generate(example(), random.Random(0)))
    assert texts and all(text.meta["format"] == name for text in texts)


def test_a_text_does_not_depend_on_the_others() -> None:
    both = [example(), Example("f", "", AFTER, license="MIT", meta={"path": "b.py", "new": BEFORE})]
    edits = Edits(moments=3, refactorings=3)

    def made(examples: Sequence[Example]) -> list[Any]:
        return edits.generate_many([(one, random.Random(one.id)) for one in examples])

    assert made(both) == [made(both[:1])[0], made(both[1:])[0]]
    assert made(both)[0][:2] != [] and made(both)[0] == list(
        edits.generate(both[0], random.Random("e"))
    )


@pytest.mark.parametrize(
    "options",
    [
        {"format": "block"},
        {"kinds": "renaming"},
        {"nothing": 0.9, "unfinished": 0.2},
        {"moments": -1},
        {"since": "yesterday"},
        {"since": "2025-13-99"},
        {"since": "2025-06", "until": "2025-05-31"},
    ],
)
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Edits(**options)


def test_rows_with_diffs(codegen: Any, data_folder: Path, tmp_path: Path) -> None:
    source = data_folder / "next_edit" / "commits_train.jsonl.gz"
    result = codegen("data", "edits",
        str(source), "--out", str(tmp_path / "out"), "-o", "license_column=licence",
        *("--limit", "12", "--workers", "1"),
    )  # fmt: skip
    assert result.code == 0, result.err
    texts = list(read_texts(tmp_path / "out"))
    assert len(texts) > 20
    assert {text.meta.get("refactoring", "") for text in texts} > {""}
    rejects = [row["reason"] for row in read_rejects(tmp_path / "out")]
    assert set(rejects) <= {"moved", "formatting_only", "subject", "too_many_changes"}


def test_a_diff_that_does_not_fit_fails_alone(tmp_path: Path) -> None:
    good = Example("g", "", BEFORE, license="MIT", meta={"new": AFTER})
    bad = Example("b", "", BEFORE, license="MIT", meta={"diff": "@@ -1 +1 @@\n-nothing\n+x\n"})
    run(Edits(), MemorySource((good, bad)), tmp_path, workers=1)
    (row,) = read_rejects(tmp_path)
    assert (row["id"], row["outcome"], row["reason"]) == ("b", "failed", "InputError")


def _by_a_file(evil: Path, private: Path) -> None:
    shutil.rmtree(evil / ".git")
    (evil / ".git").write_text(f"gitdir: {private}/.git\n")


def _by_a_worktree(evil: Path, private: Path) -> None:
    shutil.move(evil / ".git", evil / "inner")
    (evil / "inner/gitdir").write_text(f"{evil}/.git\n")
    (evil / "inner/commondir").write_text(f"{private}/.git\n")
    (evil / ".git").write_text("gitdir: inner\n")


def _by_a_common_folder(evil: Path, private: Path) -> None:
    (evil / ".git/commondir").write_text(f"{private}/.git\n")


def _by_objects_and_a_linked_branch(evil: Path, private: Path) -> None:
    (evil / ".git/objects/info/alternates").write_text(f"{private}/.git/objects\n")
    (evil / ".git/refs/heads/main").unlink()
    (evil / ".git/refs/heads/main").symlink_to(private / ".git/refs/heads/main")


def _by_objects(evil: Path, private: Path) -> None:
    """With a commit whose name has become known."""
    (evil / ".git/objects/info/alternates").write_text(f"{private}/.git/objects\n")
    name = (private / ".git/refs/heads/main").read_text()
    (evil / ".git/refs/heads/main").write_text(name)


def _by_linked_objects(evil: Path, private: Path) -> None:
    shutil.rmtree(evil / ".git/objects")
    (evil / ".git/objects").symlink_to(private / ".git/objects")


def _by_a_linked_head(evil: Path, private: Path) -> None:
    (evil / ".git/HEAD").unlink()
    (evil / ".git/HEAD").symlink_to(private / ".git/HEAD")


@pytest.mark.parametrize(
    "lead_away",
    [
        *(_by_a_file, _by_a_worktree, _by_a_common_folder, _by_objects_and_a_linked_branch),
        *(_by_objects, _by_linked_objects, _by_a_linked_head),
    ],
)
def test_a_received_repository_does_not_lead_to_one_of_the_user(
    repository: tuple[Path, Git], tmp_path: Path, lead_away: Callable[[Path, Path], None]
) -> None:
    private, git = repository
    evil = tmp_path / "received" / "evil"
    shutil.copytree(private, evil)
    commit(private, git, {"pkg/a.py": "key = 'secret'\n"}, "Private")
    lead_away(evil, private)
    for path in (evil, evil.parent):
        with pytest.raises(InputError, match="leads out of its repository"):
            list(open_source(f"git:{path}"))


def test_shared_objects_of_the_user_are_read_and_linked_worktrees_are_not(
    repository: tuple[Path, Git], tmp_path: Path
) -> None:
    _, git = repository
    git("clone", "-q", "--bare", ".", str(tmp_path / "bare.git"))
    git("clone", "-q", "--shared", ".", str(tmp_path / "shared"))
    (item,) = list(open_source(f"git:{tmp_path / 'bare.git'}"))
    assert isinstance(item, Example) and item.meta["new"] == AFTER
    # What is shared inside the directory that the user names is no secret of it.
    names = [i.source for i in open_source(f"git:{tmp_path}") if isinstance(i, Example)]
    assert names == ["bare", "project", "shared"]
    git("worktree", "add", "-q", str(tmp_path / "tree"), "-b", "side")
    with pytest.raises(InputError, match="leads out of its repository"):
        list(open_source(f"git:{tmp_path / 'tree'}"))


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_a_difference_is_that_of_difflib_if_it_is_one(old: list[str], new: list[str]) -> None:
    opcodes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    expected = [Hunk(a, b, tuple(new[c:d])) for tag, a, b, c, d in opcodes if tag != "equal"]
    assert difference(old, new) == expected
    with suppress(InputError):
        assert difference(old, new, most_work=len(old)) == expected
