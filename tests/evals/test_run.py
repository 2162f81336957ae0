"""The runner: order, resuming, kill -9, and refusing to mix runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eval_fakes import FakeGenerator

from codegen.core.errors import ConfigError, InputError, ModelError, ResumeError
from codegen.core.generation import Completion, Decoder, SamplingParams
from codegen.core.records import Sample, read_jsonl
from codegen.core.runs import Journal
from codegen.evals.run import PARTIAL, SAMPLES, SETTINGS, run
from codegen.evals.tasks import STYLES, Task

PARAMS = SamplingParams(max_new_tokens=16, temperature=0.8, seed=5)


def go(task: Task[Any], out: Path, generator: Any = None, **options: Any) -> Path:
    settings: dict[str, Any] = {"n": 3, "style": "continue", "shard_size": 4, **options}
    return run(
        task,
        generator or FakeGenerator(),
        settings.pop("params", PARAMS),
        settings.pop("decoder", Decoder()),
        style=STYLES[settings.pop("style")],
        out=out,
        **settings,
    )


def test_samples_are_in_problem_order_with_their_style(toy: Task[Any], tmp_path: Path) -> None:
    progress: list[tuple[int, int]] = []
    path = go(toy, tmp_path / "run", on_progress=lambda done, total: progress.append((done, total)))
    samples = list(read_jsonl(Sample, path))
    assert [(s.problem_id, s.index) for s in samples] == [
        (problem.id, index) for problem in toy.problems() for index in range(3)
    ]
    assert {s.meta["style"] for s in samples} == {"continue"}
    assert sorted(p.name for p in path.parent.iterdir()) == [SETTINGS, SAMPLES]
    assert progress[0] == (0, 21)
    assert progress[-1] == (21, 21)
    assert progress == sorted(progress)


def test_shards_hold_prompts_of_like_length(toy: Task[Any], tmp_path: Path) -> None:
    generator = FakeGenerator()
    go(toy, tmp_path / "run", generator)
    lengths = [len(request.prompt) for request in generator.requests]
    assert lengths == sorted(lengths)
    assert generator.calls == 6  # 21 requests in shards of 4


class Killed(Exception):
    """Stands for the end of the process."""


class Dying(FakeGenerator):
    """Gives out after some samples."""

    def __init__(self, lives: int) -> None:
        super().__init__()
        self.lives = lives

    def generate(self, *args: Any, **options: Any) -> Iterator[Completion]:
        for sample in super().generate(*args, **options):
            if self.lives == 0:
                raise Killed
            self.lives -= 1
            yield sample


@pytest.mark.parametrize("lives", [0, 1, 4, 5, 11, 20])
def test_an_interrupted_run_ends_with_the_same_bytes(
    toy: Task[Any], tmp_path: Path, lives: int
) -> None:
    whole = go(toy, tmp_path / "whole").read_bytes()
    with pytest.raises(Killed):
        go(toy, tmp_path / "run", Dying(lives))
    generator = FakeGenerator()
    assert go(toy, tmp_path / "run", generator).read_bytes() == whole
    assert generator.calls == 6 - lives // 4
    assert (tmp_path / "run" / SETTINGS).read_bytes() == (
        tmp_path / "whole" / SETTINGS
    ).read_bytes()


@pytest.mark.parametrize("cut", [1, 300, 700, 1500, 2600, 5000])
def test_a_log_torn_at_any_byte_is_completed(toy: Task[Any], tmp_path: Path, cut: int) -> None:
    whole = go(toy, tmp_path / "whole").read_bytes()
    with pytest.raises(Killed):
        go(toy, tmp_path / "run", Dying(17))
    log = tmp_path / "run" / PARTIAL
    data = log.read_bytes()
    assert len(data) > 5000
    log.write_bytes(data[:-cut])
    assert go(toy, tmp_path / "run").read_bytes() == whole


def test_a_finished_run_is_not_made_again(toy: Task[Any], tmp_path: Path) -> None:
    go(toy, tmp_path / "run")
    (tmp_path / "run" / PARTIAL).write_text("")  # killed before it was removed
    generator = FakeGenerator()
    go(toy, tmp_path / "run", generator)
    assert generator.calls == 0
    assert not (tmp_path / "run" / PARTIAL).exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"n": 4}, "n from 3 to 4"),
        ({"style": "plain"}, 'style from "continue" to "plain"'),
        ({"limit": 2}, "problems from 7 to 2"),
        ({"decoder": Decoder("rpg", {"a": 1})}, 'decoder.name from "sample" to "rpg"'),
        ({"params": SamplingParams(seed=6)}, "params."),
        ({"shard_size": 5}, "shard_size from 4 to 5"),
        ({"settings": {"model": "other"}}, r'model from \(not set\) to "other"'),
    ],
)
def test_other_settings_are_refused_by_name(
    toy: Task[Any], tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    go(toy, tmp_path / "run")
    with pytest.raises(ResumeError, match=named):
        go(toy, tmp_path / "run", **change)


class Unfit(FakeGenerator):
    """Can't be asked in the chat style, as a model without a template."""

    def generate(self, requests: Any, *args: Any, **options: Any) -> Iterator[Completion]:
        asked = list(requests)
        if any(request.chat for request in asked):
            raise ModelError("no chat template", "Use the prompt style plain.")
        yield from super().generate(asked, *args, **options)


