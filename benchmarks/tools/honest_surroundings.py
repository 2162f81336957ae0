"""Right programs that use what lies around them: threads, files, sockets, processes, ``/proc``;
that read their input by any idiom; and that end as scripts do. Data, not code: only texts.

Those with mode ``stdio`` do the same where Python runs them as scripts; a test sees to that.
"""

from __future__ import annotations

from collections.abc import Mapping

from codegen.evals.sandbox import Job

_USES = [
    "import threading, time\n    t = [threading.Thread(target=time.sleep, args=(0.2,))"
    " for _ in range(100)]\n    [x.start() for x in t]\n    [x.join() for x in t]",
    "f = [open(f'{n}', 'w') for n in range(100)]",
    "import socket\n    assert socket.gethostbyname('localhost') == '127.0.0.1'\n"
    "    assert socket.gethostbyname(socket.gethostname()) == '127.0.0.1'",
    "import socket\n    s = socket.create_server(('localhost', 0))\n"
    "    c = socket.create_connection(('localhost', s.getsockname()[1]))\n"
    "    c.send(b'x')\n    assert s.accept()[0].recv(1) == b'x'",
    "import os\n    assert os.path.basename(__file__).endswith('.py')",
    "import getpass, os, pwd, grp\n    assert getpass.getuser() == 'sandbox'\n"
    "    assert pwd.getpwuid(os.getuid()).pw_name == grp.getgrgid(os.getgid()).gr_name",
    "text = open('/proc/self/status').read()\n    assert 'VmRSS' in text",
    "import os\n    assert open(f'/proc/{os.getpid()}/stat').read().split()[0] == '1'",
    "import os\n    assert {'0', '1', '2'} <= set(os.listdir('/proc/self/fd'))",
    "assert 'MemTotal' in open('/proc/meminfo').read() and open('/proc/cpuinfo').read()",
    "import socket\n    a, b = socket.socketpair()\n    a.send(b'x' * 1000)\n"
    "    assert len(b.recv(2000)) == 1000",
    "import asyncio\n    async def m():\n        p = await asyncio.create_subprocess_exec("
    "'echo', 'x', stdout=-1)\n        assert (await p.communicate())[0] == b'x\\n'\n"
    "        s = await asyncio.start_server(lambda r, w: w.write(b'y'), 'localhost', 0)\n"
    "        r, w = await asyncio.open_connection(*s.sockets[0].getsockname()[:2])\n"
    "        assert await r.readexactly(1) == b'y'\n    asyncio.run(m())",
    "import multiprocessing as m\n    with m.Pool(4) as p:\n"
    "        assert p.map(abs, [-1] * 9) == [1] * 9",
    "import multiprocessing as m\n    q, v = m.Queue(), m.Value('i', 3)\n    q.put(v.value)\n"
    "    assert q.get() == 3",
    "import sqlite3\n    c = sqlite3.connect('x.db')\n    c.execute('create table t (a)')\n"
    "    c.execute('insert into t values (1)')\n    c.commit()\n"
    "    assert sqlite3.connect('x.db').execute('select a from t').fetchall() == [(1,)]",
    "import os\n    f = open('x', 'w')\n    f.write('x')\n    f.flush()\n"
    "    os.fsync(f.fileno())\n    os.sync()",
    "import shutil, tempfile\n    d = tempfile.mkdtemp()\n    open(f'{d}/a', 'w').write('x')\n"
    "    shutil.copy(f'{d}/a', f'{d}/b')\n    shutil.copytree(d, 'c')\n    shutil.rmtree(d)",
    "import fcntl\n    f = open('x', 'w')\n    fcntl.flock(f, fcntl.LOCK_EX)\n"
    "    fcntl.lockf(f, fcntl.LOCK_EX)",
    "import socket\n    s = socket.socket()\n    s.setsockopt(1, socket.SO_RCVBUF, 1 << 20)\n"
    "    s.setsockopt(1, socket.SO_REUSEADDR, 1)\n    s.setsockopt(6, socket.TCP_NODELAY, 1)",
]

