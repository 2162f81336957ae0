"""Orders survive their packets, and C and Python have the same constants."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from codegen.sandbox.isolation import linux, serving
from codegen.sandbox.program_side import program
from codegen.sandbox.protocol import orders, wire


def test_orders_survive_their_packets() -> None:
    order = orders.JobRequest(
        7, ("payload", "channel", "stdout"), 256, 16, 64, 15, 0.25, 0.75, 65536, kill=False
    )
    assert orders.read_order(order.pack()) == order
    assert len(order.pack()) == 64  # as _launcher.c has it
    assert orders.read_order(orders.JobRequest(8, kill=True).pack()).kill
    ended = orders.JobEnded(9, "memory", 9, 0.5, 1.5, 12.25, b"printed")
    assert orders.read_ended(ended.pack()) == ended
    assert len(orders.JobEnded(9, "exit").pack()) == 40


def test_the_constants_in_c_are_those_in_python() -> None:
    folder = Path(inspect.getfile(linux)).parent
    source = "".join((folder / name).read_text() for name in ("_launcher.c", "_program.c"))

    def value(name: str) -> float:
        found = re.findall(rf"\b{name} = ([^,;}}]+)", source)
        assert len(found) == 1, name
        number, _, shift = found[0].partition(" << ")
        return float(number) * 2 ** int(shift or 0)

    for module in (orders, program, serving, wire):
        names = [name for name in vars(module) if name.isupper() and f" {name} = " in source]
        assert names, module
        for name in names:
            assert value(name) == getattr(module, name), name
    reasons = re.search(r"enum \{ (EXIT.*?) \};", source)
    assert reasons is not None
    assert reasons[1].replace("ORDERED", "ORDER").lower().split(", ") == list(orders.REASONS)
    kinds = re.search(r"enum \{ (PAYLOAD.*?), KINDS_OF_FD \};", source)
    assert kinds is not None
    assert kinds[1].lower().split(", ") == list(orders.FDS)
