"""The options of ``codegen data``: of each generator, of a run, and of its source."""

from __future__ import annotations

from typing import Any, Literal

from codegen.config import Config, setting

_ROWS = "Rows of the source"


class RunOptions(Config):
    """The options that all generators share."""

    out: str = setting(..., "Output directory.", metavar="DIR")
    limit: int | None = setting(None, "Read at most this many examples.", ge=0)
    seed: int = setting(0, "Random seed.")
    workers: int | None = setting(None, "Number of worker processes.", shown="one per CPU", ge=1)
    dedup: Literal["none", "exact", "near"] = setting(
        "none", "Drop exact or near duplicates (MinHash)."
    )
    decontaminate: tuple[str, ...] = setting(
        (),
        "Drop examples that contain a problem of this test set: humaneval, mbpp, hub:... or a "
        "file. Repeatable.",
        metavar="SET",
    )
    instruction_column: str = setting(
        "instruction", "Column of the instruction; '' if the rows have none.", heading=_ROWS
    )
    program_column: str = setting("program", "Column of the program.", heading=_ROWS)
    language: str = setting("python", "Programming language of the rows.", heading=_ROWS)
    license: str = setting("", "License of all examples (an SPDX id).", heading=_ROWS)
    id_column: str = setting("", "Column of the row id.", shown="id, if present", key=True)
    license_column: str = setting("", "Column of each row's license.", key=True)
    language_column: str = setting("", "Column of each row's programming language.", key=True)
    keep_docstring: bool = setting(False, "Keep docstrings in the programs.", key=True)
    dedup_threshold: float = setting(
        0.7,
        "Jaccard similarity of word 5-grams at which programs are near duplicates.",
        gt=0,
        le=1,
        key=True,
    )
    filter: tuple[str, ...] = setting(
        (), "Apply filters of other packages.", metavar="NAME[:TEXT],...", key=True
    )
    shard: str | None = setting(
        None,
        "Process only part I (from 0) of N, as one job of a batch scheduler. Join the parts with "
        "codegen data merge.",
        metavar="I/N",
        key=True,
    )
    ray: str = setting(
        "",
        "Run on the Ray cluster at host:port, auto (the one on this machine), or local (start "
        "one).",
        metavar="ADDRESS",
        key=True,
    )
    item_timeout: float = setting(60.0, "Time limit for one example in seconds.", gt=0, key=True)
    max_characters: int = setting(2**20, "Skip programs longer than this.", ge=1, key=True)
    chunk_size: int = setting(
        32, "Examples sent to a worker at a time. Does not change the data.", ge=1, key=True
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
        key=True,
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
        key=True,
    )
    strict: bool = setting(
        False,
        "Use stricter dependency rules: fewer and larger edits than in the paper.",
        key=True,
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
    template: Literal["plain", "alpaca"] = setting("plain", "Prompt template.", key=True)
    min_score: int = setting(
        0,
        "Mode llm: have the model grade each text, and keep texts with at least this grade; 4 is "
        "strict, 0 turns grading off.",
        ge=0,
        le=5,
        key=True,
    )
    snippets: bool = setting(
        False,
        "Mode llm: programs inspire new tasks (OSS-Instruct); instructions are not read.",
        key=True,
    )


class CogexOptions(Config):
    """The options of ``codegen data cogex``."""

    mode: Literal["records", "run", "llm"] = setting(
        "records",
        "What the rows hold: finished records to check, functions to run in the sandbox with a "
        "call, or instructions with answers that a model turns into programs.",
    )
    input_column: str = setting("input", "Column of the input.", key=True)
    output_column: str = setting("code_output", "Mode records: column of the output.", key=True)
    call_column: str = setting(
        "",
        "Mode run: column of the call, or of tests that contain one.",
        shown="after the function",
        key=True,
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

    option: dict[str, Any] = setting({}, "An option of the generator.", rest=True)


class PreferenceOptions(Config):
    """The options of ``codegen data preferences``."""

    out: str = setting(..., "Output directory.", metavar="DIR")
    rejected: tuple[str, ...] = setting(
        ("wrong",),
        "Verdicts of answers to reject, such as wrong,error,syntax_error; not infra_error, which "
        "means that the sandbox failed.",
        metavar="STATUS,...",
        commas=True,
    )
    decontaminate: tuple[str, ...] = setting(
        (),
        "Drop problems of this test set: humaneval, mbpp, hub:... or a file. Repeatable.",
        metavar="SET",
    )
    task: str = setting(
        "", "Task of the samples.", metavar="NAME", shown="the one that they name", key=True
    )
    source: str | None = setting(None, "Path of the task's data, or hub:org/name.", key=True)
    pairs: int = setting(4, "Maximum pairs per problem.", ge=1, key=True)
    ratio: float = setting(
        1.5, "Pair answers whose lengths differ by at most this factor.", ge=1, key=True
    )
    alike: int = setting(
        2,
        "Keep at most this many programs that differ only in names, numbers and strings, per "
        "problem and verdict.",
        ge=1,
        key=True,
    )
