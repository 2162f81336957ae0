"""Objects that lie about comparison, order, membership or their class decide nothing."""

from __future__ import annotations

import pytest

from codegen.evals.sandbox import Job, Sandbox

LIAR = """\
class E:
    def __init__(self,*a): pass
    def __eq__(self,o): return True
    def __ne__(self,o): return False
    def __bool__(self): return True
    def __len__(self): return 3
    def __hash__(self): return 3
    def __lt__(self,o): return True
    __le__=__gt__=__ge__=__lt__
    def __sub__(self,o): return self
    __rsub__=__add__=__radd__=__mul__=__truediv__=__rtruediv__=__mod__=__pow__=__xor__=__and__=__floordiv__=__neg__=__sub__
    def __abs__(self): return 0
    def __float__(self): return 0.0
    def __int__(self): return 0
    def __index__(self): return 0
    def __round__(self,n=None): return 0
    def __contains__(self,o): return True
    def __iter__(self): return iter([self]*3)
    def __getitem__(self,i): return self
    def __getattr__(self,n): return self
    def __call__(self,*a,**k): return self
    def __instancecheck__(self,o): return True
    @property
    def __class__(self): return int
    def __str__(self): return 'x'
    def __format__(self,s): return 'x'
"""

ADD = "def add(a, b):\n    return E()\n"
PROGRAMS = {
    "object": LIAR + ADD,
    "object in a list": LIAR + "def add(a, b):\n    return [E()]\n",
    "class": LIAR + "class add(E):\n    pass\n",
    "the class itself": LIAR + "add = E\n",
    "namedtuple": (
        "from collections import namedtuple\n"
        "class E(namedtuple('E','x')):\n"
        "  def __eq__(s,o): return True\n"
        "  def __ne__(s,o): return False\n"
        "  __hash__=None\n"
        "  def __sub__(s,o): return 0\n"
        "def add(a,b): return E(1)\n"
    ),
    "dataclass": (
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class E:\n"
        "  x:int=1\n"
        "  def __eq__(s,o): return True\n"
        "def add(a,b): return E()\n"
    ),
    "enumeration": (
        "import enum\n"
        "class E(enum.IntEnum):\n"
        "  A=41\n"
        "  def __eq__(s,o): return True\n"
        "  def __ne__(s,o): return False\n"
        "  __hash__=int.__hash__\n"
        "  def __sub__(s,o): return 0\n"
        "def add(a,b): return E.A\n"
    ),
    "metaclass": (
        "class M(type):\n"
        "  def __eq__(c,o): return True\n"
        "  def __ne__(c,o): return False\n"
        "  __hash__=type.__hash__\n"
        "  def __instancecheck__(c,o): return True\n"
        "  def __sub__(c,o): return 0\n"
        "  def __lt__(c,o): return True\n"
        "class E(metaclass=M): pass\n"
        "def add(a,b): return E\n"
    ),
    "solution that returns itself": LIAR
    + "class Solution(E):\n    def add(self, a, b):\n        return self\n"
    + "def add(a, b):\n    return Solution().add(a, b)\n",
}
_SUBCLASS = LIAR.replace("    def __init__(self,*a): pass\n", "").partition("    @property")[0]
PROGRAMS |= {
    f"subclass of {base}": _SUBCLASS.replace("class E:", f"class E({base}):") + ADD
    for base in (
        *("int", "float", "str", "list", "dict", "tuple", "set", "frozenset", "bytes", "complex"),
    )
}

