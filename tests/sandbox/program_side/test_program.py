"""The program's side of the wire, compiled and in Python: values, names, threads, descriptors."""

from __future__ import annotations

import inspect
import random
import struct
from typing import Any

import pytest

from codegen.sandbox import Job, Limits, Sandbox
from codegen.sandbox.protocol import wire

# Expressions, so that program and test make the same values without a way between them.
VALUES = [
    *("None", "True", "False", "0", "-1", "2**63 - 1", "-2**63", "2**63", "-2**63 - 1", "7**3000"),
    *("0.0", "-0.0", "0.1", "1e300 * 1e10", "-1e300 * 1e10", "1e300 * 1e10 * 0", "5e-324", "1e22"),
    *(
        "''",
        "'a\"b\\\\c'",
        "'\\x00\\x1f\\x7f\\n\\t'",
        "'\\x80\\xff\\u20ac'",
        "'\\U0001f600\\U0010ffff'",
    ),
    *("'\\ud800'", "'x\\udfffy'", "'</script>'", "b'\\x00\\xff'", "bytearray(b'q')", "1j - 2"),
    *("[]", "()", "{}", "set()", "frozenset()", "[[], (), {}, [None]]", "{1: 'a', 'b': (2, [3])}"),
    *("{(1, 'x'), 2, None}", "frozenset({1, (2,)})", "{(1,): {2: {3}}}", "[1, 1.0, True, '1']"),
    *("range(2, 9, 3)", "int", "...", "[7**50, 'after']", "{'k': b'v'}", "[float, {'s': 1j}]"),
]


