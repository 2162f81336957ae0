"""The dataset card of a data directory, with the YAML header that the hub and ``datasets`` read."""

from __future__ import annotations

import json
from collections.abc import Mapping

from codegen.data.manifest import Manifest

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


def hub_licences(licences: Mapping[str, int]) -> list[str]:
    """The hub's ids for SPDX ids: ``unknown`` for none, ``other`` for one it lacks."""
    return sorted({_hub_licence(name.lower()) for name in licences}) or ["unknown"]


def _hub_licence(name: str) -> str:
    if not name:
        return "unknown"
    return name if name in _HUB_LICENCES else "other"


def card(manifest: Manifest) -> str:
    """The card's text: header, content, counts, how to read and make it."""
    run = manifest.run
    header = [
        "license:",
        *(f"- {name}" for name in hub_licences(manifest.licences)),
        "task_categories:",
        "- text-generation",
        "tags:",
        "- code",
        f"- {run.generator}",
        "configs:",
        "- config_name: default",
        "  data_files: data-*.jsonl",
    ]
    counts = manifest.counts
    left_out = [
        f"| {outcome} | {reason} | {number} |"
        for outcome in ("skipped", "failed")
        for reason, number in sorted(counts[outcome].items(), key=lambda pair: -pair[1])
    ]
    licences = [
        f"| {name or 'unknown'} | {number} |" for name, number in sorted(manifest.licences.items())
    ]
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    return "\n".join(
        [
            "---",
            *header,
            "---",
            "",
            f"# {manifest.texts} training texts by `{run.generator}`",
            "",
            f"Made from {counts['kept']} of {counts['inputs']} inputs by codegen-toolkit.",
            "Each line of `data-*.jsonl` is one text: `id`, `example_id`, `generator`, `segments`",
            '(a list of `{"text", "train"}`; `train` says whether it enters the loss) and `meta`.',
            "",
            "```python",
            "from codegen.data import read_texts",
            "for text in read_texts(DIRECTORY):",
            "    print(text.prompt, text.text)",
            "```",
            "",
            "or `datasets.load_dataset(DIRECTORY)`.",
            "",
            "## Inputs left out",
            "",
            "Each of them is in `rejects.jsonl`.",
            "",
            "| outcome | reason | inputs |",
            "|---|---|---|",
            *(left_out or ["| none | | 0 |"]),
            "",
            "## Licences of the kept examples",
            "",
            "| licence | examples |",
            "|---|---|",
            *(licences or ["| none | 0 |"]),
            "",
            "## How it was made",
            "",
            f"Seed {run.seed}; {versions}; fingerprint `{manifest.fingerprint}`.",
            "",
            "```json",
            json.dumps(
                {"source": dict(run.source), "config": dict(run.config)},
                ensure_ascii=False,
                indent=2,
            ),
            "```",
            "",
        ]
    )
