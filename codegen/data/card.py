"""The dataset card of a data directory, with the YAML header that the hub and ``datasets`` read.

Its form is that of the hub (https://huggingface.co/docs/hub/datasets-cards). A card is a function
of the run alone, so that the same run gives the same bytes: it holds no time and no number of
workers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from codegen.data.manifest import Manifest
from codegen.data.statistics import statistics_lines

# The hub's licence ids that are SPDX ids in lower case:
# https://huggingface.co/docs/hub/repositories-licenses
_HUB_LICENCES = frozenset(
    {
        "agpl-3.0",
        "apache-2.0",
        "artistic-2.0",
        "bsd-2-clause",
        "bsd-3-clause",
        "bsl-1.0",
        "cc-by-4.0",
        "cc-by-sa-4.0",
        "cc0-1.0",
        "epl-2.0",
        "gpl-2.0",
        "gpl-3.0",
        "isc",
        "lgpl-2.1",
        "lgpl-3.0",
        "mit",
        "mpl-2.0",
        "unlicense",
        "wtfpl",
        "zlib",
    }
)

# The hub's size categories, each up to a number of rows.
_SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
    (10**9, "100M<n<1B"),
    (10**10, "1B<n<10B"),
    (10**11, "10B<n<100B"),
    (10**12, "100B<n<1T"),
)


def hub_licences(licences: Mapping[str, int]) -> list[str]:
    """The hub's ids for SPDX ids: ``unknown`` for none, ``other`` for one it lacks."""
    return sorted({_hub_licence(name.lower()) for name in licences}) or ["unknown"]


def _hub_licence(name: str) -> str:
    if not name:
        return "unknown"
    return name if name in _HUB_LICENCES else "other"


def card(manifest: Manifest) -> str:
    """The card's text: a header for the hub, then what is in the data and how it was made."""
    return "\n".join([*_header(manifest), "", *_body(manifest)])


def _header(manifest: Manifest) -> Iterator[str]:
    run = manifest.run
    yield "---"
    yield f"pretty_name: {_yaml(_title(manifest))}"
    yield from _yaml_list("license", hub_licences(manifest.licences))
    yield from _yaml_list("task_categories", ["text-generation"])
    size = next((name for most, name in _SIZES if manifest.texts < most), "n>1T")
    yield from _yaml_list("size_categories", [size])
    if run.source.get("kind") == "hub":
        yield from _yaml_list("source_datasets", [str(run.source["name"])])
    yield from _yaml_list("tags", ["code", run.generator, "codegen-toolkit"])
    yield "configs:"
    yield "- config_name: default"
    yield "  data_files:"
    yield "  - split: train"
    yield "    path: data-*.jsonl"
    yield "---"


def _body(manifest: Manifest) -> Iterator[str]:
    run, counts = manifest.run, manifest.counts
    yield f"# {_title(manifest)}"
    yield ""
    yield (
        f"{manifest.texts} training texts, made by the generator `{run.generator}` of "
        f"codegen-toolkit from {counts['kept']} of {counts['inputs']} inputs."
    )
    yield ""
    yield "## What is in it"
    yield ""
    yield "Each line of `data-*.jsonl` is one text:"
    yield ""
    yield from _table(
        ("field", "content"),
        [
            ("`id`", "the text's own id"),
            ("`example_id`", "the input that it was made of"),
            ("`generator`", f"`{run.generator}`"),
            ("`segments`", 'list of `{"text", "train"}`; `train`: whether it enters the loss'),
            ("`meta`", "what the generator says of it"),
        ],
    )
    yield ""
    yield (
        "`rejects.jsonl` lists each input that is not in the data, with the reason; "
        "`manifest.json` holds the settings and counts of this card for machines."
    )
    yield ""
    yield "## How to load it"
    yield ""
    yield "```python"
    yield "import datasets"
    yield ""
    yield 'rows = datasets.load_dataset("DIR", split="train")  # or the name on the hub'
    yield "```"
    yield ""
    yield "or, as records, with codegen-toolkit:"
    yield ""
    yield "```python"
    yield "from codegen.data import read_texts"
    yield ""
    yield 'for text in read_texts("DIR"):'
    yield "    print(text.prompt, text.text)"
    yield "```"
    yield ""
    yield "## Statistics"
    yield ""
    characters = manifest.characters
    yield f"- prompts: {characters['prompt']} characters; trained: {characters['trained']}"
    yield from (f"- {line}" for line in statistics_lines(manifest.statistics))
    yield ""
    yield "## Inputs left out"
    yield ""
    left_out = [
        (outcome, reason, number)
        for outcome in ("skipped", "failed")
        for reason, number in sorted(counts[outcome].items(), key=lambda pair: (-pair[1], pair[0]))
    ]
    yield from _table(("outcome", "reason", "inputs"), left_out or [("none", "", 0)])
    yield ""
    yield "## Decontamination"
    yield ""
    yield from _decontamination(manifest)
    yield ""
    yield "## Duplicates"
    yield ""
    yield from _dedup(manifest)
    yield ""
    yield "## Source and licences"
    yield ""
    yield "The licences are those that the source states; a text bears that of its example."
    yield ""
    named = [(name or "unknown", n) for name, n in sorted(manifest.licences.items())]
    yield from _table(("licence", "examples kept"), named or [("none", 0)])
    yield ""
    yield "```json"
    yield json.dumps(dict(run.source), ensure_ascii=False, indent=2)
    yield "```"
    yield ""
    yield "## How to make it again"
    yield ""
    yield from _again(manifest)


