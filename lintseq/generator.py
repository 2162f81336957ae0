"""The generator of LintSeq training texts, with its options."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from codegen.core.errors import CodegenError, ConfigError, InputError, require_known
from codegen.core.records import BatchGenerator, Example, Segment, TrainingText
from codegen.lintseq.edits import EditSequence, EditStep, UnsupportedProgram
from codegen.lintseq.program import GRANULARITIES, Granularity, PreparedProgram, prepare
from codegen.lintseq.reference import random_sequence, reference_sequence
from codegen.lintseq.resampling import (
    Failure,
    VerifiedSequence,
    audited,
    compared,
    edit_sequences,
    verified_sequences,
)
from codegen.lintseq.text_format import MARKER, format_edit, format_edits, resolve
from codegen.lintseq.verify import CHECKS, Verify, check_for, check_pylint

Format = Literal["diff", "anchored", "chat", "pairs"]
FORMATS: tuple[Format, ...] = get_args(Format)


def training_texts(
    example: Example,
    number: int,
    sequence: EditSequence,
    format: Format = "diff",
    notes: Mapping[str, object] | None = None,
) -> list[TrainingText]:
    """Returns the texts of one sequence of an example.

    Args:
        example: source of the instruction and the id: ``ID#lintseq-NUMBER``, for pairs
            ``ID#lintseq-NUMBER.PAIR``.
        number: number of the sequence, from 0.
        sequence: edits that write the example's program.
        notes: entries for ``meta``; with ``pairs``, only of the first text.

    Raises:
        UnsupportedProgram: ``contains_marker``, if a line contains the marker.
        InputError: if a line contains a line end.
    """
    text = format_edits(sequence.edits, anchored=format == "anchored")
    if format == "pairs":
        return _pairs(example, number, sequence, notes or {})
    meta = {**_sizes(sequence.edits), **(notes or {})}
    if format == "chat":
        meta["messages"] = [
            {"role": "user", "content": example.instruction},
            {"role": "assistant", "content": text},
        ]
    segments = (Segment(example.instruction + "\n", False), Segment(text, True))
    name = f"{example.id}#lintseq-{number}"
    return [TrainingText(name, example.id, "lintseq", segments, meta)]


def _pairs(
    example: Example,
    number: int,
    sequence: EditSequence,
    notes: Mapping[str, object],
) -> list[TrainingText]:
    states = ["", *sequence.states]
    diffs = [*(MARKER + format_edit(edit) for edit in sequence.edits), f"{MARKER}\n{MARKER}"]
    edits: list[Sequence[EditStep]] = [*((edit,) for edit in sequence.edits), ()]
    return [
        TrainingText(
            id=f"{example.id}#lintseq-{number}.{pair}",
            example_id=example.id,
            generator="lintseq",
            segments=(
                Segment(example.instruction + "\n", False),
                Segment(state, False),
                Segment(diff, True),
            ),
            meta={
                **_sizes(edit),
                "pair": pair,
                "pairs": len(diffs),
                **(notes if pair == 0 else {}),
            },
        )
        for pair, (state, diff, edit) in enumerate(zip(states, diffs, edits, strict=True))
    ]


def _sizes(edits: Sequence[EditStep]) -> dict[str, object]:
    hunks = [hunk for edit in edits for hunk in edit.hunks]
    return {
        "edits": len(edits),
        "hunks": len(hunks),
        "lines": sum(len(hunk.lines) for hunk in hunks),
    }


def state_before(text: TrainingText) -> str:
    """Returns the state before a text's first edit: "" unless the format is ``pairs``."""
    return text.segments[1].text if "pair" in text.meta else ""


