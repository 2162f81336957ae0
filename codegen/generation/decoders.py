"""Named decoders: how the text a model emits becomes a program.

``sample`` takes the text as the program. ``edit_sequence`` takes it as a LintSeq edit sequence and
resolves it. What was malformed is counted in the sample's ``meta``: a hunk with wrong numbers is
applied as the published resolver does, one that can't be read is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from codegen.errors import ConfigError
from codegen.generation.protocol import Decoder
from codegen.records import FinishReason


@dataclass(frozen=True, slots=True)
class Decoded:
    """A finished text, read by its decoder; see the fields of the same names in ``Sample``."""

    completion: str
    actions: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextDecoder:
    """A decoder that changes how the text is read but not how tokens are chosen.

    Attributes:
        about: one line for the help.
        read: turns the emitted text, and why it ended, into a program.
        stop: its own stop strings, if it ignores the request's (they would cut its actions).
    """

    about: str
    read: Callable[[str, FinishReason], Decoded]
    stop: tuple[str, ...] | None = None

    def stops(self, requested: tuple[str, ...]) -> tuple[str, ...]:
        """The stop strings in force for a request."""
        return requested if self.stop is None else self.stop


# Two empty edits end a sequence in LintSeq's format, so there is no need to wait for the EOS.
_END_OF_EDITS = "\n<|diff|>\n<|diff|>"


def _read_text(text: str, _: FinishReason) -> Decoded:
    return Decoded(text)


def _read_edits(text: str, finish_reason: FinishReason) -> Decoded:
    from codegen.lintseq import resolve

    if finish_reason == "stop":
        text += _END_OF_EDITS
    resolution = resolve(text, recount=True)
    meta = {
        "edits": len(resolution.edits),
        "malformed": len(resolution.malformed),
        "complete": resolution.complete,
    }
    return Decoded(resolution.program, actions=text, meta=meta)


DECODERS: Mapping[str, TextDecoder] = {
    "sample": TextDecoder("the text is the program", _read_text),
    "edit_sequence": TextDecoder(
        "the text is a LintSeq edit sequence", _read_edits, stop=(_END_OF_EDITS,)
    ),
}


def find_decoder(decoder: Decoder) -> TextDecoder:
    """Looks a decoder up by name.

    Raises:
        ConfigError: for an unknown name or option, with the known ones.
    """
    if decoder.name not in DECODERS:
        raise ConfigError(
            f"There is no decoder {decoder.name!r}.", f"Decoders are: {', '.join(DECODERS)}."
        )
    if decoder.options:
        raise ConfigError(
            f"The decoder {decoder.name!r} takes no option {next(iter(decoder.options))!r}."
        )
    return DECODERS[decoder.name]