def _title(manifest: Manifest) -> str:
    part = f", part {manifest.run.shard}" if manifest.run.shard else ""
    return f"{manifest.texts} training texts by {manifest.run.generator}{part}"


def _decontamination(manifest: Manifest) -> Iterator[str]:
    settings = manifest.run.decontamination
    if settings is None:
        yield "None was asked for: the data may hold problems of test sets."
        return
    share = settings["min_overlap"]
    least = f"at least {100 * share:g} %" if share else "at least one"
    yield (
        "An input was left out if its program or instruction is that of a problem but for layout, "
        "case and comments (`exact`); if a function in it is a solution but for docstrings and "
        f"annotations and, from {settings['min_nodes']} syntax nodes on, names (`syntax`); or if "
        "it holds "
        f"{least} of the {settings['ngram']}-grams of words of a problem's prompt, solution or "
        "tests (`ngram`). Paraphrases are not found. Each input that was left out is in "
        "`decontamination.jsonl`, with the problem and the score."
    )
    yield ""
    removed = manifest.removed.get("set", {})
    yield from _table(
        ("set", "problems", "inputs removed", "SHA-256"),
        [
            (s["name"], s["problems"], removed.get(s["name"], 0), f"`{s['sha256'][:16]}`")
            for s in settings["sets"]
        ],
    )
    if kinds := manifest.removed.get("kind"):
        yield ""
        yield "By kind: " + ", ".join(f"{kind} {number}" for kind, number in kinds.items()) + "."


def _dedup(manifest: Manifest) -> Iterator[str]:
    settings = manifest.run.dedup
    if settings is None:
        yield "Inputs were not compared with each other: there may be duplicates."
        return
    compared = (
        "programs" if settings["compare"] == "program" else "pairs of instruction and program"
    )
    found = f"Of {compared} that are equal but for layout and comments the first input was kept"
    if settings["kind"] == "near":
        found += (
            f"; so it was of those whose {settings['shingle']}-grams of words have a Jaccard "
            f"similarity of at least {settings['threshold']:g}, estimated with "
            f"{settings['num_perm']} MinHash values ({settings['bands']} bands of "
            f"{settings['rows']})"
        )
    yield f"{found}."
    if settings["references"]:
        yield ""
        yield "They were compared with these corpora too:"
        yield ""
        yield from (f"- `{json.dumps(dict(source))}`" for source in settings["references"])
    if manifest.run.shard:
        yield ""
        yield "This is a part of the data: duplicates are removed when the parts are merged."
        return
    skipped = manifest.counts["skipped"]
    removed = [(reason, n) for reason, n in sorted(skipped.items()) if "duplicate" in reason]
    yield ""
    yield from _table(("reason", "inputs removed"), removed or [("none", 0)])


def _again(manifest: Manifest) -> Iterator[str]:
    run = manifest.run
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    if manifest.command:
        yield "```sh"
        yield manifest.command
        yield "```"
        yield ""
    yield (
        f"The same inputs give the same bytes with {versions}; fingerprint "
        f"`{manifest.fingerprint}`. The settings:"
    )
    yield ""
    yield "```json"
    settings = {"seed": run.seed, "limit": run.limit, run.generator: dict(run.config)}
    yield json.dumps(settings, ensure_ascii=False, indent=2)
    yield "```"
    yield ""


def _yaml(text: str) -> str:
    return json.dumps(text)  # JSON is YAML


def _yaml_list(name: str, values: Iterable[str]) -> Iterator[str]:
    yield f"{name}:"
    for value in values:
        plain = value.replace("-", "").replace(".", "").isalnum() and value.isascii()
        yield f"- {value if plain else _yaml(value)}"


def _table(header: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield f"| {' | '.join(_cell(value) for value in row)} |"


def _cell(value: object) -> str:
    # What comes from data must not break the table.
    return " ".join(str(value).split()).replace("|", "\\|")