_READS = [
    "import sys\nprint(sys.stdin.read(), end='')",
    "import sys\nprint(*sys.stdin, sep='', end='')",
    "import sys\nprint(sys.stdin.buffer.read().decode(), end='')",
    "print(open(0).read(), end='')",
    "print(open(0, 'rb', closefd=False).read().decode(), end='')",
    "print(open('/dev/stdin').read(), end='')",
    "print(open('/proc/self/fd/0').read(), end='')",
    "import os\nprint(os.read(0, 1000).decode(), end='')",
    "import io, os\nprint(io.BytesIO(os.read(0, os.fstat(0).st_size)).read().decode(), end='')",
    "import fileinput\nprint(*fileinput.input(), sep='', end='')",
    "import select, sys\nassert select.select([sys.stdin], [], [], 5)[0]\n"
    "print(sys.stdin.readline() + sys.stdin.read(), end='')",
    "while True:\n    try:\n        print(input())\n    except EOFError:\n        break",
    "import subprocess\nsubprocess.run(['cat'])",
    "from pathlib import Path\nprint(Path('/dev/stdin').read_text(), end='')",
    "import sys, threading\nt = threading.Thread(target=lambda: print(sys.stdin.read(), end=''))\n"
    "t.start()",
    "import mmap\nprint(mmap.mmap(0, 0, prot=mmap.PROT_READ)[:].decode(), end='')",
]

_INPUT = "3 4\nπ and more\n\nlast\n"
_ENDS = [
    "import sys\nsys.exit()",
    "import sys\nsys.exit(0)",
    "exit()",
    "quit(0)",
    "raise SystemExit",
    "def f():\n    exit(0)\nf()",
    "import os, sys\nsys.stdout.flush()\nos._exit(0)",
    "import threading, sys\nthreading.Thread(target=sys.exit).start()",
    "import atexit\natexit.register(print, end='')",
]
_WRITES = [
    "print(3)",
    "import os\nos.write(1, b'3')",
    "import sys\nsys.stdout.buffer.write(b'3')",
    "open(1, 'w').write('3')",
    "open('/dev/stdout', 'w').write('3')",
    "import atexit\natexit.register(print, 3)",
    "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), print(3))).start()",
    "import os\nif os.fork() == 0:\n    print(3)\nelse:\n    os.wait()",
    "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'print(3)'])",
    "import os\nos.system('echo 3')",
    "import multiprocessing as m\nif __name__ == '__main__':\n"
    "    p = m.Process(target=print, args=(3,))\n    p.start()\n    p.join()",
    "import multiprocessing as m\nif __name__ == '__main__':\n    m.set_start_method('spawn')\n"
    "    p = m.Process(target=print, args=(3,))\n    p.start()\n    p.join()",
    "from concurrent.futures import ProcessPoolExecutor\ndef f(x): return x\n"
    "if __name__ == '__main__':\n    with ProcessPoolExecutor(2) as p: print(*p.map(f, [3]))",
    "print(open(__file__).read().count('#') + 1)\n#",
    "import inspect\ndef f(): return 3\nprint(len(inspect.getsource(f)) - 15)",
    "import atexit\natexit.register(print, 3)\nexit(0)",
    "class A:\n    def __del__(self):\n        print(3)\na = A()",
]


def _jobs() -> Mapping[str, Job]:
    jobs: dict[str, Job] = {}
    for body in _USES:
        program = f"def f():\n    {body}\n    return 3\n"
        jobs[f"uses: {body}"] = Job(program, test="assert f() == 3\n")
    for program in _READS:
        job = Job(program, mode="stdio", stdin=_INPUT, expected_stdout=_INPUT)
        jobs[f"reads: {program}"] = job
    for program in _WRITES:
        jobs[f"writes: {program}"] = Job(program, mode="stdio", expected_stdout="3\n")
    for end in _ENDS:
        jobs[f"ends: {end}"] = Job(f"print(3)\n{end}\n", mode="stdio", expected_stdout="3\n")
    lines = "line\n" * 60_000  # more than is kept if no output is expected
    jobs["writes: much"] = Job(
        "for _ in range(60000): print('line')", mode="stdio", expected_stdout=lines
    )
    return jobs


SURROUNDINGS = _jobs()