def same(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return struct.pack("d", left) == struct.pack("d", right) or left != left != right != right
    if isinstance(left, complex):
        return same(left.real, right.real) and same(left.imag, right.imag)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    return left == right


def _random_value(rng: random.Random, depth: int) -> Any:
    scalars = [
        lambda: rng.choice((None, True, False)),
        lambda: rng.randint(-(1 << rng.randint(0, 70)), 1 << rng.randint(0, 70)),
        lambda: struct.unpack("d", rng.randbytes(8))[0] if rng.random() < 0.5 else rng.random(),
        lambda: "".join(
            chr(rng.choice((rng.randrange(128), rng.randrange(0x110000)))) for _ in "123"
        ),
    ]
    if depth == 0 or rng.random() < 0.4:
        return rng.choice(scalars)()
    items = [_random_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    kind = rng.choice((list, tuple, dict))
    return {repr(item): item for item in items} if kind is dict else kind(items)


def _expression(value: Any) -> str:
    # repr knows no way to write these two
    return repr(value).replace("nan", "(1e999 * 0)").replace("inf", "1e999")


def test_values_come_back_as_they_are(sandbox: Sandbox) -> None:
    rng = random.Random(0)
    made = [_random_value(rng, 4) for _ in range(300)]
    values = "VALUES = [" + ", ".join([*VALUES, *map(_expression, made)]) + "]\n"
    program = (
        values
        + "def f(n):\n    return VALUES[n]\ndef echo(*values, **named):\n    return values, named\n"
    )
    test = (
        f"import struct\nfrom typing import Any\n{inspect.getsource(same)}{values}"
        "for n, value in enumerate(VALUES):\n"
        "    assert same(f(n), value), (n, value)\n"
        "    assert same(echo(value, x=value), ((value,), {'x': value})), (n, value)\n"
    )
    outcome = sandbox.run(Job(program, test=test))
    assert outcome.passed, outcome


@pytest.mark.parametrize(("depth", "status"), [(99, "passed"), (101, "output_limit")])
def test_depth(sandbox: Sandbox, depth: int, status: str) -> None:
    program = f"def f():\n    x = 1\n    for _ in range({depth}):\n        x = [x]\n    return x\n"
    assert sandbox.run(Job(program, test="assert f()\n")).status == status


def test_a_subclass_of_a_plain_type_is_its_content(sandbox: Sandbox) -> None:
    program = (
        "class Int(int):\n    def __eq__(self, other):\n        return True\n"
        "class Text(str):\n    def __eq__(self, other):\n        return True\n"
        "class List(list):\n    def __eq__(self, other):\n        return True\n"
        "class Dict(dict):\n    def __eq__(self, other):\n        return True\n"
        "def f(n):\n"
        "    return [Int(), [Int()], (Text(),), {'k': List()}, Dict(), {1: {2: [Text()]}}][n]\n"
    )
    for number in range(6):
        test = (
            "contents = [0, [0], ('',), {'k': []}, {}, {1: {2: ['']}}]\n"
            f"assert f({number}) == contents[{number}]\nassert f({number}) != 5\n"
        )
        assert sandbox.run(Job(program, test=test)).passed, number
        lie = f"assert f({number}) == 5\n"
        assert sandbox.run(Job(program, test=lie)).status == "wrong", number


def test_names_of_all_kinds(sandbox: Sandbox) -> None:
    program = (
        "import math, os.path as p\n"
        "π = 3\n_x, __y, K = 1, 2, [4]\n"
        "class C:\n    def __init__(self):\n        self.v = 5\n"
        "globals()['not a name'] = 1\n"
        "globals()[7] = 1\n"
        "f = lambda: K\n"
    )
    test = "assert (π, _x, f()) == (3, 1, K)\nassert math.pi > π\n"
    assert sandbox.run(Job(program, test=test)).passed


@pytest.mark.parametrize("name", ["'a\"b\\\\'", "'é\U0001f600'", "'\\ud800'", "3", "None"])
def test_a_module_with_a_strange_name(sandbox: Sandbox, name: str) -> None:
    program = (
        f"import types\nm, n = types.ModuleType('m'), types.ModuleType('n')\n"
        f"m.__name__ = {name}\ndel n.__name__\n"
        "def f():\n    return 1\n"
    )
    outcome = sandbox.run(Job(program, test="assert f() == 1\n"))
    assert outcome.passed, outcome


def test_arguments_that_only_json_carries(sandbox: Sandbox) -> None:
    program = "def f(g, x):\n    return g(x)\ndef h(x):\n    return (type(x).__name__, list(x))\n"
    test = (
        "import collections\n"
        "assert f(h, bytearray(b'a')) == ('bytearray', [97])\n"
        "assert h(collections.deque([1])) == ('deque', [1])\n"
        "assert h(collections.Counter('a')) == ('Counter', ['a'])\n"
        "assert h(iter([1, 2]))[1] == [1, 2]\n"
        "assert h([1]) == ('list', [1])\n"
    )
    outcome = sandbox.run(Job(program, test=test))
    assert outcome.passed, outcome


def test_encode_call_takes_exact_types_alone() -> None:
    class Int(int):
        pass

    for value in (1, "a", [1, (2.5, None)], {"k": {1}}, frozenset({b"b"}), 1j):
        assert wire.encode_call("f", (value,), {}) is not None
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    for value in (
        Int(1),
        bytearray(b""),
        memoryview(b""),
        [Int(1)],
        {1: Int(1)},
        len,
        deep,
        range(2),
    ):
        assert wire.encode_call("f", (value,), {}) is None, value
        assert wire.encode_call("f", (), {"x": value}) is None, value


def test_threads_and_signals_of_the_program_go_on_between_calls(sandbox: Sandbox) -> None:
    program = (
        "import signal, threading, time\n"
        "ticks, alarms = [0], [0]\n"
        "def tick():\n    while True:\n        ticks[0] += 1\n        time.sleep(0.001)\n"
        "threading.Thread(target=tick, daemon=True).start()\n"
        "def ring(*_):\n    alarms[0] += 1\n"
        "signal.signal(signal.SIGALRM, ring)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)\n"
        "def seen():\n    return ticks[0], alarms[0]\n"
    )
    test = (
        "import time\nbefore = seen()\ntime.sleep(0.5)\nafter = seen()\n"
        "assert after[0] > before[0] + 5 and after[1] > before[1] + 2, (before, after)\n"
    )
    outcome = sandbox.run(Job(program, test=test))
    assert outcome.passed, outcome


def test_executed_processes_have_no_way_to_the_tests(sandbox: Sandbox) -> None:
    code = (
        "import os\nfor fd in range(3, 64):\n    try:\n        os.fstat(fd)\n"
        "    except OSError:\n        continue\n    print(fd)\n"
    )
    program = (
        "import subprocess, sys\n"
        f"def f():\n    run = subprocess.run([sys.executable, '-S', '-c', {code!r}], "
        "capture_output=True, text=True, close_fds=False)\n"
        "    return run.returncode, run.stdout\n"
    )
    outcome = sandbox.run(Job(program, test="assert f() == (0, ''), f()\n"))
    assert outcome.passed, outcome


def test_a_handler_that_raises_ends_the_program(sandbox: Sandbox) -> None:
    program = (
        "import signal\ndef ring(*_):\n    raise ValueError('ring')\n"
        "signal.signal(signal.SIGALRM, ring)\nsignal.setitimer(signal.ITIMER_REAL, 0.1)\n"
        "def f():\n    return 1\n"
    )
    outcome = sandbox.run(Job(program, test="import time\ntime.sleep(0.4)\nassert f() == 1\n"))
    assert outcome.status in ("exited", "error"), outcome


def test_a_program_of_megabytes(sandbox: Sandbox) -> None:
    program = "DATA = '" + "x" * (3 << 20) + "'\ndef f():\n    return len(DATA)\n"
    test = f"# {'y' * (1 << 20)}\nassert f() == 3 << 20\nassert DATA[:2] == 'xx'\n"
    assert sandbox.run(Job(program, test=test)).passed


def test_the_smallest_limits(sandbox: Sandbox) -> None:
    limits = Limits(open_files=16, processes=1, file_mib=1, memory_mib=128)
    job = Job("def f():\n    return 1\n", test="assert f() == 1\n", limits=limits)
    assert sandbox.run(job).passed
