"""The card: valid for the hub, complete, and not broken by what comes from data."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import Breaking
from huggingface_hub import DatasetCard, DatasetCardData
from tiny_generators import Counter, Echo

from codegen.cli.data import summary_lines
from codegen.core.errors import CodegenError, InputError, ResumeError
from codegen.core.records import conform
from codegen.data import Manifest, load_manifest, read_texts, run
from codegen.data.filters.decontamination import Decontamination, Reference, ReferenceSet
from codegen.data.filters.dedup import Dedup
from codegen.data.manifest import MAX_NAMES, Statistics, card, refuse_other_run, statistics_lines
from codegen.data.outcomes import measures
from tests.data.test_outcomes import text

TOY = ReferenceSet("toy", (Reference("toy/1", ("Write something that does it.",)),))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    out = tmp_path_factory.mktemp("card") / "out"
    filters: dict[str, Any] = {"filters": [Decontamination.build([TOY])], "dedup": Dedup()}
    return run(Echo(), Counter(100), out, workers=1, **filters)


def header(text: str) -> dict[str, Any]:
    parsed = DatasetCard(text)
    assert isinstance(parsed.data, DatasetCardData)
    return parsed.data.to_dict()


def test_the_header_is_the_hubs(manifest: Manifest) -> None:
    found = header(card(manifest))
    assert found["license"] == ["mit"]
    assert found["task_categories"] == ["text-generation"]
    assert found["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data-*.jsonl"}]}
    ]
    hub_run = replace(manifest.run, source={"kind": "hub", "name": "org/the.name"})
    found = header(card(replace(manifest, run=hub_run, texts=12_345)))
    assert found["source_datasets"] == ["org/the.name"]


def test_it_says_all_counts_and_settings(manifest: Manifest) -> None:
    text = card(manifest)
    counts = manifest.counts
    assert f"from {counts['kept']} of {counts['inputs']} inputs" in text
    for outcome in ("skipped", "failed"):
        for reason, number in counts[outcome].items():
            assert f"| {outcome} | {reason} | {number} |" in text
    assert f"| MIT | {manifest.licenses['MIT']} |" in text
    assert manifest.fingerprint in text
    assert "| toy | 1 |" in text and "50% of the 10-grams" in text
    assert "similarity of at least 0.7" in text and "256 MinHash values (32 bands of 8)" in text
    assert " in total, " in text


def test_it_says_what_was_not_done(manifest: Manifest) -> None:
    plain = replace(manifest, run=replace(manifest.run, decontamination=None, dedup=None))
    text = card(replace(plain, licenses={"": 3}))
    assert "may contain problems of test sets" in text and "there may be duplicates" in text
    assert "| unknown | 3 |" in text
    assert header(text)["license"] == ["unknown"]


def test_a_part_says_that_it_is_one(manifest: Manifest) -> None:
    text = card(replace(manifest, run=replace(manifest.run, shard="2/4")))
    assert "by echo, part 2/4" in header(text)["pretty_name"]
    assert "duplicates are removed when the parts are merged" in text


def test_the_command_is_in_it(manifest: Manifest) -> None:
    command = "codegen data lintseq stdlib --out DIR --seed 3"
    assert f"```sh\n{command}\n```" in card(replace(manifest, command=command))
    assert "```sh" not in card(replace(manifest, command=""))


def test_dirty_states_have_an_interval(manifest: Manifest) -> None:
    totals = {"audited_states": 400, "dirty_states": 1, "characters": 10}
    statistics = replace(manifest.statistics, totals=totals)
    text = card(replace(manifest, statistics=statistics))
    assert "dirty states: 0.25% of 400 audited (95% interval 0.04 to 1.40%)" in text


def test_texts_from_data_do_not_break_it(manifest: Manifest) -> None:
    odd = "a|b\n---\n# c: [\x00"
    counts: Any = {**manifest.counts, "failed": {odd: 2}}
    run_config = replace(manifest.run, generator="x: [y]\n---", source={"kind": "x", "name": odd})
    text = card(replace(manifest, licenses={odd: 1}, counts=counts, run=run_config))
    found = header(text)
    assert found["license"] == ["other"]
    assert found["tags"] == ["code", "x: [y]\n---", "codegen-toolkit"]
    assert "| failed | a\\|b --- # c: [\x00 | 2 |" in text


def test_statistics_of_some_texts() -> None:
    statistics = Statistics()
    for edits in (1, 2, 2, 30):
        statistics.add(measures(text(edits=edits, audited_states=edits, dirty_states=edits // 30)))
    assert statistics.texts == 4
    assert statistics.totals == {
        "characters": 24,
        "edits": 35,
        "audited_states": 35,
        "dirty_states": 1,
    }
    assert conform(Statistics, json.loads(json.dumps(asdict(statistics)))) == statistics
    lines = list(statistics_lines(statistics))
    assert "edits: 35 in total, 8.8 per text" in lines
    from scipy.stats import binomtest

    low, high = (100 * bound for bound in binomtest(1, 35).proportion_ci(method="wilson"))
    assert f"dirty states: 2.86% of 35 audited (95% interval {low:.2f} to {high:.2f}%)" in lines


def test_no_texts_and_no_audit() -> None:
    assert list(statistics_lines(Statistics())) == []
    assert Statistics().dirty_rate() is None
    clean = Statistics()
    clean.add({"audited_states": 1000, "dirty_states": 0})
    rate = clean.dirty_rate()
    assert rate and rate[:2] == (0.0, 0.0) and rate[2] == pytest.approx(0.00383, abs=1e-5)


def test_made_up_names_do_not_fill_the_memory() -> None:
    statistics = Statistics()
    for i in range(1000):
        statistics.add({"characters": 1, f"name {i}": i})
    assert len(statistics.totals) == MAX_NAMES
    assert statistics.totals["characters"] == 1000
    statistics.add({"edits": 5})  # comes too late
    assert list(statistics_lines(statistics))


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No file or directory"):
        list(read_texts(tmp_path / "missing"))
    with pytest.raises(InputError, match=r"no data-\*\.jsonl"):
        list(read_texts(tmp_path))
    with pytest.raises(RuntimeError):
        run(Echo(), Breaking(60), tmp_path / "a", workers=1)
    with pytest.raises(InputError, match="not finished"):
        list(read_texts(tmp_path / "a"))
    with pytest.raises(InputError, match="no finished data"):
        load_manifest(tmp_path / "a")
    (tmp_path / "manifest.json").write_text('{"run": {"generator": 1}, "files": []}')
    with pytest.raises(CodegenError, match="has an unsupported format"):
        load_manifest(tmp_path)


def test_a_damaged_manifest_is_one_line(tmp_path: Path) -> None:
    """Every field as another type: shown if it makes sense, else one clear error."""
    run(Echo(), Counter(60), tmp_path, seed=5, workers=1)
    whole = json.loads((tmp_path / "manifest.json").read_text())
    odd = [None, -1, "x", [], {}, True, 10**400, [[1]], {"a": {}}, [{"name": ["x"]}]]
    rows: list[Any] = [{**whole, key: value} for key, value in itertools.product(whole, odd)]
    for part in ("counts", "statistics"):
        for key, value in itertools.product(whole[part], odd):
            rows.append({**whole, part: {**whole[part], key: value}})
    rows += [{k: v for k, v in whole.items() if k != key} for key in whole]
    texts = [*map(json.dumps, rows), "3", "null", "[" * 3000]
    for damaged in texts:
        (tmp_path / "manifest.json").write_text(damaged)
        try:
            manifest = load_manifest(tmp_path)
            list(summary_lines(manifest))
            list(statistics_lines(manifest.statistics))
        except CodegenError as error:
            assert "\n" not in str(error), damaged


def test_a_time_limit_that_came_with_a_mode_is_not_named(manifest: Manifest) -> None:
    then = replace(manifest.run, config={"mode": "llm"}, item_timeout_s=86400.0)
    with pytest.raises(ResumeError, match=r'Changed: config.mode from "llm" to "ast"\. '):
        refuse_other_run("out", then, replace(then, config={"mode": "ast"}, item_timeout_s=60.0))
    with pytest.raises(ResumeError, match=r"Changed: item_timeout from 86400\.0 to 60\.0\. "):
        refuse_other_run("out", then, replace(then, item_timeout_s=60.0))
