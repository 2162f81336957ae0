"""Programs in each language: one that is right, and some that do what programs must not.

``{port}`` is a port of this machine, ``{host}`` a file on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from suites import suite


@dataclass(frozen=True)
class Programs:
    """The programs of a language.

    Attributes:
        right: defines f(x) = 2 x; the text of a problem's prompt and solution.
        wrong: defines another f.
        calls: writes f(1) and f(20) as answers.
        test: the same as a test beside the program, which fails if they are not 2 and 40.
        echo: reads a line and prints it.
        broken: does not compile, or is no program of the language.
        loop, memory, fork: never end; take all memory; start processes without end.
        network: says ``reached`` if it reaches the port.
        reads: prints the host's file.
        forgeries: name -> a program that claims to be right.
        patches: the same by changing what its tests call, which no test beside a program stops.
    """

    right: str
    wrong: str
    echo: str = ""
    broken: str = ""
    loop: str = ""
    memory: str = ""
    fork: str = ""
    network: str = ""
    reads: str = ""
    test: str = ""
    calls: str = ""
    forgeries: Mapping[str, str] = field(default_factory=dict)
    patches: Mapping[str, str] = field(default_factory=dict)


PROGRAMS = {name: Programs(**row) for name, row in suite("language_programs").items()}
