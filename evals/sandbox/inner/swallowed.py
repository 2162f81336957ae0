"""Whether an exception of the program was caught by the tests, or lost in Python's own protocols.

``all(map(f, items))`` takes a StopIteration of ``f`` for the end of ``items``; an old-style
iteration takes an IndexError for it, ``hasattr`` an AttributeError for an answer. So a program
could end its tests' loops early and pass. Only tests that say so catch an exception of the program:
by ``except``, by ``with``, or by the context managers and futures of the standard library.

The interpreter notes in an exception's traceback which frames it has reached (each one as of
3.12, those with a handler before). What a protocol swallows leaves the last function's frame
without having reached a handler in the next.
"""

from __future__ import annotations

import types

# Where exceptions of the program are raised.
_RAISING = tuple(f"{__name__.rpartition('.')[0]}.{name}" for name in ("remote", "handles"))
# Modules of the standard library that catch an exception on behalf of the tests.
_CATCHING = frozenset(("asyncio", "concurrent", "contextlib", "unittest", "pytest", "_pytest"))
_GENERATORS = 0x20 | 0x80 | 0x200  # generators, coroutines, asynchronous generators
_TEST_FILES = frozenset(("<test>", "<setup>"))


def is_swallowed(error: BaseException) -> bool:
    """Whether an exception that was raised into the tests went away without their catching it."""
    traceback = error.__traceback__
    if traceback is None:
        return False  # assertRaises takes it off
    module = str(traceback.tb_frame.f_globals.get("__name__"))
    if module in _RAISING:
        return True
    if module == f"{__name__.rpartition('.')[0]}.checker":
        return False
    code = traceback.tb_frame.f_code
    if code.co_flags & _GENERATORS and isinstance(error, (StopIteration, StopAsyncIteration)):
        return False  # it goes on as a RuntimeError (PEP 479)
    if not _has_handler(code, traceback.tb_lasti):
        return True
    return code.co_filename not in _TEST_FILES and module.split(".")[0] not in _CATCHING


def _has_handler(code: types.CodeType, offset: int) -> bool:
    """Whether an instruction stands within a ``try`` or a ``with``."""
    import dis

    table = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    return any(entry.start <= offset < entry.end for entry in table)
