"""The card: valid for the hub, complete, and not broken by what comes from data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from huggingface_hub import DatasetCard, DatasetCardData
from tiny_generators import Counter, Echo

from codegen.data import Manifest, run
from codegen.data.filters.decontamination import Decontamination, Reference, ReferenceSet
from codegen.data.filters.dedup import Dedup
from codegen.data.manifest import card

TOY = ReferenceSet("toy", (Reference("toy/1", ("Write something that does it.",)),))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    out = tmp_path_factory.mktemp("card") / "out"
    filters: dict[str, Any] = {
        "filters": [Decontamination.build([TOY])],
        "dedup": Dedup(),
    }
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
        {
            "config_name": "default",
            "data_files": [{"split": "train", "path": "data-*.jsonl"}],
        }
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
