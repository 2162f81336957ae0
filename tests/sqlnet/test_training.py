"""Training, scores, and what is kept on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import world

from codegen.core.errors import ConfigError, InputError, ResumeError
from codegen.sqlnet.examples import databases_of, predict, predict_guided, score, words_in
from codegen.sqlnet.network import NetworkConfig, SketchNetwork, WordVectors, random_vectors
from codegen.sqlnet.query import Query
from codegen.sqlnet.training import Epoch, TrainingConfig, train

CONFIG = TrainingConfig(
    network=NetworkConfig("shared", hidden=32, dropout=0.1),
    epochs=4,
    batch_size=16,
    learning_rate=8e-3,
    alpha=1.0,
    mean=0.9,
)
ITEMS, TABLES = world(240)
NEW, NEW_TABLES = world(60, seed=1)


def vectors() -> WordVectors:
    return random_vectors(words_in(ITEMS), 16, seed=0)


class Stopped(Exception):
    pass


def run(out: Path, config: TrainingConfig = CONFIG, stop_after: int = 99) -> SketchNetwork:
    torch.set_num_threads(1)

    def on_epoch(epoch: Epoch) -> None:
        if epoch.epoch == stop_after:
            raise Stopped

    return train(config, vectors(), ITEMS, NEW, out, on_epoch=on_epoch)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[SketchNetwork, Path]:
    out = tmp_path_factory.mktemp("trained")
    config = replace(CONFIG, epochs=14, patience=14)
    torch.set_num_threads(1)
    return train(config, vectors(), ITEMS, NEW, out), out


def test_a_toy_world_is_learnt(trained: tuple[SketchNetwork, Path]) -> None:
    network, out = trained
    other, tables = world(80, seed=2)
    databases = databases_of(other, tables)
    scores = score(predict(network, other), other, databases)
    assert scores.query_match > 0.9
    assert scores.execution is not None and scores.execution >= scores.query_match
    curve = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    first, last = (sum(row["losses"].values()) for row in (curve[0], curve[-1]))
    assert last < first / 3
    assert not (out / "state").exists()


def test_a_kept_network_predicts_the_same(trained: tuple[SketchNetwork, Path]) -> None:
    network, out = trained
    again = SketchNetwork.load(out)
    assert predict(again, NEW) == predict(network, NEW)


def test_a_run_that_was_cut_off_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", replace(CONFIG, frozen_epochs=1))
    for stop in (1, 3):
        with pytest.raises(Stopped):
            run(tmp_path / "parts", replace(CONFIG, frozen_epochs=1), stop)
    parts = run(tmp_path / "parts", replace(CONFIG, frozen_epochs=1))
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(weight, parts.model.state_dict()[name], rtol=0, atol=0)
    read = [(tmp_path / n / "metrics.jsonl").read_text().splitlines() for n in ("whole", "parts")]
    kept = [[json.loads(line) | {"cpu_s": 0} for line in lines] for lines in read]
    assert kept[0] == kept[1]


def test_frozen_vectors_stay_and_others_move(tmp_path: Path) -> None:
    for frozen, moved in ((4, False), (0, True)):
        network = run(tmp_path / str(frozen), replace(CONFIG, frozen_epochs=frozen))
        before = torch.from_numpy(vectors().matrix).half().float()
        after = network.model.encoder.word.weight[1:].half().float()
        assert bool((before != after).any()) == moved


def test_other_settings_or_questions_do_not_go_on_with_a_run(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run(tmp_path, stop_after=1)
    with pytest.raises(ResumeError, match="another configuration"):
        run(tmp_path, replace(CONFIG, learning_rate=1e-3))


def test_misuse_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few"):
        train(CONFIG, vectors(), ITEMS[:3], NEW, tmp_path)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"epochs": 0}, "epochs is 0"),
        ({"mean": 1.0}, "mean is 1"),
        ({"frozen_epochs": -1}, "frozen_epochs is -1"),
    ]
    for change, what in changes:
        with pytest.raises(ConfigError, match=what):
            replace(CONFIG, **change)
    with pytest.raises(ConfigError, match="Unknown layout 'mine'"):
        NetworkConfig("mine")  # type: ignore[arg-type]


def test_gold_queries_are_not_looked_at_when_predicting(
    trained: tuple[SketchNetwork, Path],
) -> None:
    """The released code gave the gold SELECT column to the aggregate at test time."""
    network, _ = trained
    blind = [replace(item, query=Query(0), spans=()) for item in NEW]
    for greedy in (True, False):
        assert predict(network, NEW, greedy=greedy) == predict(network, blind, greedy=greedy)


def test_guided_queries_never_fail_and_do_no_worse(trained: tuple[SketchNetwork, Path]) -> None:
    network, _ = trained
    databases = databases_of(NEW, NEW_TABLES)
    assert databases is not None
    plain = score(predict(network, NEW), NEW, databases).execution
    for link in (False, True):
        choices = predict_guided(network, NEW, databases, link=link)
        assert all(choice.rows is not None for choice in choices)
        guided = score([c.candidate.query for c in choices], NEW, databases).execution
        assert guided is not None and plain is not None and guided >= plain
    assert databases_of(NEW, {k: replace(v, rows=()) for k, v in NEW_TABLES.items()}) is None