CASE = "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        "
# Each passes for a right program, which returns 3, or [1, 2, 3], or what is asked for.
TESTS = [
    "assert add(1,2)==3",
    "assert 3==add(1,2)",
    "assert not add(1,2)!=3",
    "assert add(1,2) in [3]",
    "assert add(1,2) in (3,4)",
    "assert {add(1,2)}=={3}",
    "assert abs(add(1,2)-3.0)<1e-6",
    "assert abs(3.0-add(1,2))<1e-6",
    "assert abs(add(1,2)/3.0-1)<1e-6",
    "import math\nassert math.isclose(add(1,2),3)",
    "assert round(add(1,2)-3,5)==0",
    "assert 2.9<add(1,2)<3.1",
    "assert list([add(1,2)])==[3]",
    "assert {3:1}[add(1,2)]",
    "assert 3 in add(1,2)",
    "assert all(x in add(1,2) for x in (1,2,3))",
    "assert str(add(1,2))=='3'",
    "assert f'{add(1,2)}'=='3'",
    "assert int(add(1,2))==3",
    "assert isinstance(add(1,2),int) and add(1,2)==3",
    "assert type(add(1,2)) is int",
    "assert sorted([add(1,2),0])==[0,3]",
    "assert max(add(1,2),2)==3",
    "assert sum([add(1,2)])==3",
    CASE + "self.assertEqual(add(1,2),3)",
    CASE + "self.assertAlmostEqual(add(1,2),3)",
    CASE + "self.assertIn(3,add(1,2))",
    CASE + "self.assertListEqual(add(1,2),[3])",
    CASE + "self.assertCountEqual(add(1,2),[3])",
    "assert add(1,2)^3==0",
    "assert [0,0,0,9][add(1,2)]==9",
    "assert all(abs(a-b)<1e-6 for a,b in zip([add(1,2)],[3]))",
    "import math\nassert math.dist([add(1,2)],[3])<1e-6",
    "assert add(1,2) is True",
    "assert abs(Solution().add(1,2)-3)<1e-3",
    "assert 3 in Solution().add(1,2)",
    "assert Solution().add(1,2)>2",
    "match add(1,2):\n  case 3: pass\n  case _: assert False",
    "from decimal import Decimal\nassert Decimal(3)==add(1,2)",
    "import collections\nassert collections.Counter([add(1,2)])==collections.Counter([3])",
    "assert add(1,2)<=3<=add(1,2)",
    "assert (add(1,2)-3)**2 < 1e-6",
    "assert -1e-6 < add(1,2)-3 < 1e-6",
]


def test_no_lie_passes(sandbox: Sandbox) -> None:
    jobs = [
        ((name, test), Job(program, test=test + "\n"))
        for name, program in PROGRAMS.items()
        for test in TESTS
        if "Solution" not in test or "Solution" in program
    ]
    assert len(jobs) > 600
    bad = {
        key: outcome
        for key, outcome in sandbox.map(jobs)
        if outcome.status not in ("wrong", "error")
    }
    assert not bad


