"""Objects that lie about comparison, order, membership or their class decide nothing."""

from __future__ import annotations

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
