"""What a helper that nothing defines gives, according to a model."""

from __future__ import annotations

from typing import Any

from codegen.cogex.errors import Invalid
from codegen.cogex.hybrid import LeafCall, leaf_program
from codegen.cogex.model import Ask, PseudoModel

INSTRUCTION = "Do what the name of the function says."


class LeafReader:
    """Asks a model: the helper's call becomes a program of one step, which the model emulates."""

    def __init__(self, model: PseudoModel, temperature: float = 0.05) -> None:
        self.model, self.temperature = model, temperature

    def __call__(self, leaf: LeafCall) -> Any:
        """The value.

        Raises:
            Invalid: if the model gives none that can be read.
        """
        program, call = leaf_program(leaf)
        given = ", ".join(map(repr, (*leaf.args, *leaf.named.values())))
        ask = Ask(INSTRUCTION, given, program, call, key=f"leaf/{leaf}")
        ((_, emulation),) = self.model.emulate([ask], self.temperature)
        if emulation.failure:
            raise Invalid(emulation.failure.partition(":")[0], emulation.text[:200])
        return emulation.answer
