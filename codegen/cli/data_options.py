"""Options of ``codegen data``, common ones and for each generator."""

from __future__ import annotations

from typing import Any, Literal

from codegen.core.config import Config, keyed, setting

_ROWS = "Rows of the source"


class DataRunOptions(Config):
    """Options that all generators share."""

    out: str = setting(..., "Output directory.", metavar="DIR")
    limit: int | None = setting(None, "Maximum number of examples to read.", ge=0)
    seed: int = setting(0, "Random seed.")
    workers: int | None = setting(None, "Number of worker processes.", shown="one per CPU", ge=1)
    dedup: Literal["none", "exact", "near"] = setting(
        "none", "Drop exact or near duplicates (MinHash)."
    )
    decontaminate: tuple[str, ...] = setting(
        (),
        "Drop examples that contain a problem from this test set: humaneval, mbpp, hub:... or a "
        "file. Repeatable.",
        metavar="SET",
    )
    instruction_column: str = setting(
        "instruction", "Column of the instruction; '' if the rows have none.", heading=_ROWS
    )
    program_column: str = setting("program", "Column of the program.", heading=_ROWS)
    language: str = setting("python", "Programming language of the rows.", heading=_ROWS)
    license: str = setting("", "License of all examples (an SPDX id).", heading=_ROWS)
    id_column: str = keyed("", "Column of the row id.", shown="id, if present")
    license_column: str = keyed("", "Column of each row's license.")
    language_column: str = keyed("", "Column of each row's programming language.")
    keep_docstring: bool = keyed(False, "Keep docstrings in the programs.")
    dedup_threshold: float = keyed(
        0.7, "Minimum Jaccard similarity of word 5-grams for near duplicates.", gt=0, le=1
    )
    filter: tuple[str, ...] = keyed((), "Filters from other packages.", metavar="NAME[:TEXT],...")
    shard: str | None = keyed(
        None,
        "Process only shard I (from 0) of N, as one job of a batch scheduler. Join the shards with "
        "codegen data merge.",
        metavar="I/N",
    )
    ray: str = keyed(
        "",
        "Ray cluster: host:port, auto (the one on this machine), or local (start one).",
        metavar="ADDRESS",
    )
    item_timeout: float = keyed(60.0, "Time limit per example in seconds.", gt=0)
    max_characters: int = keyed(2**20, "Skip programs with more characters than this.", ge=1)
    chunk_size: int = keyed(
        32, "Examples sent to a worker at a time. Does not change the data.", ge=1
    )


class LintSeqOptions(Config):
    """Turn programs into sequences of edits that keep them lint-clean (LintSeq).

    Rows may also contain programs in C, C++, Go, Java, JavaScript, Rust or TypeScript (--language).
    For these, --verify ruff checks the syntax, and strict runs the compiler on every intermediate
    program.
    """

    preset: Literal["paper"] | None = setting(
        None, "paper: the paper's data, same as --engine reference --sequences 5."
    )
    sequences: int | None = setting(
        None, "Edit sequences per program (5 in the paper).", shown="1", ge=1
    )
    granularity: Literal["line", "statement"] | None = keyed(
        None,
        "Unit that edits insert: lines, as in the paper, or whole statements.",
        shown="line",
    )
    verify: Literal["static", "compile", "ruff", "pylint", "strict"] | None = setting(
        None,
        "Checker of every intermediate program: none (static), Python's compiler, ruff (also "
        "finds undefined names) or pylint (as in the paper, about 10 times slower). strict: "
        "pylint, or in another language its compiler in the sandbox.",
        shown="ruff",
    )
    audit: float | None = keyed(
        None,
        "Fraction of the intermediate Python programs that pylint also checks, to report how many "
        "it rejects.",
        metavar="SHARE",
        shown="0.005; 0 with --verify pylint",
        ge=0,
        le=1,
    )
    strict: bool = keyed(
        False, "Use stricter dependency rules: fewer and larger edits than in the paper."
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
        "diff: one record per sequence, in the published form. anchored: the same with the line "
        "above instead of line numbers and counts. chat: diff as chat messages. "
        "pairs: one record per edit, from a program to the next diff.",
    )


class EditorOptions(Config):
    """Next edits recorded in an editor."""

    from_editor: bool = setting(
        False,
        "SOURCE is a file that `codegen serve lsp -o edit_log=FILE` wrote. You own its contents, "
        "so --licenses does not apply.",
    )


class UniCodeOptions(Config):
    """Options of ``codegen data unicode``."""

    mode: Literal["ast", "llm", "hybrid"] = setting(
        "ast",
        "Pseudo-code from the syntax tree, from a model, or from both (the model adds comments).",
    )
    objectives: tuple[str, ...] = setting(
        ("qa", "qp", "pa", "uot"),
        "Records per example: question to answer (qa), question to pseudo-code (qp), pseudo-code "
        "to answer (pa), and all three (uot).",
        commas=True,
    )
    styles: tuple[str, ...] = setting(
        ("mix",),
        "Pseudo-code styles: mix (all), or some of braces, begin_end and indent, each also with "
        "_lower.",
        commas=True,
    )
    template: Literal["plain", "alpaca"] = keyed("plain", "Prompt template.")
    min_score: int = keyed(
        0,
        "Mode llm: minimum grade (by the model) of the records to keep; 4 is strict, 0 disables "
        "grading.",
        ge=0,
        le=5,
    )
    snippets: bool = keyed(
        False, "Mode llm: write new tasks from programs (OSS-Instruct) and ignore instructions."
    )


class CogexOptions(Config):
    """Options of ``codegen data cogex``."""

    mode: Literal["records", "run", "llm"] = setting(
        "records",
        "Content of the rows: finished records to check, functions to run in the sandbox with a "
        "call, or instructions with answers that a model turns into programs.",
    )
    input_column: str = keyed("input", "Column of the input.")
    output_column: str = keyed("code_output", "Mode records: column of the output.")
    call_column: str = keyed(
        "",
        "Mode run: column of the call, or of tests that contain one.",
        shown="after the function",
    )


class WholeOptions(Config):
    """Make the baseline of lintseq: the same programs, each as a whole."""


class PlainOptions(Config):
    """Make one record per example: the instruction as the prompt, the program as the target.

    Works for any language, and for puzzles: puzzles:star-easy, star-medium or star-hard, followed
    by :train, :validation or :test and a number.
    """


class InstalledOptions(Config):
    """Make training data with a generator from another package."""

    option: dict[str, Any] = setting({}, "Option of the generator.", rest=True)


class PreferenceOptions(Config):
    """Options of ``codegen data preferences``."""

    out: str = setting(..., "Output directory.", metavar="DIR")
    rejected: tuple[str, ...] = setting(
        ("wrong",),
        "Verdicts of the answers to reject, such as wrong,error,syntax_error; not infra_error, "
        "which means that the sandbox failed.",
        metavar="STATUS,...",
        commas=True,
    )
    decontaminate: tuple[str, ...] = setting(
        (),
        "Drop problems in this test set: humaneval, mbpp, hub:... or a file. Repeatable.",
        metavar="SET",
    )
    task: str = keyed("", "Task of the samples.", metavar="NAME", shown="named in the samples")
    source: str | None = keyed(None, "Path of the task's data, or hub:org/name.")
    pairs: int = keyed(4, "Maximum pairs per problem.", ge=1)
    ratio: float = keyed(1.5, "Maximum ratio of the lengths of paired answers.", ge=1)
    alike: int = keyed(
        2,
        "Maximum programs that differ only in names, numbers and strings, per problem and verdict.",
        ge=1,
    )
