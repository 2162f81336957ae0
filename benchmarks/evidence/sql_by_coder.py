"""SQL by the parser alone, and with ``coder`` for the questions that the parser declines.

Every ``stride``-th question of Spider's development set (unseen databases), as ``codegen sqlnet
ask`` runs it; then, if the parser has no answer, as ``--llm`` does: ``coder`` with weights of 8
bits writes five statements in the grammar of the database, and the most frequent result is the
answer if at least ``votes`` of the five agree. ``right``, ``none`` and ``wrong`` are fractions of
the questions, ``wrong`` of answers with exit code 0; ``seconds`` is the mean time of a question
that the model answered. Needs CODEGEN_TEST_DATA.
"""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from codegen.benchmarks.evidence.harness import Experiment
from codegen.benchmarks.tools.sql_sets import SetQuestion, ask, prepare, read_questions, same_rows
from codegen.evals.statistics import clustered_interval
from codegen.generation import Decoder, Request, SamplingParams
from codegen.generation.transformers import TransformersBackend
from codegen.models import load
from codegen.sqlnet import SQLNet
from codegen.sqlnet.fallback import gbnf_of, write
from codegen.sqlnet.plan_features import LinkedSchema

SAMPLES = 5


def written(backend: TransformersBackend, question: SetQuestion, seed: int) -> dict[str, Any]:
    """Returns the votes for the model's answer, and whether it is right."""
    schema = question.schema
    decoder = Decoder("grammar", {"gbnf": gbnf_of(schema.tables)})

    def complete(prompt: str, number: int) -> list[str]:
        texts: list[str] = []
        for count, temperature in ((1, 0.0), (number - 1, 0.8)):
            requests = [Request(prompt, chat=True, seed=seed + index) for index in range(count)]
            made = backend.generate(requests, SamplingParams(400, temperature), decoder)
            texts += [one.text for one in sorted(made, key=lambda one: one.number)]
        return texts

    began = time.perf_counter()
    linked = LinkedSchema(schema.tables, schema.database)
    found = write(question.text, schema, complete, samples=SAMPLES, linked=linked)
    rows = found.rows.rows if found.rows else None
    right = rows is not None and any(same_rows(rows, one) for one in question.expected)
    votes = 0 if rows is None else found.votes
    return {"votes": votes, "right": right, "seconds": time.perf_counter() - began}


def answers(out: Path, model: str, seed: int, options: Namespace) -> Iterator[dict[str, Any]]:
    """Yields a row per question; rows of an interrupted run are read from its file."""
    path = out / f"{model}-{seed}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    yield from rows
    sets = prepare("spider_dev", Path(os.environ["CODEGEN_TEST_DATA"], "sql"), out / "sets")
    backend, parser = (
        TransformersBackend(load(model, bits=8), batch_size=4),
        SQLNet.from_pretrained(),
    )
    with path.open("a") as file:
        for question in islice(
            read_questions(*sets), len(rows) * options.stride, None, options.stride
        ):
            found = ask(parser, question)
            row = {"database": question.database, "verdict": found.verdict, "votes": 0}
            if found.code:
                row |= written(backend, question, 100 * seed)
            file.write(json.dumps(row) + "\n")
            file.flush()
            yield row


def cell(out: Path, condition: str, seed: int, options: Namespace) -> Mapping[str, Any]:
    """Measures the parser, and the model at each number of votes."""
    rows = list(answers(out, condition, seed, options))
    names = [row["database"] for row in rows]
    found: dict[str, Any] = {}
    for votes in (SAMPLES + 1, *range(1, SAMPLES + 1)):
        by_model = [row["votes"] >= votes for row in rows]
        ends = [
            ("right" if row["right"] else "wrong") if model else row["verdict"]
            for row, model in zip(rows, by_model, strict=True)
        ]
        name = f"{condition}, {votes} votes" if votes <= SAMPLES else "parser"
        measures: dict[str, Any] = {"n": len(rows), "by_model": fmean(by_model)}
        for key, end in (("right", "right"), ("none", "abstained"), ("wrong", "wrong")):
            values = [float(one == end) for one in ends]
            measures[key] = fmean(values)
            measures[f"{key} interval"] = clustered_interval(values, fmean(values), names)
        seconds = [row["seconds"] for row in rows if "seconds" in row]
        found[name] = measures | {"seconds": fmean(seconds)}
    return found


EXPERIMENT = Experiment(
    __doc__ or "", ("coder",), ("n", "right", "none", "wrong", "by_model", "seconds"), cell,
    {"stride": 4},
)  # fmt: skip

if __name__ == "__main__":
    EXPERIMENT.main()
