"""The generator protocol and the built-in generators Whole and Plain.

A generator is a pure function from an example to training texts, with a name and a configuration:
any picklable object with ``name`` and ``generate(example, rng)``, preferably a frozen dataclass, or
a :class:`~codegen.core.config.Config`, whose fields are the options of its command.

To skip an example, ``generate`` raises an exception with a string attribute ``reason``, a short
stable word, such as :class:`Skip`. With any other exception the example counts as failed, under
the exception's name. A :class:`~codegen.core.errors.ConfigError` aborts the run.

A generator that is faster with many examples at once may also have ``generate_many(items)``: for
each (example, rng) pair it returns ``generate``'s list of training texts or exception. Its base
class is :class:`~codegen.core.records.BatchGenerator`.
The result for one pair must not depend on the others.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, get_type_hints

from codegen.core import plugins
from codegen.core.errors import ConfigError, Skip, nearest
from codegen.core.records import BatchGenerator, DataRecord, Example, Segment, TrainingText
from codegen.lintseq import LintSeq, normalize


class TextGenerator(Protocol):
    """Converts an example to training texts."""

    @property
    def name(self) -> str:
        """The method's name, as in the data and on the command line."""
        ...

    def generate(self, example: Example, rng: random.Random) -> Iterable[DataRecord]:
        """Yields training texts, determined by the example, the configuration and ``rng``.

        Raises:
            Exception: to skip the example; must have an attribute ``reason``.
        """
        ...


@dataclass(frozen=True, slots=True)
class Whole(BatchGenerator):
    r"""The baseline of LintSeq: the instruction, then the whole program.

    The text is ``instruction + "\n" + response``, as in the baseline of the LintSeq reference code.
    Examples that :class:`codegen.lintseq.LintSeq` with its defaults rejects at this seed are
    rejected for the same reason, and programs have the same normal form: both datasets contain the
    same examples and programs, and differ only in the method.
    """

    name: str = dataclasses.field(default="whole", init=False)

    def generate_many(self, items):
        """Returns the texts or the exception of :meth:`generate` for each item."""
        answers = LintSeq(audit=0.0).generate_many(items)
        return [
            answer if isinstance(answer, Exception) else [self._text(example)]
            for (example, _), answer in zip(items, answers, strict=True)
        ]

    def _text(self, example: Example) -> TrainingText:
        return TrainingText(
            id=f"{example.id}#whole",
            example_id=example.id,
            generator=self.name,
            segments=(
                Segment(example.instruction + "\n", False),
                Segment(normalize(example.program), True),
            ),
        )


@dataclass(frozen=True, slots=True)
class Plain:
    """The instruction, then the unchanged program, which is trained."""

    name: str = dataclasses.field(default="plain", init=False)

    def generate(self, example: Example, rng: random.Random) -> Iterator[TrainingText]:
        """Yields one training text.

        Raises:
            Skip: if the program is empty.
        """
        if not example.program.strip():
            raise Skip("empty", "the program is empty")
        segments = (Segment(example.instruction, False), Segment(example.program, True))
        yield TrainingText(f"{example.id}#plain", example.id, self.name, segments)


def make(name: str, /, **options: object) -> TextGenerator:
    """Creates a generator by name (:mod:`codegen.core.plugins`).

    Raises:
        ConfigError: if the name or an option is unknown.
        CodegenError: if the generator's package is broken.
    """
    generator = plugins.load("generators", name)
    if plugins.package_of("generators", name):
        options = _checked(name, generator, options)
    try:
        return generator(**options)
    except TypeError as error:
        raise ConfigError(f"Generator {name!r}: {error}.") from None


def _checked(name: str, kind: object, options: Mapping[str, object]) -> dict[str, object]:
    """Converts the options of a plugin's generator to the types of its dataclass fields.

    Raises:
        ConfigError: for an unknown option or one of the wrong type.
    """
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

    if not dataclasses.is_dataclass(kind):
        return dict(options)
    known = [field.name for field in dataclasses.fields(kind) if field.init]
    types = get_type_hints(kind)
    checked = {}
    for key, value in options.items():
        if key not in known:
            hint = f"{nearest(key, known)} Options: {', '.join(known) or 'none'}."
            raise ConfigError(f"Generator {name!r}: unknown option {key!r}.", hint.strip())
        try:
            adapter = TypeAdapter(types[key], config=ConfigDict(arbitrary_types_allowed=True))
            checked[key] = adapter.validate_python(value)
        except PydanticUserError:  # a type with its own configuration
            checked[key] = value
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise ConfigError(f"Generator {name!r}: option {key} is {value!r}: {reason}.") from None
    return checked
