"""Reports of directories that came from a stranger: each field of each file, changed in turn.

Every file either makes a report in which none of its text is markup, or one clear line.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eval_fakes import FakeSandbox

from codegen.core.errors import CodegenError, InputError
from codegen.core.records import Sample, write_jsonl
from codegen.evals.report import compare_runs, read_run, write_report
from codegen.evals.run import SCORE, SCORED, VERDICTS
from codegen.evals.scoring import Cost, Measure, score
from codegen.evals.tasks.validate import ReferenceGate
from codegen.sandbox import Outcome
from tests.evals.report.test_page import Page, scored

EVIL = (
    "\"'><evil-tag><meta http-equiv='refresh' content='0;url=http://evil.example'>"
    "</td></table></script><script>alert(1)</script>\x1b[31m\u202e\ud800"
)
ODD: list[Any] = [
    None, True, -1, 0, 1, 1.5, -0.5, 1e308, 10**15, 10**30, 10**400, float("nan"), float("inf"),
    "", "1", EVIL, [], [EVIL], {}, {EVIL: EVIL}, {"a": {"b": [EVIL]}},
]  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in a JSON value."""
    items = (
        value.items()
        if isinstance(value, dict)
        else list(enumerate(value))[:2]
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        yield (*at, key)
        yield from places(inner, (*at, key))


def mutations(row: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for place in places(row):
        for number, odd in enumerate([*ODD, "deleted", "added", "renamed"]):
            changed = copy.deepcopy(row)
            holder: Any = changed
            for key in place[:-1]:
                holder = holder[key]
            if number < len(ODD):
                holder[place[-1]] = odd
            elif odd == "deleted":
                del holder[place[-1]]
            elif isinstance(holder, dict):
                holder[EVIL] = holder.pop(place[-1]) if odd == "renamed" else EVIL
            else:
                holder.append(EVIL if odd == "added" else holder[-1])
            yield f"{place} -> {str(odd)[:20]!r}", changed


def full_score() -> dict[str, Any]:
    run = scored("a", [3, 0, 10], n=10)
    whole = replace(
        run.score,
        settings={"model": "m", "decoder_options": {"x": [1, 2]}, "temperature": 0.8},
        sandbox={"backend": "b"},
        versions={"codegen": "1"},
        reference=ReferenceGate(3, 2, {"a": "wrong: x"}, {"b": "slow"}),
        notes=("a note",),
        measures={"edits": Measure(1.5, 0.2, 30)},
        cost=Cost(10.0, 20.0, 135_000_000),
        complete=False,
    )
    return json.loads(whole.to_json())


def check(out: Path) -> None:
    """Nothing of the file's own text has become markup."""
    page = Page(out.read_text(encoding="utf-8"))
    tags = [tag for tag, _ in page.tags]
    assert "evil-tag" not in tags and tags.count("script") <= 3 and tags.count("meta") <= 5
    for tag, attributes in page.tags:
        assert attributes.get("http-equiv") in (None, "Content-Security-Policy")
        assert not any(name.startswith("on") for name in attributes), tag
        assert "evil.example" not in (attributes.get("href") or "")
    json.loads(out.with_suffix(".json").read_text())
    assert "<evil-tag" not in out.with_suffix(".md").read_text(encoding="utf-8")


def is_one_line(error: CodegenError) -> None:
    assert len(str(error)) < 2000 and "\n" not in str(error)


def test_every_change_of_a_score_is_a_report_or_one_line(tmp_path: Path) -> None:
    other = scored("b", [1, 1, 9], n=10)
    made = refused = 0
    failed: list[str] = []
    for what, row in mutations(full_score()):
        (tmp_path / SCORE).write_text(json.dumps(row))
        try:
            run = read_run("a", tmp_path)
            made += 1
        except CodegenError as error:
            is_one_line(error)
            refused += 1
            continue
        if made % 6:  # a sixth of them is enough for the time it takes
            continue
        try:
            check(write_report([run], tmp_path / "r.html"))
            if made % 10 == 0:
                check(write_report([other, run], tmp_path / "r.html"))
        except CodegenError as error:
            is_one_line(error)
        except Exception as error:  # noqa: BLE001
            failed.append(f"{what}: {error!r}")
    assert not failed, "\n".join(failed)
    assert made > 100 and refused > 400


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"3", b'"x"', b"[]", b"{}", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 5000,
     b'{"a": ' * 5000, b"NaN", b"{} {}", b'\xef\xbb\xbf{}', b'{"estimates": {"x": {}}}'],
)  # fmt: skip
def test_what_is_no_score_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / SCORE).write_bytes(content)
    with pytest.raises(CodegenError) as caught:
        read_run("a", tmp_path)
    is_one_line(caught.value)


