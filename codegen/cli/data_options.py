"""The options of ``codegen data``: of each generator, of a run, and of its source."""

from __future__ import annotations

from typing import Any, Literal

from codegen.cli.planning import PLAN
from codegen.config import Config, setting


class RunOptions(Config):
    """The options that all generators share."""

    out: str = setting(..., "Output directory.", metavar="DIR")
    limit: int | None = setting(None, "Read at most this many examples.", ge=0)
    plan: bool = setting(False, PLAN)
    seed: int = setting(0, "Random seed.")
    workers: int | None = setting(None, "Number of worker processes.", shown="one per CPU", ge=1)
    executor: Literal["local", "ray"] = setting(
        "local", "Run in processes of this machine or on a Ray cluster."
    )
    ray_address: str | None = setting(
        None,
        "Ray cluster: host:port, auto (the one on this machine) or local (start one).",
        metavar="ADDRESS",
        shown="RAY_ADDRESS, else local",
    )
    shard: str | None = setting(
        None,
        "Process only part I (from 0) of N, as one job of a batch scheduler. Join the parts with "
        "codegen data merge.",
        metavar="I/N",
    )
    instruction_column: str = setting(
        "instruction", "Column of the instruction; '' if the rows have none."
    )
    program_column: str = setting("program", "Column of the program.")
    id_column: str = setting("", "Column of the row id.", shown="id, if present")
    license_column: str = setting("", "Column of each row's license.", old="licence_column")
    license: str = setting("", "License of all examples (an SPDX id).", old="licence")
    language: str = setting("python", "Programming language of the rows.")
    language_column: str = setting("", "Column of each row's programming language.")
    keep_docstring: bool = setting(False, "Keep docstrings in the programs.")
    dedup: Literal["none", "exact", "near"] = setting(
        "none", "Drop exact or near duplicates (MinHash)."
    )
    dedup_against: tuple[str, ...] = setting(
        (), "Also drop duplicates of this source's programs. Repeatable.", metavar="SOURCE"
    )
    dedup_threshold: float = setting(
        0.7, "Jaccard similarity of word 5-grams at which programs are near duplicates.", gt=0, le=1
    )
    decontaminate: tuple[str, ...] = setting(
        (),
        "Drop examples that contain a problem of this test set: humaneval, mbpp, hub:... or a "
        "file. Repeatable.",
        metavar="SET",
    )
    filter: tuple[str, ...] = setting(
        (), "Apply a filter of another package. Repeatable.", metavar="NAME[:TEXT]"
    )
    item_timeout: float = setting(60.0, "Time limit for one example in seconds.", gt=0)
    max_characters: int = setting(2**20, "Skip programs longer than this.", ge=1)
    chunk_size: int = setting(
        32, "Examples sent to a worker at a time. Does not change the data.", ge=1
    )


class LintSeqOptions(Config):
    """Turn programs into sequences of edits that keep them lint-clean (LintSeq).

    Rows may also hold programs in C, C++, Go, Java, JavaScript, Rust or TypeScript (--language).
    For these, --verify ruff checks the syntax, and strict runs the compiler on every intermediate
    program.
    """

    preset: Literal["paper"] | None = setting(
        None, "paper: the paper's data, same as --engine reference --sequences 5."
    )
    sequences: int | None = setting(
        None, "Edit sequences per program (5 in the paper).", shown="1", ge=1
    )
    granularity: Literal["line", "statement"] | None = setting(
        None,
        "Smallest piece that an edit inserts: lines, as in the paper, or whole statements.",
        shown="line",
    )
    verify: Literal["static", "compile", "ruff", "pylint", "strict"] | None = setting(
        None,
        "Checker of every intermediate program: none (static), Python's compiler, ruff (also "
        "finds undefined names) or pylint (as in the paper, about 10 times slower). strict: "
        "pylint, in another language its compiler, in the sandbox.",
        shown="ruff",
    )
    audit: float | None = setting(
        None,
        "Share of the intermediate programs in Python that pylint checks as well, to report how "
        "many it rejects.",
        metavar="SHARE",
        shown="0.005; 0 with --verify pylint",
        ge=0,
        le=1,
    )
    strict: bool = setting(
        False,
        "Use stricter dependency rules: fewer and larger edits than in the paper.",
        is_pair=True,
    )
    engine: Literal["fast", "reference", "random"] | None = setting(
        None,
        "fast: sample from dependency rules. reference: the published algorithm, with pylint "
        "after each deletion. random: the ablation RandSeq, whose intermediate programs may be "
        "invalid.",
        shown="fast",
    )
    format: Literal["diff", "anchored", "chat", "pairs"] = setting(
        "diff",
        "diff: one text per sequence, in the published form. anchored: the same with the line "
        "above in place of line numbers and counts. chat: diff as chat messages. "
        "pairs: one text per edit, from a program to the next diff.",
    )


