"""Git histories: what becomes an example, compared with git, and repositories that are refused."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codegen.core.errors import InputError
from codegen.core.records import Example
from codegen.data import open_source, read_texts
from codegen.data.sources import Rejected
from codegen.data.sources.git import license_of
from codegen.edits.formats import FORMATS
from tests.edits.test_generator import AFTER, BEFORE

pygit2 = pytest.importorskip("pygit2", reason="pip install 'codegen-toolkit[git]'")

MIT = "MIT License\n\nPermission is hereby granted, free of charge, to any person\n"
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
        with pytest.raises(InputError, match="points outside its repository"):
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
    with pytest.raises(InputError, match="points outside its repository"):
        list(open_source(f"git:{tmp_path / 'tree'}"))
