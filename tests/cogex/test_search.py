"""Program search against a plain loop; halving's cost; resuming; what fails is counted."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.benchmarks.tools.cogex_replay import Outcomes, compare
from codegen.cogex.model import Emulation, ModelQuery, PseudoModel
from codegen.cogex.search import (
    ProgramSearch,
    SearchLog,
    SearchResult,
    SearchSettings,
    TaskItem,
    cost_of,
    load_task,
    plan_rounds,
    split_items,
    within_budget,
)
from codegen.core.errors import ConfigError, InputError, ResumeError

ITEMS = [TaskItem(f"i{number}", f"in {number}", f"out {number}") for number in range(40)]


def program(number: int) -> str:
    return f"def solve_{number}(x):\n    return {{'answer': x}}"


def quality(ask: ModelQuery) -> bool:
    """Whether an emulation is right: program number / 12 of the time, fixed by the pair."""
    number = int(ask.program.partition("solve_")[2].partition("(")[0])
    return random.Random(f"{number}/{ask.input}").random() < number / 12


class Model(PseudoModel):
    """Writes ``texts`` by turns and emulates by ``quality``; counts what it is asked."""

    def __init__(
        self,
        texts: Callable[[ModelQuery], str],
        right: Callable[[ModelQuery], bool] = quality,
        stop: int = -1,
    ) -> None:
        self.texts, self.right, self.stop = texts, right, stop
        self.emulated: Counter[tuple[str, str]] = Counter()
        self.written = 0

    def _count(self) -> None:
        self.stop -= 1
        if self.stop == 0:
            raise KeyboardInterrupt

    def write(
        self, queries: Sequence[ModelQuery], temperature: float
    ) -> Iterator[tuple[int, str, str]]:
        assert temperature == 0.7
        for number, query in enumerate(queries):
            self._count()
            self.written += 1
            text = self.texts(query)
            yield number, text, "" if text else "truncated"

    def emulate(
        self, queries: Sequence[ModelQuery], temperature: float
    ) -> Iterator[tuple[int, Emulation]]:
        assert temperature == 0.05
        for number, ask in reversed(list(enumerate(queries))):
            self._count()
            self.emulated[ask.program, ask.input] += 1
            answer = ask.input.replace("in", "out" if self.right(ask) else "wrong")
            yield number, Emulation(ask.program, "", {"answer": answer})


def by_item(ask: ModelQuery) -> str:
    return program(int(ask.input.removeprefix("in ")) % 12)


def search(
    model: Model, folder: Path | None = None, **changes: Any
) -> tuple[SearchResult, ProgramSearch]:
    settings = SearchSettings(**dict[str, Any](candidates=12, best=3) | changes)
    train, dev = ITEMS[:12], ITEMS[12:]
    with SearchLog(folder, {"settings": repr(settings)}) as log:
        run = ProgramSearch("Do it.", train, dev, model, settings, log)
        return run.run(), run


def test_the_full_search_is_a_plain_loop() -> None:
    model = Model(by_item)
    found, _ = search(model, method="full")
    scores = {
        number: sum(quality(ModelQuery("", item.input, program(number))) for item in ITEMS[12:])
        for number in range(12)
    }
    assert found.ranking[0].right == max(scores.values())
    assert [c.right for c in found.ranking] == sorted(scores.values(), reverse=True)
    for candidate in found.ranking:
        number = int(candidate.program.name.removeprefix("solve_"))
        assert (candidate.right, candidate.items) == (scores[number], 28)
    assert found.emulations == found.emulations_full == 12 * 28 == sum(model.emulated.values())
    assert [c.program.digest for c in found.best] == [c.program.digest for c in found.ranking[:3]]


def test_halving_takes_a_fifth_and_finds_a_good_program() -> None:
    model = Model(by_item)
    found, _ = search(model)
    assert found.emulations == sum(model.emulated.values()) <= 0.2 * found.emulations_full
    assert max(model.emulated.values()) == 1
    best = int(found.best[0].program.name.removeprefix("solve_"))
    assert best >= 8
    assert len({c.program.digest for c in found.ranking}) == 12
    tried = [candidate.items for candidate in found.ranking]
    assert tried == sorted(tried, reverse=True)


@given(st.integers(1, 400), st.integers(1, 900), st.floats(1, 400_000), st.integers(1, 5))
def test_rounds(programs: int, items: int, budget: float, finalists: int) -> None:
    rounds = plan_rounds(programs, items, budget, finalists)
    assert rounds[0].programs == programs
    assert rounds[-1].programs <= max(2, finalists) or len(rounds) == 1
    for one, other in pairwise(rounds):
        assert other.programs < one.programs and one.items <= other.items <= items
    seen, cost = 0, 0
    for size, count in rounds:
        cost += size * (count - seen)
        seen = count
    assert cost == cost_of(rounds) <= max(budget, programs)
    assert cost <= programs * items


def test_the_papers_size_costs_a_fifth() -> None:
    rounds = plan_rounds(300, 700, 0.2 * 300 * 700, 3)
    assert 0.19 < cost_of(rounds) / (300 * 700) <= 0.2
    assert plan_rounds(0, 5, 9) == plan_rounds(5, 0, 9) == []
    assert within_budget(10**9, "full", 0.2) == (300, 1000)
    for budget in (50, 150, 1000, 20_000):
        number, size = within_budget(budget, "halving", 0.2)
        assert number / size == pytest.approx(0.3, abs=0.03)
        assert 0.5 * budget < 0.2 * number * (size - number) < 1.3 * budget


def test_the_better_program_is_found_as_by_the_full_search() -> None:
    """Over many orders of the problems, a clear winner is chosen by both."""
    from codegen.benchmarks.tools.cogex_replay import compare, drawn_outcomes

    trials = [compare(drawn_outcomes(40, 100, seed), 0.2, seed) for seed in range(12)]
    assert all(trial.halving <= 0.2 * trial.full for trial in trials)
    assert sum(trial.within_noise for trial in trials) >= 11
    assert sum(trial.lost for trial in trials) / 12 < 0.03


@pytest.mark.parametrize("method", ["full", "halving"])
def test_an_interrupted_search_goes_on(tmp_path: Path, method: str) -> None:
    whole, _ = search(Model(by_item), tmp_path / "whole", method=method)
    written, emulated = 0, Counter[tuple[str, str]]()
    for stop in (5, 11, 2, 30, 25, 1, -1):
        model = Model(by_item, stop=stop)
        with suppress(KeyboardInterrupt):
            found, _ = search(model, tmp_path / "cut", method=method)
        written += model.written
        emulated += model.emulated
    assert found == whole
    assert written == 12
    assert max(emulated.values()) == 1
    assert len(emulated) == whole.emulations


def test_another_search_is_refused(tmp_path: Path) -> None:
    search(Model(by_item), tmp_path)
    with pytest.raises(ResumeError, match="settings"):
        search(Model(by_item), tmp_path, seed=1)
    (tmp_path / "log.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(InputError, match=r"log.jsonl:1"):
        search(Model(by_item), tmp_path)
    (tmp_path / "search.json").write_text("{")
    with pytest.raises(ResumeError, match="corrupt"):
        search(Model(by_item), tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(InputError, match="no earlier run"):
        search(Model(by_item), tmp_path / "other")


def test_a_threshold_asks_for_better_programs() -> None:
    """Algorithm 1: a program below alpha on Train is written again; here the best try stays."""

    def text(ask: ModelQuery) -> str:
        return program(3 * ask.index)

    model = Model(text)
    found, _ = search(model, method="full", threshold=0.4, tries=4)
    on_train = {
        number: sum(quality(ModelQuery("", item.input, program(number))) for item in ITEMS[:12])
        / 12
        for number in (0, 3, 6, 9)
    }
    first = next(number for number in (0, 3, 6, 9) if on_train[number] >= 0.4)
    assert [c.program.name for c in found.ranking] == [f"solve_{first}"]
    assert found.ranking[0].written == 12
    unreachable, _ = search(Model(text), method="full", threshold=1.0, tries=3)
    closest = max((0, 3, 6), key=lambda number: on_train[number])
    assert [c.program.name for c in unreachable.ranking] == [f"solve_{closest}"]
    with pytest.raises(ConfigError, match="method full"):
        SearchSettings(threshold=0.5)


def test_splitting() -> None:
    train, dev = split_items(ITEMS, 12, seed=3)
    assert len(train) == 12 and {*train, *dev} == set(ITEMS) and not {*train} & {*dev}
    assert split_items(ITEMS, 100, 0)[1]


def test_tasks(tmp_path: Path) -> None:
    task = load_task("coin_flip", items=30, test=10)
    assert len(task.items) == 30 and len(task.test) == 10
    assert not {i.input for i in task.items} & {i.input for i in task.test}
    path = tmp_path / "réviews.jsonl"
    path.write_text(
        "".join(f'{{"text": "t {n}", "label": {n % 2}}}\n' for n in range(9)), encoding="utf-8"
    )
    columns: Any = {"input_column": "text", "answer_column": "label"}
    task = load_task(str(path), items=6, test=6, instruction="Odd?", **columns)
    assert (len(task.items), len(task.test)) == (6, 3)
    assert {i.answer for i in task.items} == {"0", "1"}
    with pytest.raises(ConfigError, match="--instruction"):
        load_task(str(path), items=6, **columns)
    with pytest.raises(InputError, match=r"jsonl:1: no column 'input'.*input_column"):
        load_task(str(path), items=6, instruction="Odd?")
    with pytest.raises(InputError, match="No such file"):
        load_task(str(tmp_path / "none.jsonl"), items=6)
    with pytest.raises(ConfigError, match="Did you mean 'coin_flip'"):
        load_task("coin_flp", items=6)
    path.write_text("")
    with pytest.raises(InputError, match="0 problems"):
        load_task(str(path), items=6, instruction="Odd?")
    path.write_text('{"input": ["a"], "answer": "b"}\n')
    with pytest.raises(InputError, match="must be a string"):
        load_task(str(path), items=6, instruction="Odd?")


def named(name: str) -> str:
    return f"def {name}(x):\n    return {{'answer': x}}"


def test_a_clear_winner_is_the_same_for_both() -> None:
    right = {named(f"f{n}"): [n == 3] * 30 for n in range(6)}
    trial = compare(Outcomes("t", tuple(right), right), 0.2, seed=0)
    assert (trial.full, trial.same, trial.lost) == (180, True, 0.0)
    assert trial.halving <= 36 and trial.within_noise


def test_a_worse_choice_is_seen() -> None:
    """The first item decides for halving, the others speak for the other program."""
    right = {named("a"): [True] + [False] * 99, named("b"): [False] + [True] * 99}
    outcomes = Outcomes("t", tuple(right), right)
    trials = [compare(outcomes, 0.01, seed) for seed in range(300)]
    worse = [trial for trial in trials if not trial.same]
    assert 0 < len(worse) < 20  # about one in 100
    assert all(trial.lost == pytest.approx(0.98) and not trial.within_noise for trial in worse)
