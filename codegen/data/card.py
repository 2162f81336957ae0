"""The dataset card of a data directory, with the YAML header that the hub and ``datasets`` read.

The template is ``card.md.jinja``; for the form see https://huggingface.co/docs/hub/datasets-cards.
A card depends on the run alone and holds no time and no number of workers, so that the same run
gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from codegen.data.manifest import Manifest, RunConfig
from codegen.data.statistics import statistics_lines

PREFERENCES = "preferences"  # the generator whose records are no training texts

# The hub's license ids that are SPDX ids in lower case:
# https://huggingface.co/docs/hub/repositories-licenses
_HUB_LICENSES = frozenset({
    "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd-2-clause", "bsd-3-clause", "bsl-1.0",
    "cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0", "epl-2.0", "gpl-2.0", "gpl-3.0", "isc", "lgpl-2.1",
    "lgpl-3.0", "mit", "mpl-2.0", "unlicense", "wtfpl", "zlib",
})  # fmt: skip

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


def hub_licenses(licenses: Mapping[str, int]) -> list[str]:
    """The hub's ids for SPDX ids: ``unknown`` for none, ``other`` for one it lacks."""
    known = {"": "unknown"} | {name: name for name in _HUB_LICENSES}
    return sorted({known.get(name.lower(), "other") for name in licenses}) or ["unknown"]


def card(manifest: Manifest) -> str:
    """The card's text: a header for the hub, then the contents and how they were made."""
    run, counts = manifest.run, manifest.counts
    part = f", part {run.shard}" if run.shard else ""
    skipped = counts["skipped"]
    what, columns = _contents(run)
    from jinja2 import Environment, PackageLoader  # not in every worker

    environment = Environment(
        loader=PackageLoader("codegen.data", ""),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"yaml": json.dumps, "json": _json, "plain": _plain, "cell": _cell}
    return environment.get_template("card.md.jinja").render(
        manifest=manifest,
        run=run,
        counts=counts,
        title=f"{manifest.texts} {what} by {run.generator}{part}",
        what=what,
        columns=columns,
        hub_licenses=hub_licenses(manifest.licenses),
        size=next((name for most, name in _SIZES if manifest.texts < most), "n>1T"),
        statistics=list(statistics_lines(manifest.statistics)),
        left_out=[
            (outcome, reason, number)
            for outcome in ("skipped", "failed")
            for reason, number in sorted(counts[outcome].items(), key=lambda p: (-p[1], p[0]))
        ],
        duplicates=[(reason, n) for reason, n in sorted(skipped.items()) if "duplicate" in reason],
        licenses=[(name or "unknown", n) for name, n in sorted(manifest.licenses.items())],
        versions=", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
        settings={"seed": run.seed, "limit": run.limit, run.generator: dict(run.config)},
    )


def _contents(run: RunConfig) -> tuple[str, list[tuple[str, str]]]:
    """The kind of data, and the columns that only this kind has."""
    if run.generator != PREFERENCES:
        train = 'list of `{"text", "train"}`; `train`: whether it enters the loss, or how much'
        return "training texts", [("segments", train)]
    prompt = ("prompt", "what the model was asked: a text, or a list of messages")
    if run.config["unpaired"]:
        label = ("label", "whether it passed its tests")
        return "judged answers", [prompt, ("completion", "an answer to it"), label]
    chosen = ("chosen", "an answer to it that passed its tests")
    return "preference pairs", [prompt, chosen, ("rejected", "one that did not")]


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(dict(value), ensure_ascii=False, indent=2)


def _plain(text: str) -> str:
    """A value of YAML, quoted if it must be."""
    plain = text.replace("-", "").replace(".", "").isalnum() and text.isascii()
    return text if plain else json.dumps(text)  # JSON is YAML


def _cell(value: object) -> str:
    # Text from data must not break the table.
    return " ".join(str(value).split()).replace("|", "\\|")
