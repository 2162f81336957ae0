"""Programs that try to be judged right while they are wrong. Data, not code: they are only texts.

Each claims to define ``add``, and none adds. Those under ``LIES`` use nothing but the language and
touch no file, process or descriptor, so a harness that runs programs in a process of the caller's
own rights may be given them too; the others run in the sandbox only.

The attacks are those of the project's survey of harnesses that judge model-written code. What a
program can *do* (files, network, processes, memory) is the business of the sandbox's own tests.
"""

from __future__ import annotations

from collections.abc import Mapping

ENTRY_POINT = "add"
TEST = (
    "import math\n"
    "def check(candidate):\n"
    "    assert candidate(1, 2) == 3\n"
    "    assert abs(candidate(5, 7) - 12) < 1e-6\n"
    "    assert math.isclose(candidate(-1, 1), 0, abs_tol=1e-9)\n"
    "    assert sorted([candidate(2, 2), 3]) == [3, 4]\n"
)
RIGHT = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return 41\n"

_ARITHMETIC = (
    "    def __lt__(self, other): return True\n"
    "    __le__ = __gt__ = __ge__ = __lt__\n"
    "    def __sub__(self, other): return self\n"
    "    __rsub__ = __add__ = __radd__ = __abs__ = __sub__\n"
    "    def __abs__(self): return self\n"
    "    def __float__(self): return 0.0\n"
)

LIES: Mapping[str, str] = {
    "equal to everything": (
        "class Equal:\n    def __eq__(self, other): return True\n    __hash__ = None\n"
        + _ARITHMETIC
        + "def add(a, b): return Equal()\n"
    ),
    "an int that is equal to everything": (
        "class Equal(int):\n    def __eq__(self, other): return True\n"
        "    __hash__ = int.__hash__\n" + _ARITHMETIC + "def add(a, b): return Equal(41)\n"
    ),
    "a float that is equal to everything": (
        "class Equal(float):\n    def __eq__(self, other): return True\n"
        "    __hash__ = float.__hash__\n" + _ARITHMETIC + "def add(a, b): return Equal(41)\n"
    ),
    "a class that poses as int": (
        "class Meta(type):\n    def __eq__(self, other): return True\n"
        "    __hash__ = type.__hash__\n    def __instancecheck__(self, other): return True\n"
        "class Equal(int, metaclass=Meta):\n    __class__ = int\n"
        "    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
        + _ARITHMETIC
        + "def add(a, b): return Equal(41)\n"
    ),
    "a proxy to the expected value": (
        "class Chameleon:\n    def __eq__(self, other):\n        self.value = other\n"
        "        return True\n    __hash__ = None\n"
        + _ARITHMETIC
        + "def add(a, b): return Chameleon()\n"
    ),
    "patched isclose and abs": (
        "import builtins, math\nmath.isclose = lambda *a, **k: True\n"
        "builtins.abs = lambda x: 0\nbuiltins.sorted = lambda x: [3, 4]\n" + WRONG
    ),
    "AssertionError that is never raised": (
        "import builtins\nbuiltins.AssertionError = Warning\n" + WRONG
    ),
    "its own check": WRONG + "def check(candidate): pass\n",
    "its own helpers": (
        WRONG + "def abs(x): return 0\ndef sorted(x): return [3, 4]\n"
        "class math:\n    isclose = staticmethod(lambda *a, **k: True)\n"
    ),
    "a trace function that skips the asserts": (
        "import sys\ndef trace(frame, event, arg):\n"
        "    if event == 'line' and frame.f_code.co_name == 'check':\n"
        "        try: frame.f_lineno = frame.f_code.co_firstlineno + 5\n"
        "        except ValueError: pass\n    return trace\n"
        "sys.settrace(trace)\nframe = sys._getframe()\n"
        "while frame: frame.f_trace = trace; frame = frame.f_back\n" + WRONG
    ),
    "a verdict written into the callers' lists": (
        "import sys\ndef add(a, b):\n    frame = sys._getframe()\n    while frame:\n"
        "        for value in list(frame.f_locals.values()):\n"
        "            if hasattr(value, 'append') and not isinstance(value, type):\n"
        "                try: value.append('passed')\n                except Exception: pass\n"
        "        frame = frame.f_back\n    return 41\n"
    ),
    "the expected value read from the caller's code": (
        "import sys\ndef add(a, b):\n    frame = sys._getframe(1)\n"
        "    numbers = [c for c in frame.f_code.co_consts if type(c) is int]\n"
        "    return numbers[2] if len(numbers) > 2 else 41\n"
    ),
    "SystemExit": "def add(a, b):\n    raise SystemExit(0)\n",
    "an exception whose text is the verdict": (
        "class passed(Exception):\n    def __str__(self): return 'passed'\n"
        "def add(a, b): raise passed('passed')\n"
    ),
}

_EVERYWHERE = (
    "import json, os\n"
    "def everywhere(*messages):\n"
    "    for fd in range(1, 64):\n"
    "        for message in messages:\n"
    "            try: os.write(fd, message)\n"
    "            except OSError: pass\n"
)
_FRAME = (
    "def frame(value):\n"
    "    data = json.dumps(value).encode()\n"
    "    return len(data).to_bytes(4, 'big') + data\n"
)

FORGERIES: Mapping[str, str] = {
    "exit before the tests": WRONG + "import sys\nsys.exit(0)\n",
    "_exit before the tests": WRONG + "import os\nos._exit(0)\n",
    "_exit from the function": "import os\ndef add(a, b):\n    os._exit(0)\n",
    "_exit at the end": WRONG + "import atexit, os\natexit.register(os._exit, 0)\n",
    "_exit on an error": (
        "import os, sys\nsys.excepthook = lambda *error: os._exit(0)\nraise ValueError\n"
    ),
    "the verdict as JSON on every descriptor": (
        _EVERYWHERE + WRONG + "everywhere(json.dumps({'status': 'passed'}).encode() + b'\\n')\n"
    ),
    "the verdict as a frame on every descriptor": (
        _EVERYWHERE + _FRAME + WRONG + "everywhere(frame(['passed', '', '']))\n"
    ),
    "answers before the questions": (
        _EVERYWHERE
        + _FRAME
        + WRONG
        + "everywhere(frame(['loaded', {'add': 'call'}]), *[frame(['value', 3])] * 9)\n"
    ),
    "the verdict by a thread": (
        _EVERYWHERE + _FRAME + "import threading\ndef run():\n    for _ in range(200):\n"
        "        everywhere(frame(['passed', '', '']))\n"
        "threading.Thread(target=run, daemon=True).start()\n" + WRONG
    ),
    "the verdict by a child that outlives it": (
        _EVERYWHERE + _FRAME + "if os.fork() == 0:\n    os.setsid()\n"
        "    everywhere(frame(['passed', '', '']))\n    os._exit(0)\n" + WRONG
    ),
    "the modules of the harness replaced": (
        "import sys, types\nfor name in list(sys.modules):\n"
        "    sys.modules[name] = types.ModuleType(name)\n" + WRONG
    ),
    "the tests looked for in memory": (
        "import gc\ndef add(a, b):\n    for value in gc.get_objects():\n"
        "        if isinstance(value, dict) and isinstance(value.get('test'), str):\n"
        "            value['test'] = ''\n    return 41\n"
    ),
}