@pytest.mark.parametrize("name", [SCORED, VERDICTS])
def test_every_change_of_samples_and_verdicts(toy: Any, tmp_path: Path, name: str) -> None:
    sample = Sample(
        "toy", "Toy/1", 0, "p", "    return x + 1\n", "stop", {"model": "m"}, 0, 3, 5,
        actions="a", meta={"style": "continue", "edits": 2},
    )  # fmt: skip
    write_jsonl(tmp_path / "given.jsonl", [sample])
    sandbox = FakeSandbox(lambda _: Outcome("passed", "isolated", stdout="out"))
    score(tmp_path / "given.jsonl", toy, out=tmp_path / "run", sandbox=sandbox)
    path = tmp_path / "run" / name
    made = 0
    for what, row in mutations(json.loads(path.read_text())):
        path.write_text(json.dumps(row) + "\n")
        try:
            check(write_report([read_run("a", tmp_path / "run")], tmp_path / "r.html"))
            made += 1
        except CodegenError as error:
            is_one_line(error)
        except Exception as error:
            raise AssertionError(what) from error
    assert made > 20


def test_what_was_scored_is_shown_wherever_it_came_from(toy: Any, tmp_path: Path) -> None:
    """Files of this toolkit and of others, and records in memory."""
    sandbox = FakeSandbox(lambda _: Outcome("passed", "isolated"))
    rows = [{"task_id": f"Toy/{i % 2}", "completion": f"    return x + {i}\n"} for i in range(4)]
    foreign = tmp_path / "elsewhere" / "foreign.jsonl"
    foreign.parent.mkdir()
    foreign.write_text("".join(json.dumps(row) + "\n" for row in rows))
    score(foreign, toy, out=tmp_path / "run", sandbox=sandbox)
    foreign.unlink()  # the run's directory is enough
    run = read_run("a", tmp_path / "run")
    shown = [s.answer for problem in run.samples.values() for s in problem.samples]
    assert sorted(shown) == sorted(row["completion"] for row in rows)
    assert all("def add" in problem.prompt for problem in run.samples.values())

    records = [
        Sample("toy", "Toy/3", i, "p", f"    return {i}\n", "stop", {}, 0, 1, 1,
               meta={"style": "continue"})
        for i in range(2)
    ]  # fmt: skip
    score(iter(records), toy, out=tmp_path / "run", sandbox=sandbox)
    run = read_run("a", tmp_path / "run")
    assert {id_: len(p.samples) for id_, p in run.samples.items()} == {"Toy/3": 2}

    # A file that lies there already is not copied, and an earlier copy does not stand before it.
    write_jsonl(tmp_path / "run" / "samples.jsonl", records[:1])
    score(tmp_path / "run" / "samples.jsonl", toy, out=tmp_path / "run", sandbox=sandbox)
    assert not (tmp_path / "run" / SCORED).exists()
    run = read_run("a", tmp_path / "run")
    assert {id_: len(p.samples) for id_, p in run.samples.items()} == {"Toy/3": 1}


def test_many_runs_are_compared_with_the_first() -> None:
    runs = [scored(f"r{i}", [i, 2, 3]) for i in range(6)]
    pairs = {(pair.first, pair.second) for pair in compare_runs(runs)}
    assert pairs == {("r0", f"r{i}") for i in range(1, 6)}


@pytest.fixture
def scored_folder(toy: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "run"

    def completions() -> Any:
        for problem in toy.problems():
            for index in range(2):
                yield Sample(
                    toy.name, problem.id, index, problem.prompt, f"    return x  # {index}\n",
                    "stop", {"model": "m"}, 0, 1, 1, meta={"style": "continue"},
                )  # fmt: skip

    write_jsonl(folder / "samples.jsonl", completions())
    judge = FakeSandbox(
        lambda job: Outcome("wrong" if "# 1" in job.program else "passed", "isolated", cpu_s=0.5)
    )
    score(folder / "samples.jsonl", toy, out=folder, sandbox=judge)
    return folder


def test_a_run_is_read_with_its_programs(scored_folder: Path) -> None:
    run = read_run("a", scored_folder)
    assert list(run.samples) == [f"Toy/{i}" for i in range(7)]
    problem = run.samples["Toy/2"]
    assert [view.status for view in problem.samples] == ["passed", "wrong"]
    assert problem.samples[1].program == problem.prompt + "    return x  # 1\n"
    assert problem.samples[0].cpu_s == 0.5


def test_answers_are_shown_where_the_tasks_data_is_gone(
    scored_folder: Path, toy_file: Path
) -> None:
    toy_file.unlink()
    run = read_run("a", scored_folder)
    assert run.samples["Toy/0"].samples[0].program == ""
    assert run.samples["Toy/0"].samples[0].answer == "    return x  # 0\n"
    assert "not available" in run.score.notes[-1]


def test_samples_that_were_not_scored_are_refused(scored_folder: Path) -> None:
    file = scored_folder / "samples.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    with pytest.raises(InputError, match="lacks 1 of the scored samples"):
        read_run("a", scored_folder)
    file.write_text("".join(lines) + lines[-1].replace('"index": 1', '"index": 7'))
    with pytest.raises(InputError, match=r"sample 7 of Toy/6, which was not scored"):
        read_run("a", scored_folder)
    file.unlink()
    assert read_run("a", scored_folder).samples == {}