def program_of(texts: Sequence[TrainingText]) -> str:
    """Returns the program that the texts of one sequence write.

    Args:
        texts: all of :func:`training_texts`, in any order.

    Raises:
        InputError: if a text is malformed or missing; names the text.
    """
    texts = sorted(texts, key=lambda text: text.meta.get("pair", 0))
    state = ""
    for number, text in enumerate(texts):
        if text.meta.get("pair", 0) != number or state_before(text) != state:
            raise InputError(
                f"{text.id}: the preceding text of its sequence is missing or different."
            )
        resolution = resolve(text.trained, base=state)
        if resolution.malformed or resolution.stray_lines:
            raise InputError(f"{text.id}: its edits are malformed.")
        state = resolution.program
        if number == len(texts) - 1 and not resolution.complete:
            raise InputError(f"{text.id}: the end of its sequence is missing.")
    return state


Engine = Literal["fast", "reference", "random"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
Preset = Literal["paper"]
PRESETS: Mapping[Preset, Mapping[str, object]] = {"paper": {"engine": "reference", "sequences": 5}}

# Adds about 15% to the time of ``ruff``; a million sequences still yield about 30,000 states.
DEFAULT_AUDIT = 0.005
# Fraction of the audit: a published algorithm's sequence costs as much as 20 audited states.
COMPARED_SHARE = 0.2

# The default of an option that depends on the others; __post_init__ replaces it.
_DEPENDS: Any = None

# Engines that allow only these settings.
_FIXED: Mapping[str, Mapping[str, object]] = {
    "reference": {"granularity": "line", "verify": "pylint"},
    "random": {"granularity": "line", "verify": "static"},
}


def edit_sequence(
    program: str,
    rng: random.Random,
    *,
    granularity: Granularity = "line",
    verify: Verify = "ruff",
    strict: bool = False,
) -> EditSequence:
    """Returns one verified edit sequence of a program; its last state is the normal form.

    Raises:
        UnsupportedProgram: if the program has no edit sequence; contains the reason.
        VerificationFailed: if a state stays dirty after all repairs.
        ConfigError: for an unknown option.
    """
    check_for(verify)
    prepared = prepare(program, granularity=granularity, strict=strict)
    (result,) = edit_sequences([(prepared, rng)], verify=verify)
    if not isinstance(result, EditSequence):
        raise result
    return result


class _Sequence(NamedTuple):
    """A sequence, and its notes for ``meta``."""

    edits: EditSequence
    notes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LintSeq(BatchGenerator):
    """Programs as sequences of edits that keep them lint-clean.

    An example's ``language`` is Python or a language of
    :data:`codegen.lintseq.languages.GRAMMARS`, for which ``strict``, ``audit`` and the other
    engines have no effect.

    Sequence k of an example has its own random generator, derived from the example's, so it does
    not depend on the number of sequences. A text's ``meta`` has its numbers of ``edits``, ``hunks``
    and ``lines``. The first text of a sequence also has ``fallbacks`` (1) if the published
    algorithm sampled it after all repairs, ``joined_edits`` if dirty states were skipped (not in
    Python), ``audited_states`` and ``dirty_states`` if states were audited, and
    ``compared_sequences`` (1), ``compared_edits`` and ``reference_edits`` if the published
    algorithm also ran for comparison. An example's first text has ``failed_sequences``, the number
    of sequences without a clean form, if any.

    An option that is omitted, or None, gets its default from the preset and the engine.

    Attributes:
        preset: ``paper`` has the paper's settings: engine ``reference``, 5 sequences per example.
        sequences: independent edit sequences per example (default: 1; the paper has 5).
        granularity: smallest unit that an edit inserts, ``line`` (default) or ``statement``.
        verify: the check of the states, ``ruff`` (default) or another of
            :mod:`codegen.lintseq.verify`; ``strict`` is the same as ``pylint``.
        strict: apply the stricter dependency rules: fewer and larger edits.
        engine: ``fast`` (default) samples from dependency rules; ``reference`` is the published
            algorithm, with pylint in its loop; ``random`` is its ablation RandSeq, without checks.
        format: text form: ``diff``, ``anchored``, ``chat`` or ``pairs``.
        audit: fraction of states that pylint also checks, to estimate how many it would reject;
            never changes a text. For a fifth of this fraction of the sequences, the published
            algorithm also runs on the program, to compare the numbers of edits. The default is
            0.005 with a faster check, else 0.

    Raises:
        ConfigError: for unknown or conflicting values.
    """

    sequences: int = _DEPENDS
    granularity: Granularity = _DEPENDS
    verify: Verify = _DEPENDS
    strict: bool = False
    engine: Engine = _DEPENDS
    format: Format = "diff"
    audit: float = _DEPENDS
    preset: Preset | None = None
    name: str = field(default="lintseq", init=False)

    def __post_init__(self) -> None:
        if self.preset is not None:
            require_known("preset", self.preset, PRESETS)
            if self.engine not in (None, PRESETS[self.preset]["engine"]):
                raise ConfigError(
                    f"preset {self.preset!r} does not use engine {self.engine!r}.",
                    "Set only one of them.",
                )
        if self.verify == "strict":
            object.__setattr__(self, "verify", "pylint")
        preset = PRESETS[self.preset] if self.preset else {}
        self._set_defaults({"engine": "fast", "sequences": 1, **preset})
        if not isinstance(self.sequences, int) or self.sequences < 1:
            raise ConfigError(f"sequences is {self.sequences}; it must be at least 1.")
        require_known("format", self.format, FORMATS)
        choices = {"engine": ENGINES, "granularity": GRANULARITIES, "verify": CHECKS}
        for name, known in choices.items():
            if getattr(self, name) is not None:
                require_known(name, getattr(self, name), known)
        fixed = _FIXED.get(self.engine, {})
        for name, only in fixed.items():
            if getattr(self, name) not in (None, only):
                raise ConfigError(
                    f"engine {self.engine!r} needs {name} {only!r}, not {getattr(self, name)!r}.",
                    f"Remove {name}, or choose engine 'fast'.",
                )
        if fixed and self.strict:
            raise ConfigError(
                f"engine {self.engine!r} has no dependency rules, so it does not support strict.",
                "Remove strict, or choose engine 'fast'.",
            )
        self._set_defaults({"granularity": "line", "verify": "ruff", **fixed})
        self._resolve_audit()

    def _set_defaults(self, defaults: Mapping[str, object]) -> None:
        for name, default in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)

    def _resolve_audit(self) -> None:
        every_state = self.verify == "pylint"
        if self.audit is None:
            worth = self.engine == "fast" and not every_state
            object.__setattr__(self, "audit", DEFAULT_AUDIT if worth else 0.0)
        if not isinstance(self.audit, (int, float)) or not 0 <= self.audit <= 1:
            raise ConfigError(f"audit is {self.audit!r}; it must be between 0 and 1.")
        if self.audit and every_state:
            raise ConfigError(
                f"audit is {self.audit}, but pylint checks every state here.",
                "Remove audit, or choose another check than pylint.",
            )
        if (self.audit or every_state) and importlib.util.find_spec("pylint") is None:
            raise ConfigError(
                "pylint, which checks the states, is not installed.",
                "Run: pip install 'pylint>=4,<5'; or choose verify 'ruff' with audit 0.",
            )

    def generate_many(self, items):
        """Returns the texts of each item, or its error, with one call of the check.

        The error is :class:`UnsupportedProgram`, if a program has no edit sequence, or
        :class:`VerificationFailed` if none of its sequences passed the check.
        """
        seeds = [[rng.getrandbits(64) for _ in range(self.sequences)] for _, rng in items]
        draw = self._draw_fast if self.engine == "fast" else self._draw_each
        drawn = draw([example for example, _ in items], seeds)
        return [
            found if isinstance(found, CodegenError) else self._texts(example, found)
            for found, (example, _) in zip(drawn, items, strict=True)
        ]

    def _draw_fast(
        self, examples: Sequence[Example], seeds: Sequence[Sequence[int]]
    ) -> list[list[_Sequence | Failure] | UnsupportedProgram]:
        """Samples by the dependency rules, and checks the states of all examples together."""
        prepared = [self._prepare(example) for example in examples]
        flat = [
            (item, seed)
            for item, own in zip(prepared, seeds, strict=True)
            if isinstance(item, PreparedProgram)
            for seed in own
        ]
        jobs = [(item, random.Random(seed)) for item, seed in flat]
        verified = verified_sequences(jobs, self.verify)
        # Audits support only Python.
        seeds_audited = [seed if item.language == "python" else None for item, seed in flat]
        noted = iter(self._noted(verified, seeds_audited))
        return [
            [next(noted) for _ in own] if isinstance(item, PreparedProgram) else item
            for item, own in zip(prepared, seeds, strict=True)
        ]

    def _prepare(self, example: Example) -> PreparedProgram | UnsupportedProgram:
        try:
            return prepare(
                example.program,
                granularity=self.granularity,
                strict=self.strict,
                language=example.language,
            )
        except UnsupportedProgram as error:
            return error

    def _noted(
        self, results: Sequence[VerifiedSequence | Failure], seeds: Sequence[int | None]
    ) -> list[_Sequence | Failure]:
        """Adds notes to the sequences, including the audit's for those with a seed."""
        counts: dict[int, Mapping[str, int]] = {}
        if self.audit:
            # Separate generators, so that the audit does not change the texts.
            drawn = {
                number: (found.sequence, random.Random(f"audit {seed}"))
                for number, (found, seed) in enumerate(zip(results, seeds, strict=True))
                if isinstance(found, VerifiedSequence) and seed is not None
            }
            audits = audited(list(drawn.values()), self.audit, check_pylint)
            counts = dict(zip(drawn, audits, strict=True))
            if self.engine == "fast":
                others = compared(list(drawn.values()), self.audit * COMPARED_SHARE, check_pylint)
                counts = {n: {**counts[n], **o} for n, o in zip(drawn, others, strict=True)}
        return [
            _Sequence(
                found.sequence,
                {
                    **({"fallbacks": 1} if found.fallback else {}),
                    **({"joined_edits": found.joined} if found.joined else {}),
                    **counts.get(n, {}),
                },
            )
            if isinstance(found, VerifiedSequence)
            else found
            for n, found in enumerate(results)
        ]

    def _draw_each(
        self, examples: Sequence[Example], seeds: Sequence[Sequence[int]]
    ) -> list[list[_Sequence | Failure] | UnsupportedProgram]:
        """Samples sequences one by one by a published algorithm."""
        drawn: list[list[_Sequence | Failure] | UnsupportedProgram] = []
        for example, own in zip(examples, seeds, strict=True):
            try:
                _require_python(example)
                results = [VerifiedSequence(self._draw_one(example.program, seed)) for seed in own]
                drawn.append(self._noted(results, own))
            except UnsupportedProgram as error:
                drawn.append(error)
        return drawn

    def _draw_one(self, program: str, seed: int) -> EditSequence:
        rng = random.Random(seed)
        if self.engine == "reference":
            return reference_sequence(program, rng, lambda text: check_pylint([text])[0])
        return random_sequence(program, rng)

    def _texts(
        self, example: Example, found: Sequence[_Sequence | Failure]
    ) -> list[TrainingText] | Failure:
        failures = [item for item in found if not isinstance(item, _Sequence)]
        if len(failures) == len(found):
            return failures[0]
        # Only in one text, since the dataset card sums over all texts.
        extra = {"failed_sequences": len(failures)} if failures else {}
        texts: list[TrainingText] = []
        try:
            for number, item in enumerate(found):
                if isinstance(item, _Sequence):
                    notes = {**item.notes, **({} if texts else extra)}
                    texts += training_texts(example, number, item.edits, self.format, notes)
        except UnsupportedProgram as error:
            return error
        return texts


def _require_python(example: Example) -> None:
    if example.language != "python":
        detail = f"example {example.id!r} is written in {example.language!r}."
        raise UnsupportedProgram("not_python", detail)