def test_settings_that_made_no_sample_are_replaced(toy: Task[Any], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="plain"):
        go(toy, tmp_path / "run", Unfit(), style="chat")
    path = go(toy, tmp_path / "run", Unfit(), style="plain")
    assert path.read_bytes() == go(toy, tmp_path / "new", style="plain").read_bytes()
    for name in ("run", "new"):
        stated = json.loads((tmp_path / name / SETTINGS).read_text())
        assert stated["settings"]["style"] == "plain"


def test_a_second_run_changes_no_settings(toy: Task[Any], tmp_path: Path) -> None:
    """It comes after the first has claimed the directory and before that has logged a sample."""

    class Second(FakeGenerator):
        def generate(self, *args: Any, **options: Any) -> Iterator[Completion]:
            if not self.calls:
                before = (tmp_path / "run" / SETTINGS).read_bytes()
                with pytest.raises(InputError, match="another process"):
                    go(toy, tmp_path / "run", n=2)
                assert (tmp_path / "run" / SETTINGS).read_bytes() == before
            yield from super().generate(*args, **options)

    path = go(toy, tmp_path / "run", Second())
    assert len(path.read_text().splitlines()) == 21


def test_another_model_is_refused_even_if_the_caller_does_not_say(
    toy: Task[Any], tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        go(toy, tmp_path / "run", Dying(6))
    with pytest.raises(ResumeError, match='model from "fake" to "better"'):
        go(toy, tmp_path / "run", FakeGenerator(model="better"))


def test_bad_values_and_foreign_directories(toy: Task[Any], tmp_path: Path) -> None:
    for options in ({"n": 0}, {"limit": 0}, {"shard_size": -1}):
        with pytest.raises(ConfigError):
            go(toy, tmp_path / "a", **options)
    assert not (tmp_path / "a").exists()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / SAMPLES).write_text("")
    with pytest.raises(ResumeError, match=SETTINGS):
        go(toy, tmp_path / "b")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / SETTINGS).write_text("{")
    with pytest.raises(ResumeError, match="corrupt"):
        go(toy, tmp_path / "c")
    go(toy, tmp_path / "d", limit=2)
    (tmp_path / "d" / SAMPLES).unlink()
    with Journal(tmp_path / "d" / PARTIAL), pytest.raises(InputError, match="another process"):
        go(toy, tmp_path / "d", limit=2)


def test_a_backend_that_drops_a_request_is_named(toy: Task[Any], tmp_path: Path) -> None:
    class Lossy(FakeGenerator):
        def generate(self, *args: Any, **options: Any) -> Iterator[Completion]:
            samples = super().generate(*args, **options)
            next(samples)
            yield from samples

    with pytest.raises(ModelError, match="no sample for request"):
        go(toy, tmp_path / "run", Lossy())


CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from eval_fakes import FakeGenerator
from codegen.evals import tasks
from codegen.evals.run import run
from codegen.core.generation import Decoder, SamplingParams

class Slow(FakeGenerator):
    def generate(self, *args, **options):
        for sample in super().generate(*args, **options):
            time.sleep(0.003)
            yield sample

print("ready", flush=True)
run(tasks.load("humaneval", sys.argv[2]), Slow(), SamplingParams(seed=5), Decoder(),
    n=12, style=tasks.STYLES["continue"], out=Path(sys.argv[3]), shard_size=5)
"""


@pytest.mark.slow
def test_kill_9_at_any_moment_gives_the_same_files(
    toy_file: Path, toy: Task[Any], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(toy_file)]
    kills = 0
    for round_ in range(12):
        process = subprocess.Popen([*command, str(tmp_path / "run")], stdout=subprocess.PIPE)
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(0.02 + 0.013 * round_)
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
    assert kills >= 3
    subprocess.run([*command, str(tmp_path / "run")], check=True, capture_output=True)
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    for name in (SAMPLES, SETTINGS):
        whole = (tmp_path / "whole" / name).read_bytes()
        assert (tmp_path / "run" / name).read_bytes() == whole
    assert len((tmp_path / "run" / SAMPLES).read_text().splitlines()) == 84
    assert json.loads((tmp_path / "run" / SETTINGS).read_text())["settings"]["n"] == 12