# A program, and tests that it must not pass.
OTHERS = {
    "a mock's assertions taken away": (
        (
            "def f(m):\n"
            "  try: m.configure_mock(**{'assert_called_once_with': None})\n"
            "  except Exception: pass\n"
            "  try: m.assert_called_once_with=lambda *a,**k: None\n"
            "  except Exception: pass\n"
            "  try: m.reset_mock()\n"
            "  except Exception: pass\n"
        ),
        ("from unittest.mock import Mock\nm=Mock()\nf(m)\nm.assert_called_once_with(3)\n"),
    ),
    "the globals of a function of the tests": (
        (
            "def f(g):\n"
            "  for n in ('__globals__','__code__','__closure__','__self__','f_back','gi_frame'):\n"
            "    try: raise SystemError(repr(getattr(g,n)))\n"
            "    except AttributeError: pass\n"
            "  return 0\n"
        ),
        ("exp=3\nassert f(lambda x: exp)==exp\n"),
    ),
    "the class of an object of the tests changed": (
        ("def f(o):\n  o.__class__.__eq__=lambda *a: True\n  return o\n"),
        (
            "class A:\n"
            "  def __init__(s,x): s.x=x\n"
            "  def __eq__(s,o): return s.x==o.x\n"
            "  __hash__=None\n"
            "assert f(A(1))==A(2)\n"
        ),
    ),
    "a method of an object of the tests replaced": (
        ("def f(o):\n  o.__eq__=lambda *a: True\n  o.check=lambda: True\n"),
        (
            "class A:\n"
            "  def check(self): return False\n"
            "a=A()\n"
            "try: f(a)\n"
            "except AttributeError: pass\n"
            "assert a.check()\n"
        ),
    ),
    "an iteration ended early": (
        ("class E(AssertionError): pass\ndef f():\n  raise StopIteration\n"),
        ("def it():\n  yield f()\nok=True\nfor x in map(lambda _: f(),[1]): ok=False\nassert ok\n"),
    ),
    "an iteration of a callback ended early": (
        ("def g(x): raise StopIteration\ndef f(cb):\n  cb(3)\n  return 1\n"),
        ("got=[]\ndef cb(x): got.append(list(map(g,[1])))\nassert f(cb)==1 and got==[[]]\n"),
    ),
    "a global named as one of the tests": (
        ("expected=5\nresult=5\ndef f(): return 4\n"),
        ("expected=4+1\nassert f()==expected\n"),
    ),
    "a value that equals nothing left in an argument": (
        ("def f(d): d.clear(); d['a']=float('nan')\n"),
        ("d={'a':1}\nf(d)\nassert d=={'a':2}\n"),
    ),
    "an attribute of a class of the tests changed": (
        ("class B:\n  def __init_subclass__(c): c.want=4\ndef f(): return 4\n"),
        ("class T(B):\n  want=5\nassert f()==T.want\n"),
    ),
    "a method of a class of the tests replaced": (
        ("class B:\n  def __init_subclass__(c): c.want=lambda s: 4\ndef f(): return 4\n"),
        ("class T(B):\n  def want(self): return 5\nassert f()==T().want()\n"),
    ),
    "a module left in the tests' folder": (
        (
            "import os\n"
            "def f():\n"
            "  os.environ['PYTHONPATH']='/tmp'\n"
            "  open('/tmp/math.py','w').write('def isclose(*a): return True')\n"
            "  return 4\n"
        ),
        (
            "import os\n"
            "open('x','w').close()\n"
            "os.environ['A']='1'\n"
            "r=f()\n"
            "import math\n"
            "assert math.isclose(r,5)\n"
        ),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_the_tests_lend_is_not_turned_against_them(sandbox: Sandbox, name: str) -> None:
    program, test = OTHERS[name]
    outcome = sandbox.run(Job(program, test=test))
    assert outcome.status in ("wrong", "error"), outcome


# Makes numbers only when it has seen what is compared.
KNOWING = """\
class E:
    days = 0
    def __sub__(self, o): return E()
    __rsub__ = __radd__ = __mul__ = __pow__ = __truediv__ = __xor__ = __and__ = __sub__
    def __add__(self, o): return 0.0 if type(o) is E else E()
    def __neg__(self): return 0.0
    def __iter__(self): return iter(())
    __reversed__ = __iter__
    def __getitem__(self, i): return 0.0
    def is_integer(self): return True
    def total_seconds(self): return 0.0
def add(a, b): return E()
"""


def test_what_an_operator_has_shown_to_an_object_does_not_come_back(sandbox: Sandbox) -> None:
    tests = [
        "assert sum((a - b) ** 2 for a, b in zip([add(1, 2), add(3, 4)], [3.0, 7.0])) < 1e-6",
        "assert -1e-6 < -(add(1, 2) - 3.0) < 1e-6",
        "assert sorted(add(1, 2) ^ {1, 2}) == []",
        "assert list(reversed(add(1, 2) ^ {1, 2})) == []",
        "for item in add(1, 2) ^ {1, 2}: raise AssertionError",
        "assert all(abs(d) < 1e-6 for d in add(1, 2) - [3, 7])",
        "assert (add(1, 2) - [3])[0] == 0",
        "assert (add(1, 2) - 2.5).is_integer()",
        "from datetime import datetime as t\n"
        "assert (add(1, 2) - t(2024, 1, 1)).total_seconds() < 1",
        "from datetime import date\nassert (date(2024, 1, 1) - add(1, 2)).days == 0",
    ]
    jobs = [(test, Job(KNOWING, test=f"{test}\n")) for test in tests]
    believed = [test for test, outcome in sandbox.map(jobs) if outcome.status != "error"]
    assert not believed


def test_an_object_that_knows_nothing_of_the_tests_has_operators(sandbox: Sandbox) -> None:
    program = (
        "class V(tuple):\n"
        "    def __add__(self, o): return V(a + b for a, b in zip(self, o))\n"
        "class N:\n"
        "    def __init__(self, n): self.n = n\n"
        "    def __mul__(self, k): return N(self.n * k)\n"
        "    def __neg__(self): return N(-self.n)\n"
        "def v(*items): return V(items)\n"
        "def n(k): return N(k)\n"
    )
    for test in (
        "assert v(1, 2) + v(3, 4) == (4, 6)\n",
        "assert v(1, 2) + (3, 4) == (1, 2, 3, 4)\n",  # of the content: else V learns (3, 4)
        "assert V((1, 2)) + (3, 4) == (4, 6)\n",
        "assert (-(n(2) * 3)).n == -6\n",
    ):
        assert sandbox.run(Job(program, test=test)).passed, test


CATCHES = """\
import contextlib, unittest
from concurrent.futures import ThreadPoolExecutor
Error = AssertionError
Errors = (ValueError, Exception)
class Manager:
    def __enter__(self): return self
    def __exit__(self, *a): return True
    async def __aenter__(self): return self
    async def __aexit__(self, *a): return True
    def __sub__(self, o): return self
@contextlib.contextmanager
def managed():
    try: yield
    except BaseException: pass
def guarded(function):
    def inner(*a):
        try: return function(*a)
        except BaseException: pass
    return inner
def each(function, items):
    with ThreadPoolExecutor(1) as pool:
        for item in items: pool.submit(function, item)
class Base(unittest.TestCase):
    def run(self, result=None): return result
class Skip(unittest.SkipTest): pass
def skip(): raise unittest.SkipTest("later")
def skip_too(): raise Skip
def made(): return Manager()
def f(x): return 4
"""


def test_the_program_catches_no_failure_of_a_test(sandbox: Sandbox) -> None:
    case = "import unittest\nclass T({}):\n    def test(self):\n        {}\n"
    tests = [
        "with Manager(): assert f(1) == 3\n",
        "with Manager(): assert abs(made() - 3.0) < 1\n",
        "import asyncio\nasync def m():\n    async with Manager(): assert f(1) == 3\n"
        "asyncio.run(m())\n",
        "with managed(): assert f(1) == 3\n",
        "@managed()\ndef check(): assert f(1) == 3\ncheck()\n",
        "@guarded\ndef check(x): assert f(x) == 3\ncheck(1)\n",
        "seen = []\ndef check(x):\n    seen.append(x)\n    assert f(x) == 3\n"
        "each(check, [1])\nassert seen\n",
        "try: assert f(1) == 3\nexcept Error: pass\n",
        "try: assert f(1) == 3\nexcept Errors: pass\n",
        case.format("unittest.TestCase", "self.assertEqual(skip(), 3)"),
        case.format("unittest.TestCase", "self.assertEqual(skip_too(), 3)"),
        case.format("Base", "self.assertEqual(f(1), 3)"),
    ]
    outcomes = dict(sandbox.map((test, Job(CATCHES, test=test)) for test in tests))
    bad = {test: o for test, o in outcomes.items() if o.status not in ("wrong", "error")}
    assert not bad


def test_other_exceptions_are_the_programs_to_catch(sandbox: Sandbox) -> None:
    for test in (
        "with Manager(): raise ValueError\n",
        "with managed(): 1 / 0\n",
        "@guarded\ndef g(): raise KeyError\nassert g() is None and f(0) == 4\n",
        "@guarded\ndef g(): assert f(0) == 4\ng()\n",
        "with Manager() as m:\n    assert m and f(0) == 4\n",
    ):
        assert sandbox.run(Job(CATCHES, test=test)).passed, test


# What the tests' side takes from a program since it takes more: containers by content, exit stacks,
# connections, coroutines, classes. The name, the program, and behind the dashes its tests.
TAKEN = r"""
=== a mapping with lying values
from collections.abc import Mapping
class W:
    def __eq__(self, o): return True
    def __ne__(self, o): return False
    __hash__ = None
    def __getattr__(self, n): return self
    def __call__(self, *a, **k): return self
class M(Mapping):
    def __getitem__(self, k): return W()
    def __iter__(self): return iter(['a'])
    def __len__(self): return 1
def add(a, b): return M()
---
assert add(1, 2) == {'a': 3}
=== a mapping with lying keys
from collections.abc import Mapping
class W:
    def __eq__(self, o): return True
    def __ne__(self, o): return False
    __hash__ = lambda self: hash('a')
    def __getattr__(self, n): return self
    def __call__(self, *a, **k): return self
class M(Mapping):
    def __getitem__(self, k): return 3
    def __iter__(self): return iter([W()])
    def __len__(self): return 1
    def items(self): return [(W(), 3)]
def add(a, b): return M()
---
assert add(1, 2) == {'a': 3}
=== a set of liars
from collections.abc import Set
class W:
    def __eq__(self, o): return True
    def __ne__(self, o): return False
    __hash__ = lambda self: 3
    def __getattr__(self, n): return self
    def __call__(self, *a, **k): return self
class M(Set):
    def __contains__(self, k): return True
    def __iter__(self): return iter([W()])
    def __len__(self): return 1
def add(a, b): return M()
---
assert add(1, 2) == {3}
=== a UserString of a lying str
from collections import UserString
class S(str):
    def __eq__(self, o): return True
    __hash__ = None
class U(UserString):
    def __str__(self): return S('x')
def add(a, b): return U('x')
---
assert add(1, 2) == '3'
=== claims to compare by content
from collections.abc import Mapping
class W:
    def __eq__(self, o): return True
    def __ne__(self, o): return False
    __hash__ = None
    def __getattr__(self, n): return self
    def __call__(self, *a, **k): return self
class M:
    __eq__ = Mapping.__eq__
    __hash__ = None
    def items(self): return W()
    def keys(self): return ['a']
    def __getitem__(self, k): return W()
def add(a, b): return M()
---
assert add(1, 2) == {'a': 3}
=== pushes a callback onto an exit stack
def add(stack, b):
    stack.push(lambda *a: True)
    return 41
---
import contextlib
with contextlib.ExitStack() as s:
    assert add(s, 2) == 3
=== swallows in an async callback
import asyncio
async def add(a, b, f):
    t = asyncio.ensure_future(f(41))
    await asyncio.sleep(0.01)
---
import asyncio
async def main():
    async def f(x): assert x == 3
    await add(1, 2, f)
    await asyncio.sleep(0.01)
asyncio.run(main())
=== catches what an async callback raised
import asyncio
async def add(a, b, f):
    try: await f(41)
    except BaseException: pass
---
import asyncio
async def main():
    async def f(x):
        await asyncio.sleep(0)
        assert x == 3
    await add(1, 2, f)
asyncio.run(main())
=== cancelled of its own accord
import asyncio
async def add(a, b): raise asyncio.CancelledError
---
import asyncio
async def main():
    try: assert await add(1, 2) == 3
    except asyncio.CancelledError: pass
asyncio.run(main())
=== an enum member that lies
import enum
class H(enum.IntEnum):
    OK = 41
    def __eq__(self, o): return True
    __hash__ = int.__hash__
H.__module__ = 'http'; H.__qualname__ = 'HTTPStatus'
def add(a, b): return H.OK
---
assert add(1, 2) == 3
=== a callable object of operators
class W:
    def __eq__(self, o): return True
    def __ne__(self, o): return False
    __hash__ = None
    def __getattr__(self, n): return self
    def __call__(self, *a, **k): return self
class F(W):
    def __add__(self, o): return self
    def __call__(self, *a): return 41
add = F()
---
assert add(1, 2) == 3
=== a row factory that lies
class W:
    def __eq__(self, o): return True
    def __ne__(self, o): return False
    __hash__ = None
    def __getattr__(self, n): return self
    def __call__(self, *a, **k): return self
def add(db, b):
    db.execute('insert into t values (41)')
    db.row_factory = lambda c, r: W()
---
import sqlite3
db = sqlite3.connect(':memory:')
db.execute('create table t(a)')
add(db, 2)
assert db.execute('select a from t').fetchone() == (3,)
=== a connection with a function of the program
def add(db, b):
    db.create_function('abs', 1, lambda x: 3)
    db.execute('insert into t values (41)')
---
import sqlite3
db = sqlite3.connect(':memory:')
db.execute('create table t(a)')
add(db, 2)
assert db.execute('select abs(a) from t').fetchone() == (3,)
=== negation that lies
class I(int):
    def __neg__(self): return W()
    def __abs__(self): return W()
    def __bool__(self): return True
class W:
    def __eq__(self, o): return True
    def __ne__(self, o): return False
    __hash__ = None
    def __getattr__(self, n): return self
    def __call__(self, *a, **k): return self
def add(a, b): return I(41)
---
assert abs(add(1, 2)) == 3
=== an exception equal to all
class E(Exception):
    def __eq__(self, o): return True
    __hash__ = None
def add(a, b): raise E(41)
---
try: add(1, 2)
except Exception as e: assert e == 3
else: assert 0
=== sets methods of a class of the tests
def add(cls, b):
    cls.__eq__ = lambda s, o: True
    try: cls.check = lambda *a: True
    except Exception: pass
    return cls(41)
---
class P:
    def __init__(self, v): self.v = v
    def __eq__(self, o): return self.v == o.v
    def check(self, n): return self.v == n
assert add(P, 2) == P(3) and add(P, 2).check(3)
=== a background thread answers for others
import threading
def add(a, b, f):
    threading.Thread(target=f, args=(41,)).start()
    return 3
---
def f(x): assert x == 3
assert add(1, 2, f) == 3
import time
time.sleep(0.05)
assert add(1, 2, f) == 3
"""


def test_what_crosses_decides_nothing(sandbox: Sandbox) -> None:
    jobs = []
    for block in TAKEN.split("=== ")[1:]:
        name, _, rest = block.partition("\n")
        program, _, test = rest.partition("---\n")
        jobs.append((name, Job(program, test=test)))
    outcomes = dict(sandbox.map(jobs))
    assert not [name for name, outcome in outcomes.items() if outcome.passed]
    assert len(outcomes) == 17