class EditorOptions(Config):
    """Next edits that an editor was shown."""

    from_editor: bool = setting(
        False,
        "SOURCE is a file that `codegen serve lsp --edit-log` wrote. Its text is your own, so "
        "--licenses does not apply.",
    )


class UniCodeOptions(Config):
    """The options of ``codegen data unicode``."""

    mode: Literal["ast", "llm", "hybrid"] = setting(
        "ast",
        "Who writes the pseudo-code: the syntax tree, a model, or both (the model adds comments).",
    )
    objectives: tuple[str, ...] = setting(
        ("qa", "qp", "pa", "uot"),
        "Texts per example: question to answer (qa), question to pseudo-code (qp), pseudo-code "
        "to answer (pa), and all three (uot).",
        commas=True,
    )
    styles: tuple[str, ...] = setting(
        ("mix",),
        "Pseudo-code styles: mix (all), or some of braces, begin_end and indent, each also with "
        "_lower.",
        commas=True,
    )
    template: Literal["plain", "alpaca"] = setting("plain", "Prompt template.")
    min_score: int = setting(
        0,
        "Mode llm: have the model grade each text, and keep texts with at least this grade; 4 is "
        "strict, 0 turns grading off.",
        ge=0,
        le=5,
    )
    snippets: bool = setting(
        False, "Mode llm: programs inspire new tasks (OSS-Instruct); instructions are not read."
    )


class CogexOptions(Config):
    """The options of ``codegen data cogex``."""

    mode: Literal["records", "run", "llm"] = setting(
        "records",
        "What the rows hold: finished records to check, functions to run in the sandbox with a "
        "call, or instructions with answers that a model turns into programs.",
    )
    input_column: str = setting("input", "Column of the input.")
    output_column: str = setting("code_output", "Mode records: column of the output.")
    call_column: str = setting(
        "",
        "Mode run: column of the call, or of tests that contain one.",
        shown="after the function",
    )


class WholeOptions(Config):
    """Make the baseline of lintseq: the same programs as whole texts."""


class PlainOptions(Config):
    """Make one text per example: its instruction, then its program as the trained part.

    Works for any language, and for puzzles: puzzles:star-easy, star-medium, star-hard or zebra-3x3,
    followed by :train, :validation or :test and a number.
    """


class InstalledOptions(Config):
    """Make training texts with a generator of another package."""

    option: dict[str, Any] = setting(
        {}, "An option of the generator. Repeatable.", flags=("-o", "--option")
    )


class PreferenceOptions(Config):
    """The options of ``codegen data preferences``."""

    out: str = setting(..., "Output directory.", metavar="DIR")
    task: str = setting("", "Task of the samples.", metavar="NAME", shown="the one that they name")
    source: str | None = setting(None, "Path of the task's data, or hub:org/name.")
    rejected: tuple[str, ...] = setting(
        ("wrong",),
        "Verdicts of answers to reject, such as wrong,error,syntax_error; not infra_error, which "
        "means that the sandbox failed.",
        metavar="STATUS,...",
        commas=True,
    )
    pairs: int = setting(
        4, "Maximum pairs per problem; with --unpaired, maximum answers per label.", ge=1
    )
    ratio: float = setting(1.5, "Pair answers whose lengths differ by at most this factor.", ge=1)
    alike: int = setting(
        2,
        "Keep at most this many programs that differ only in names, numbers and strings, per "
        "problem and verdict.",
        ge=1,
    )
    unpaired: bool = setting(False, "Write single answers with a label (KTO) instead of pairs.")
    decontaminate: tuple[str, ...] = setting(
        (),
        "Drop problems of this test set: humaneval, mbpp, hub:... or a file. Repeatable.",
        metavar="SET",
    )
