"""Right programs of every kind, with the tests that people write for them.

Each passes in plain Python, its tests behind the program in one module (a test sees to that), so
each that fails in the sandbox is judged wrongly. None needs an installed package.
"""

# ruff: noqa: E501 - programs as people write them
from __future__ import annotations

from typing import NamedTuple


class Honest(NamedTuple):
    """A right program and its tests."""

    name: str
    program: str
    test: str


def _read(text: str) -> list[Honest]:
    rows = []
    for block in text.split("=== ")[1:]:
        head, _, rest = block.partition("\n")
        program, _, test = rest.partition("---\n")
        rows.append(Honest(head, program, test))
    return rows


# The name, the program, and behind the dashes its tests.
HONEST: list[Honest] = _read(
    r"""
=== returns None
def f():
    return None
---
x = f()
assert x is None
=== returns True
def f():
    return True
---
x = f()
assert x is True
=== returns 10**400
def f():
    return 10**400
---
x = f()
assert x == 10**400
=== returns float('nan')
def f():
    return float('nan')
---
x = f()
assert x != x
=== returns float('inf')
def f():
    return float('inf')
---
x = f()
assert x == float('inf')
=== returns 3 - 4j
def f():
    return 3 - 4j
---
x = f()
assert x == 3 - 4j and x.imag == -4
=== returns '\ud800'
def f():
    return '\ud800'
---
x = f()
assert x == '\ud800'
=== returns b'\0a'
def f():
    return b'\0a'
---
x = f()
assert x == b'\0a'
=== returns bytearray(b'ab')
def f():
    return bytearray(b'ab')
---
x = f()
assert x == bytearray(b'ab') and isinstance(x, bytearray)
=== returns memoryview(b'abc')
def f():
    return memoryview(b'abc')
---
x = f()
assert bytes(x) == b'abc' and x[1] == 98
=== returns range(1, 9, 3)
def f():
    return range(1, 9, 3)
---
x = f()
assert x == range(1, 9, 3) and list(x) == [1, 4, 7]
=== returns slice(1, None, 2)
def f():
    return slice(1, None, 2)
---
x = f()
assert x == slice(1, None, 2)
=== returns ...
def f():
    return ...
---
x = f()
assert x is ...
=== returns NotImplemented
def f():
    return NotImplemented
---
x = f()
assert x is NotImplemented
=== returns (1, [2, {3: {4}}])
def f():
    return (1, [2, {3: {4}}])
---
x = f()
assert x == (1, [2, {3: {4}}])
=== returns frozenset({1, frozenset()})
def f():
    return frozenset({1, frozenset()})
---
x = f()
assert x == frozenset({1, frozenset()})
=== returns {(1, 2): None}
def f():
    return {(1, 2): None}
---
x = f()
assert x == {(1, 2): None}
=== returns {'b': 1, 'a': 2}.keys()
def f():
    return {'b': 1, 'a': 2}.keys()
---
x = f()
assert list(x) == ['b', 'a'] and 'a' in x
=== returns {'b': 1}.items()
def f():
    return {'b': 1}.items()
---
x = f()
assert list(x) == [('b', 1)]
=== returns {'b': 1}.values()
def f():
    return {'b': 1}.values()
---
x = f()
assert list(x) == [1]
=== returns map(str, [1, 2])
def f():
    return map(str, [1, 2])
---
x = f()
assert list(x) == ['1', '2']
=== returns zip([1], 'a')
def f():
    return zip([1], 'a')
---
x = f()
assert list(x) == [(1, 'a')] and list(x) == []
=== returns filter(None, [0, 1])
def f():
    return filter(None, [0, 1])
---
x = f()
assert next(x) == 1
=== returns enumerate('ab')
def f():
    return enumerate('ab')
---
x = f()
assert dict(x) == {0: 'a', 1: 'b'}
=== returns reversed([1, 2])
def f():
    return reversed([1, 2])
---
x = f()
assert list(x) == [2, 1]
=== returns iter([1, 2])
def f():
    return iter([1, 2])
---
x = f()
assert next(x) == 1 and next(x) == 2 and next(x, 'end') == 'end'
=== returns itertools.count(5)
import itertools
def f():
    return itertools.count(5)
---
import itertools
x = f()
assert [next(x) for _ in range(3)] == [5, 6, 7]
=== returns itertools.chain([1], [2])
import itertools
def f():
    return itertools.chain([1], [2])
---
import itertools
x = f()
assert list(x) == [1, 2]
=== returns itertools.cycle('ab')
import itertools
def f():
    return itertools.cycle('ab')
---
import itertools
x = f()
assert next(x) + next(x) + next(x) == 'aba'
=== returns (n * n for n in range(4))
def f():
    return (n * n for n in range(4))
---
x = f()
assert list(x) == [0, 1, 4, 9]
=== returns int
def f():
    return int
---
x = f()
assert x is int and x('3') == 3
=== returns [list, dict]
def f():
    return [list, dict]
---
x = f()
assert x[0] is list
=== returns collections.deque([1, 2], maxlen=2)
import collections
def f():
    return collections.deque([1, 2], maxlen=2)
---
import collections
x = f()
assert list(x) == [1, 2]
=== returns collections.Counter('aab')
import collections
def f():
    return collections.Counter('aab')
---
import collections
x = f()
assert x['a'] == 2 and x.most_common(1) == [('a', 2)]
=== returns collections.OrderedDict(a=1)
import collections
def f():
    return collections.OrderedDict(a=1)
---
import collections
x = f()
assert list(x.items()) == [('a', 1)]
=== returns collections.defaultdict(list, a=[1])
import collections
def f():
    return collections.defaultdict(list, a=[1])
---
import collections
x = f()
assert x['a'] == [1] and x['b'] == []
=== returns collections.ChainMap({1: 2}, {3: 4})
import collections
def f():
    return collections.ChainMap({1: 2}, {3: 4})
---
import collections
x = f()
assert x[3] == 4 and len(x) == 2
=== returns collections.UserDict(a=1)
import collections
def f():
    return collections.UserDict(a=1)
---
import collections
x = f()
assert x['a'] == 1 and len(x) == 1
=== returns collections.UserList([1, 2])
import collections
def f():
    return collections.UserList([1, 2])
---
import collections
x = f()
assert list(x) == [1, 2] and x[1] == 2
=== returns P(1, b='x')
import collections
P = collections.namedtuple('P', 'a b')
def f():
    return P(1, b='x')
---
import collections
x = f()
assert x == (1, 'x') and x.b == 'x' and x._replace(a=2).a == 2
=== returns [P(1), P(2, 'y')]
from typing import NamedTuple
class P(NamedTuple):
    a: int
    b: str = 'd'
    def both(self):
        return f'{self.a}{self.b}'
def f():
    return [P(1), P(2, 'y')]
---
x = f()
assert x[1] == (2, 'y') and x[0].both() == '1d' and repr(x[0]) == "P(a=1, b='d')"
=== returns types.SimpleNamespace(a=1, b=[2])
import types
def f():
    return types.SimpleNamespace(a=1, b=[2])
---
import types
x = f()
assert x.a == 1 and x.b == [2]
=== returns types.MappingProxyType({'a': 1})
import types
def f():
    return types.MappingProxyType({'a': 1})
---
import types
x = f()
assert x['a'] == 1 and dict(x) == {'a': 1}
=== returns array.array('d', [1.5, 2])
import array
def f():
    return array.array('d', [1.5, 2])
---
import array
x = f()
assert list(x) == [1.5, 2.0] and x.typecode == 'd'
=== returns datetime.date(2024, 2, 29)
import datetime
def f():
    return datetime.date(2024, 2, 29)
---
import datetime
x = f()
assert x == datetime.date(2024, 2, 29) and x.year == 2024
=== returns datetime.datetime(2024, 2, 29, 1, 2, 3, 4)
import datetime
def f():
    return datetime.datetime(2024, 2, 29, 1, 2, 3, 4)
---
import datetime
x = f()
assert x == datetime.datetime(2024, 2, 29, 1, 2, 3, 4) and x.isoformat().startswith('2024')
=== returns datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
import datetime
def f():
    return datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
---
import datetime
x = f()
assert x.tzinfo is datetime.timezone.utc and x.utcoffset() == datetime.timedelta(0)
=== returns a datetime with a zone
import datetime
def f():
    zone = datetime.timezone(datetime.timedelta(hours=-5), 'X')
    return datetime.datetime(2024, 1, 1, tzinfo=zone)
---
import datetime
x = f()
assert x.tzname() == 'X' and x.utcoffset().total_seconds() == -18000
=== returns datetime.time(23, 59, 1)
import datetime
def f():
    return datetime.time(23, 59, 1)
---
import datetime
x = f()
assert x == datetime.time(23, 59, 1)
=== returns datetime.timedelta(days=1, seconds=5)
import datetime
def f():
    return datetime.timedelta(days=1, seconds=5)
---
import datetime
x = f()
assert x.total_seconds() == 86405
=== returns datetime.timezone.utc
import datetime
def f():
    return datetime.timezone.utc
---
import datetime
x = f()
assert x is datetime.timezone.utc
=== returns decimal.Decimal('1.10')
import decimal
def f():
    return decimal.Decimal('1.10')
---
import decimal
x = f()
assert x == decimal.Decimal('1.10') and str(x) == '1.10'
=== returns fractions.Fraction(2, 6)
import fractions
def f():
    return fractions.Fraction(2, 6)
---
import fractions
x = f()
assert x == fractions.Fraction(1, 3) and x.denominator == 3
=== returns uuid.UUID(int=7)
import uuid
def f():
    return uuid.UUID(int=7)
---
import uuid
x = f()
assert x == uuid.UUID(int=7) and x.int == 7
=== returns pathlib.Path('/tmp') / 'x.txt'
import pathlib
def f():
    return pathlib.Path('/tmp') / 'x.txt'
---
import pathlib
x = f()
assert x == pathlib.Path('/tmp/x.txt') and x.suffix == '.txt'
=== returns pathlib.PurePosixPath('a/b')
import pathlib
def f():
    return pathlib.PurePosixPath('a/b')
---
import pathlib
x = f()
assert x.parts == ('a', 'b')
=== returns pathlib.PureWindowsPath('c:\\x')
import pathlib
def f():
    return pathlib.PureWindowsPath('c:\\x')
---
import pathlib
x = f()
assert x.drive == 'c:'
=== returns ipaddress.ip_address('10.0.0.1')
import ipaddress
def f():
    return ipaddress.ip_address('10.0.0.1')
---
import ipaddress
x = f()
assert x == ipaddress.ip_address('10.0.0.1')
=== returns ipaddress.ip_network('10.0.0.0/30')
import ipaddress
def f():
    return ipaddress.ip_network('10.0.0.0/30')
---
import ipaddress
x = f()
assert x.num_addresses == 4
=== returns re.compile('a+', re.I)
import re
def f():
    return re.compile('a+', re.I)
---
import re
x = f()
assert x.pattern == 'a+' and x.fullmatch('AA')
=== returns re.match('(?P<n>a)(b)', 'ab')
import re
def f():
    return re.match('(?P<n>a)(b)', 'ab')
---
import re
x = f()
assert x and x.group('n') == 'a' and x[2] == 'b' and x.span() == (0, 2)
=== returns re.finditer('a', 'aba')
import re
def f():
    return re.finditer('a', 'aba')
---
import re
x = f()
assert [m.start() for m in x] == [0, 2]
=== returns ValueError('bad', 3)
def f():
    return ValueError('bad', 3)
---
x = f()
assert isinstance(x, ValueError) and x.args == ('bad', 3)
=== returns [KeyError('k'), OSError(2, 'no')]
def f():
    return [KeyError('k'), OSError(2, 'no')]
---
x = f()
assert x[0].args == ('k',) and x[1].errno == 2
=== returns C.B
import enum
class C(enum.Enum):
    A = 1
    B = 'b'
def f():
    return C.B
---
import enum
x = f()
assert x is C.B and x.value == 'b' and x.name == 'B'
=== returns [C.B, C.A]
import enum
class C(enum.Enum):
    A = 1
    B = 2
def f():
    return [C.B, C.A]
---
import enum
x = f()
assert x == [C.B, C.A] and C(1) is x[1]
=== returns C.B (2)
import enum
class C(enum.IntEnum):
    A = 1
    B = 2
def f():
    return C.B
---
import enum
x = f()
assert x == 2 and x > C.A and x is C.B
=== returns C.A
import enum
class C(enum.StrEnum):
    A = 'a'
def f():
    return C.A
---
import enum
x = f()
assert x == 'a' and x.upper() == 'A'
=== returns C.R | C.W
import enum
class C(enum.Flag):
    R = 1
    W = 2
def f():
    return C.R | C.W
---
import enum
x = f()
assert x == C.R | C.W and C.R in x and x.value == 3
=== returns C.R | C.W (2)
import enum
class C(enum.IntFlag):
    R = 1
    W = 2
def f():
    return C.R | C.W
---
import enum
x = f()
assert x == 3 and x & C.W == 2
=== returns I(3)
class I(int):
    pass
def f():
    return I(3)
---
x = f()
assert x == 3 and x + 1 == 4 and isinstance(x, int)
=== returns F(1.5)
class F(float):
    pass
def f():
    return F(1.5)
---
x = f()
assert x == 1.5 and round(x) == 2
=== returns S('a')
class S(str):
    def shout(self):
        return self.upper()
def f():
    return S('a')
---
x = f()
assert x == 'a' and x.shout() == 'A'
=== returns B(b'a')
class B(bytes):
    pass
def f():
    return B(b'a')
---
x = f()
assert x == b'a' and x[0] == 97
=== returns T((1, 2))
class T(tuple):
    pass
def f():
    return T((1, 2))
---
x = f()
assert x == (1, 2) and len(x) == 2
=== returns L([1, 2])
class L(list):
    def total(self):
        return sum(self)
def f():
    return L([1, 2])
---
x = f()
assert x == [1, 2] and x.total() == 3 and sorted(x, reverse=True) == [2, 1]
=== returns D(a=1)
class D(dict):
    def __missing__(self, key):
        return key * 2
def f():
    return D(a=1)
---
x = f()
assert x == {'a': 1} and x['b'] == 'bb' and x.get('b') is None
=== returns S({1})
class S(set):
    pass
def f():
    return S({1})
---
x = f()
assert x == {1} and 1 in x and x | {2} == {1, 2}
=== returns O()
class O:
    def __init__(self):
        self.a = [1]
def f():
    return O()
---
x = f()
assert x.a == [1] and vars(x) == {'a': [1]}
=== returns O() (2)
class O:
    __slots__ = ('a',)
    def __init__(self):
        self.a = 5
def f():
    return O()
---
x = f()
assert x.a == 5
=== returns D(1, [2])
from dataclasses import dataclass, field
@dataclass(order=True)
class D:
    a: int
    b: list = field(default_factory=list)
def f():
    return D(1, [2])
---
x = f()
assert x == D(1, [2])
assert x != D(2)
assert x < D(2)
assert x.b == [2]
assert repr(x) == 'D(a=1, b=[2])'
=== returns {D(1): 'x'}
from dataclasses import dataclass
@dataclass(frozen=True)
class D:
    a: int
def f():
    return {D(1): 'x'}
---
x = f()
assert x[D(1)] == 'x' and len({D(1), D(1)}) == 1
=== returns [O(), O()]
class O:
    def __repr__(self):
        return '<O>'
def f():
    return [O(), O()]
---
x = f()
assert repr(x) == '[<O>, <O>]' and len(x) == 2
=== returns lambda a, b=2: a + b
def f():
    return lambda a, b=2: a + b
---
x = f()
assert x(1) == 3 and x(1, b=5) == 6 and callable(x)
=== returns functools.partial(int, base=2)
import functools
def f():
    return functools.partial(int, base=2)
---
import functools
x = f()
assert x('101') == 5
=== returns operator.itemgetter(1)
import operator
def f():
    return operator.itemgetter(1)
---
import operator
x = f()
assert x([3, 4]) == 4
=== returns io.StringIO('a\nb')
import io
def f():
    return io.StringIO('a\nb')
---
import io
x = f()
assert x.read() == 'a\nb'
=== returns io.BytesIO(b'ab')
import io
def f():
    return io.BytesIO(b'ab')
---
import io
x = f()
assert x.read(1) == b'a' and x.getvalue() == b'ab'
=== returns queue.Queue()
import queue
def f():
    return queue.Queue()
---
import queue
x = f()
assert x.empty() and x.put(3) is None and x.get() == 3
=== returns threading.Lock()
import threading
def f():
    return threading.Lock()
---
import threading
x = f()
assert x.acquire() and x.locked()
=== returns json.loads('[1, {"a": null}]')
import json
def f():
    return json.loads('[1, {"a": null}]')
---
import json
x = f()
assert x == [1, {'a': None}]
=== returns struct.pack('>I', 7)
import struct
def f():
    return struct.pack('>I', 7)
---
import struct
x = f()
assert x == b'\0\0\0\x07'
=== returns hashlib.sha256(b'a')
import hashlib
def f():
    return hashlib.sha256(b'a')
---
import hashlib
x = f()
assert x.hexdigest().startswith('ca978112')
=== returns string.Template('$a!')
import string
def f():
    return string.Template('$a!')
---
import string
x = f()
assert x.substitute(a='hi') == 'hi!'
=== returns isinstance([], collections.abc.Sequence)
import collections.abc
def f():
    return isinstance([], collections.abc.Sequence)
---
import collections.abc
x = f()
assert x is True
=== returns datetime.timezone(datetime.timedelta(hours=2))
import zoneinfo, datetime
def f():
    return datetime.timezone(datetime.timedelta(hours=2))
---
import zoneinfo, datetime
x = f()
assert x.utcoffset(None).seconds == 7200
=== appends to a list
def f(x):
    x.append(3)
---
a = [1]
assert f(a) is None
assert a == [1, 3]
=== sorts in place
def f(x):
    x.sort()
    return x
---
a = [3, 1]
assert f(a) is a and a == [1, 3]
=== changes a matrix in place
def f(m):
    n = len(m)
    for i in range(n):
        for j in range(i):
            m[i][j], m[j][i] = m[j][i], m[i][j]
---
m = [[1, 2], [3, 4]]
row = m[0]
f(m)
assert m == [[1, 3], [2, 4]] and m[0] is row
=== fills a dictionary
def f(d, k):
    d.setdefault(k, []).append(1)
---
d = {}
f(d, 'a')
f(d, 'a')
assert d == {'a': [1, 1]}
=== changes a set
def f(s):
    s.add(2)
    s.discard(1)
---
s = {1}
f(s)
assert s == {2}
=== changes a bytearray
def f(b):
    b[0] = 65
---
b = bytearray(b'xy')
f(b)
assert b == b'Ay'
=== changes a deque
def f(d):
    d.rotate(1)
---
import collections
d = collections.deque([1, 2, 3])
f(d)
assert list(d) == [3, 1, 2]
=== leaves its argument alone
def f(x):
    return sorted(x)
---
a = [2, 1]
assert f(a) == [1, 2] and a == [2, 1]
=== a mutable default
def f(x, acc=[]):
    acc.append(x)
    return acc
---
assert f(1) == [1]
assert f(2) == [1, 2]
=== calls back
def f(g, xs):
    return [g(x) for x in xs]
---
assert f(lambda x: x + 1, [1, 2]) == [2, 3]
=== a key function
def f(xs, key):
    return sorted(xs, key=key)
---
assert f(['bb', 'a'], len) == ['a', 'bb']
assert f([1, -2], key=lambda x: x) == [-2, 1]
=== a callback with state
def f(emit):
    for n in range(3):
        emit(n)
---
seen = []
f(seen.append)
assert seen == [0, 1, 2]
=== a builtin as an argument
def f(g, x):
    return g(x)
---
import math, operator
assert f(str.upper, 'a') == 'A' and f(math.sqrt, 4) == 2 and f(operator.neg, 1) == -1
=== a type as an argument
def f(kind, x):
    return kind(x), isinstance(x, kind)
---
assert f(str, 3) == ('3', False)
=== an iterator
def f(it):
    return next(it) + next(it)
---
it = iter([1, 2, 3])
assert f(it) == 3
assert next(it) == 3
=== an endless generator
def f(g, n):
    return [next(g) for _ in range(n)]
---
import itertools
assert f(itertools.count(2), 3) == [2, 3, 4]
def g():
    while True:
        yield 7
assert f(g(), 2) == [7, 7]
=== a generator expression
def f(xs):
    return sum(xs)
---
assert f(x * x for x in range(4)) == 14
=== a file-like object
def f(file):
    return [line.strip() for line in file]
---
import io
assert f(io.StringIO('a\nb\n')) == ['a', 'b']
=== writes to a file-like object
import csv
def f(file):
    csv.writer(file).writerows([[1, 2], ['a', 'b']])
---
import io
out = io.StringIO()
f(out)
assert out.getvalue() == '1,2\r\na,b\r\n'
=== reads JSON from a stream
import json
def f(file):
    return json.load(file)['a']
---
import io
assert f(io.StringIO('{"a": 5}')) == 5
=== an object of the tests
def f(shape):
    return shape.area() * 2
---
class Square:
    def __init__(self, s):
        self.s = s
    def area(self):
        return self.s ** 2
assert f(Square(3)) == 18
=== changes an object of the tests
def f(p, dx):
    p.x += dx
---
class P:
    x = 1
p = P()
f(p, 4)
assert p.x == 5
=== a SimpleNamespace
def f(ns):
    ns.count += 1
    return ns.name
---
import types
ns = types.SimpleNamespace(count=1, name='n')
assert f(ns) == 'n' and ns.count == 2
=== an iterable class of the tests
def f(xs):
    return sum(xs), len(xs), 2 in xs
---
class Xs:
    def __iter__(self):
        return iter([1, 2])
    def __len__(self):
        return 2
assert f(Xs()) == (3, 2, True)
=== operators of a class of the tests
def f(a, b):
    return (a + b).v
---
class V:
    def __init__(self, v):
        self.v = v
    def __add__(self, o):
        return V(self.v + o.v)
assert f(V(1), V(2)) == 3
=== its own objects given back
class P:
    def __init__(self, x):
        self.x = x
def make(x):
    return P(x)
def get(p):
    return p.x
def same(p):
    return p
---
p = make(4)
assert get(p) == 4 and same(p) is p
=== its own function given back
def compose(f, g):
    return lambda x: f(g(x))
def inc(x):
    return x + 1
def dbl(x):
    return x * 2
---
assert compose(inc, dbl)(5) == 11 and compose(dbl, compose(inc, inc))(1) == 6
=== a class of its own as an argument
class A:
    n = 3
def f(kind):
    return kind().n, kind.__name__
---
assert f(A) == (3, 'A')
=== keywords
def f(*args, sep='-', **rest):
    return sep.join(map(str, args)), rest
---
assert f(1, 2, sep='/', a=[3]) == ('1/2', {'a': [3]})
=== dates as arguments
def f(a, b):
    return (b - a).days
---
from datetime import date, datetime
assert f(date(2024, 1, 1), date(2024, 3, 1)) == 60
assert f(datetime(2024, 1, 1), datetime(2024, 1, 2, 5)) == 1
=== a Path as an argument
def f(path):
    return path.stem, path.parent.name
---
from pathlib import Path
assert f(Path('/a/b.txt')) == ('b', 'a')
=== an exception as an argument
def f(e):
    return type(e).__name__, str(e)
---
assert f(ValueError('x')) == ('ValueError', 'x')
=== a Decimal and a Fraction
def f(a, b):
    return a + 1, b * 2
---
from decimal import Decimal
from fractions import Fraction
assert f(Decimal('0.1'), Fraction(1, 4)) == (Decimal('1.1'), Fraction(1, 2))
=== a module as an argument
def f(m):
    return m.floor(2.5)
---
import math
assert f(math) == 2
=== raises what a callback raises
def f(g):
    try:
        return g()
    except ValueError as e:
        return str(e)
---
class Mine(ValueError):
    pass
def bad():
    raise Mine('m')
def worse():
    raise KeyError('k')
assert f(bad) == 'm'
try:
    f(worse)
except KeyError as e:
    assert e.args == ('k',)
else:
    raise AssertionError
=== aliases among arguments
def f(a, b):
    a.append(1)
    return b
---
x = []
assert f(x, x) == [1]
=== keeps a list it was given
class Bag:
    def __init__(self, items):
        self.items = items
    def add(self, x):
        self.items.append(x)
---
xs = [1]
b = Bag(xs)
b.add(2)
assert xs == [1, 2]
xs.append(3)
assert b.items == [1, 2, 3]
=== copies a list it was given
class Bag:
    def __init__(self, items):
        self.items = list(items)
---
xs = [1]
b = Bag(xs)
xs.append(3)
assert b.items == [1]
=== hands out a copy
class Bag:
    def __init__(self):
        self._items = [1]
    def items(self):
        return list(self._items)
---
b = Bag()
b.items().append(2)
assert b.items() == [1]
=== a counter
count = 0
def tick():
    global count
    count += 1
    return count
---
assert tick() == 1 and tick() == 2 and count == 2
=== a global list
log = []
def f(x):
    log.append(x)
---
f(1)
f(2)
assert log == [1, 2]
log.clear()
f(3)
assert log == [3]
=== a global dictionary
cache = {}
def f(n):
    if n not in cache:
        cache[n] = n * n
    return cache[n]
---
assert f(3) == 9 and cache == {3: 9}
cache[3] = 5
assert f(3) == 5
=== a constant
LIMIT = 10
def f(x):
    return min(x, LIMIT)
---
assert f(50) == LIMIT == 10
=== lru_cache
import functools
calls = []
@functools.lru_cache(maxsize=None)
def f(n):
    calls.append(n)
    return n + 1
---
assert f(1) == 2 and f(1) == 2 and calls == [1]
assert f.cache_info().hits == 1
f.cache_clear()
assert f(1) == 2 and calls == [1, 1]
=== attributes of a function
def f():
    f.calls += 1
    return f.calls
f.calls = 0
---
f()
assert f.calls == 1
f.calls = 10
assert f() == 11
=== a closure
def make():
    n = 0
    def inc():
        nonlocal n
        n += 1
        return n
    return inc
---
a, b = make(), make()
assert [a(), a(), b()] == [1, 2, 1]
=== attributes of a class
class C:
    n = 0
    def __init__(self):
        C.n += 1
---
C()
C()
assert C.n == 2
C.n = 0
assert C().n == 1
=== a singleton
class S:
    _it = None
    def __new__(cls):
        if cls._it is None:
            cls._it = super().__new__(cls)
        return cls._it
---
assert S() is S()
S().x = 3
assert S().x == 3
=== a registry by decorator
handlers = {}
def on(name):
    def wrap(f):
        handlers[name] = f
        return f
    return wrap
def fire(name, x):
    return handlers[name](x)
---
@on('a')
def a(x):
    return x + 1
assert fire('a', 1) == 2 and a(5) == 6 and 'a' in handlers
=== seeded random numbers
import random
def f():
    return random.randint(0, 10**9)
---
import random
random.seed(5)
a = f()
random.seed(5)
assert f() == a and f() != a
=== random numbers of a seed
import random
def f(seed):
    return random.Random(seed).random()
---
import random
assert f(3) == random.Random(3).random()
=== shuffles in place
import random
def f(xs):
    random.shuffle(xs)
---
import random
xs = list(range(20))
f(xs)
assert sorted(xs) == list(range(20)) != xs
=== environment
import os
def f():
    return os.environ.get('MODE', 'none')
---
import os
assert f() == 'none'
os.environ['MODE'] = 'x'
assert f() == 'x'
del os.environ['MODE']
assert f() == 'none'
=== sets the environment
import os
def f():
    os.environ['SET'] = '1'
---
import os
f()
assert os.environ['SET'] == '1'
=== reads a file
def f(path):
    with open(path) as file:
        return len(file.read().split())
---
with open('words.txt', 'w') as file:
    file.write('a b c')
assert f('words.txt') == 3
=== writes a file
def f(path, text):
    with open(path, 'w') as file:
        file.write(text)
---
import os
f('out.txt', 'hello')
assert open('out.txt').read() == 'hello'
=== a temporary directory
import os
def f(folder):
    return sorted(n for n in os.listdir(folder) if n.endswith('.txt'))
---
import os, tempfile
with tempfile.TemporaryDirectory() as d:
    for n in ('b.txt', 'a.txt', 'c.md'):
        open(os.path.join(d, n), 'w').close()
    assert f(d) == ['a.txt', 'b.txt']
=== pathlib and folders
from pathlib import Path
def f(root):
    out = Path(root) / 'sub'
    out.mkdir()
    (out / 'x.json').write_text('{}')
    return out
---
import tempfile
from pathlib import Path
with tempfile.TemporaryDirectory() as d:
    p = f(d)
    assert p.is_dir() and (p / 'x.json').read_text() == '{}'
=== deletes a file
import os
def f(path):
    os.unlink(path)
---
import os
open('gone', 'w').close()
f('gone')
assert not os.path.exists('gone')
=== a database in a file
import sqlite3
def f(path):
    with sqlite3.connect(path) as db:
        db.execute('create table t (n)')
        db.execute('insert into t values (5)')
---
import os, sqlite3
f('x.db')
assert sqlite3.connect('x.db').execute('select n from t').fetchall() == [(5,)]
os.remove('x.db')
=== prints
def f():
    print('hi', 3)
---
import contextlib, io
out = io.StringIO()
with contextlib.redirect_stdout(out):
    f()
assert out.getvalue() == 'hi 3\n'
=== prints to a replaced sys.stdout
def f():
    print('a')
    print('b', end='')
---
import io, sys
old, sys.stdout = sys.stdout, io.StringIO()
f()
got, sys.stdout = sys.stdout.getvalue(), old
assert got == 'a\nb'
=== writes to sys.stderr
import sys
def f():
    sys.stderr.write('oops')
---
import contextlib, io
err = io.StringIO()
with contextlib.redirect_stderr(err):
    f()
assert err.getvalue() == 'oops'
=== reads input
def f():
    return int(input()) + int(input())
---
import io, sys
sys.stdin = io.StringIO('3\n4\n')
assert f() == 7
=== reads sys.stdin
import sys
def f():
    return [int(x) for x in sys.stdin.read().split()]
---
import io, sys
old, sys.stdin = sys.stdin, io.StringIO('1 2')
assert f() == [1, 2]
sys.stdin = old
=== logs
import logging
def f():
    logging.getLogger('app').warning('bad %s', 3)
---
import unittest
class T(unittest.TestCase):
    def test_a(self):
        with self.assertLogs('app', level='WARNING') as seen:
            f()
        self.assertEqual(seen.output, ['WARNING:app:bad 3'])
import sys
unittest.main(argv=['x'], exit=False)
=== warns
import warnings
def f():
    warnings.warn('old', DeprecationWarning)
    return 1
---
import warnings
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter('always')
    assert f() == 1
assert len(seen) == 1
assert seen[0].category is DeprecationWarning
assert 'old' in str(seen[0].message)
=== a mock as an argument
def f(client):
    client.send('x', n=1)
    return client.get(5)
---
from unittest.mock import Mock
m = Mock()
m.get.return_value = 'r'
assert f(m) == 'r'
m.send.assert_called_once_with('x', n=1)
m.get.assert_called_with(5)
=== a mock that raises
def f(client):
    try:
        client.go()
    except ConnectionError:
        return 'retry'
---
from unittest.mock import MagicMock
m = MagicMock()
m.go.side_effect = ConnectionError
assert f(m) == 'retry' and m.go.call_count == 1
=== a mock as a context manager
def f(opener):
    with opener('p') as file:
        return file.read()
---
from unittest.mock import MagicMock, mock_open
assert f(mock_open(read_data='data')) == 'data'
m = MagicMock()
m.return_value.__enter__.return_value.read.return_value = 'x'
assert f(m) == 'x'
=== patches a module's function
import time
def f():
    time.sleep(100)
    return 'slept'
---
from unittest.mock import patch
with patch('time.sleep') as s:
    assert f() == 'slept'
s.assert_called_once_with(100)
=== patches a return value
import random
def f():
    return random.randint(1, 6)
---
from unittest.mock import patch
with patch('random.randint', return_value=4) as r:
    assert f() == 4
r.assert_called_once_with(1, 6)
assert 1 <= f() <= 6
=== patches print
def f():
    print('x', 1)
---
from unittest.mock import patch
with patch('builtins.print') as p:
    f()
p.assert_called_once_with('x', 1)
=== patches input
def f():
    return input('name? ') + '!'
---
from unittest.mock import patch
with patch('builtins.input', return_value='bob'):
    assert f() == 'bob!'
with patch('builtins.input', side_effect=['a', 'b']):
    assert [f(), f()] == ['a!', 'b!']
=== patches open
def f(p):
    with open(p) as file:
        return file.read()
---
from unittest.mock import mock_open, patch
with patch('builtins.open', mock_open(read_data='abc')):
    assert f('nothing') == 'abc'
=== patches os.path
import os
def f(p):
    return os.path.exists(p)
---
from unittest.mock import patch
with patch('os.path.exists', return_value=True):
    assert f('/no/such') is True
assert f('/no/such') is False
=== patches an object
import time
def f():
    return time.time() * 2
---
import time
from unittest.mock import patch
with patch.object(time, 'time', return_value=5):
    assert f() == 10
=== patches the environment
import os
def f():
    return os.getenv('KEY')
---
import os
from unittest.mock import patch
with patch.dict(os.environ, {'KEY': 'v'}):
    assert f() == 'v'
assert f() is None
=== patches a method of its class
class A:
    def fetch(self):
        return 'real'
    def go(self):
        return self.fetch()
---
from unittest.mock import patch
with patch.object(A, 'fetch', return_value='fake'):
    assert A().go() == 'fake'
assert A().go() == 'real'
=== patches its own function
def fetch():
    return 'real'
def go():
    return fetch()
---
from unittest.mock import patch
with patch(__name__ + '.fetch', return_value='fake'):
    assert go() == 'fake'
assert go() == 'real'
=== assigns to a module
import math
def f():
    return math.floor(2.5)
---
import math
old, math.floor = math.floor, lambda x: 99
assert f() == 99
math.floor = old
assert f() == 2
=== patches an attribute of an object
class A:
    def fetch(self):
        return 'real'
    def go(self):
        return self.fetch()
---
from unittest.mock import MagicMock
a = A()
a.fetch = MagicMock(return_value='fake')
assert a.go() == 'fake'
a.fetch.assert_called_once()
=== raises
def f(x):
    if x < 0:
        raise ValueError('negative')
    return x
---
import unittest
class T(unittest.TestCase):
    def test_a(self):
        with self.assertRaisesRegex(ValueError, 'neg'):
            f(-1)
        self.assertEqual(f(1), 1)
unittest.main(argv=['x'], exit=False)
=== raises its own
class Broke(Exception):
    def __init__(self, need, have):
        super().__init__(f'need {need}, have {have}')
        self.need = need
def pay(have, need):
    if have < need:
        raise Broke(need, have)
    return have - need
---
try:
    pay(1, 5)
except Broke as e:
    assert e.need == 5 and str(e) == 'need 5, have 1'
else:
    assert False
assert pay(5, 1) == 4 and issubclass(Broke, Exception)
=== a hierarchy of exceptions
class Base(Exception):
    pass
class Low(Base, KeyError):
    code = 4
def f(low):
    raise Low('k') if low else Base()
---
for low in (True, False):
    try:
        f(low)
    except Low as e:
        assert low and e.code == 4 and isinstance(e, KeyError)
    except Base:
        assert not low
    else:
        assert False
=== a cause
def f():
    try:
        1 / 0
    except ZeroDivisionError as e:
        raise RuntimeError('outer') from e
---
try:
    f()
except RuntimeError as e:
    assert isinstance(e.__cause__, ZeroDivisionError)
else:
    assert False
=== an exception of a module
import json
def f(text):
    return json.loads(text)
---
import json
try:
    f('{')
except json.JSONDecodeError as e:
    assert e.pos == 1
else:
    assert False
=== a missing file
def f(p):
    return open(p).read()
---
try:
    f('/no/such')
except FileNotFoundError as e:
    assert e.errno == 2 and e.filename == '/no/such'
else:
    assert False
=== a missing key
def f(d):
    return d['k']
---
try:
    f({})
except KeyError as e:
    assert e.args[0] == 'k' and str(e) == "'k'"
else:
    assert False
=== a group
def f():
    raise ExceptionGroup('g', [ValueError(1), TypeError(2)])
---
got = []
try:
    f()
except* ValueError as g:
    got.append(len(g.exceptions))
except* TypeError:
    got.append('t')
assert got == [1, 't']
=== wrong arguments
def f(a, *, b):
    return a
---
try:
    f(1)
except TypeError as e:
    assert 'b' in str(e)
else:
    assert False
=== a stop of its own
def f(xs):
    it = iter(xs)
    next(it)
    return next(it)
---
try:
    f([1])
except StopIteration:
    pass
else:
    assert False
assert f([1, 2]) == 2
=== a stack
class Stack:
    def __init__(self):
        self._items = []
    def push(self, x):
        self._items.append(x)
        return self
    def pop(self):
        if not self._items:
            raise IndexError('pop from empty stack')
        return self._items.pop()
    def __len__(self):
        return len(self._items)
    def __bool__(self):
        return bool(self._items)
---
s = Stack()
assert not s and len(s) == 0
s.push(1).push(2)
assert s and s.pop() == 2 and len(s) == 1
s.pop()
try:
    s.pop()
except IndexError:
    pass
else:
    assert False
=== a bank account
class Account:
    def __init__(self, owner, balance=0):
        self.owner, self.balance = owner, balance
    def deposit(self, n):
        if n <= 0:
            raise ValueError('positive')
        self.balance += n
    def __str__(self):
        return f'{self.owner}: {self.balance}'
---
a = Account('ann', balance=5)
a.deposit(3)
assert a.balance == 8 and str(a) == 'ann: 8' and f'{a}' == 'ann: 8'
a.balance = 1
a.deposit(1)
assert a.balance == 2
=== a vector
import math
class V:
    def __init__(self, x, y):
        self.x, self.y = x, y
    def __add__(self, o):
        return V(self.x + o.x, self.y + o.y)
    def __mul__(self, k):
        return V(self.x * k, self.y * k)
    __rmul__ = __mul__
    def __neg__(self):
        return V(-self.x, -self.y)
    def __abs__(self):
        return math.hypot(self.x, self.y)
    def __eq__(self, o):
        return isinstance(o, V) and (self.x, self.y) == (o.x, o.y)
    def __hash__(self):
        return hash((self.x, self.y))
    def __iter__(self):
        return iter((self.x, self.y))
    def __getitem__(self, i):
        return (self.x, self.y)[i]
    def __repr__(self):
        return f'V({self.x}, {self.y})'
---
a, b = V(1, 2), V(3, 4)
assert a + b == V(4, 6) and a * 2 == 2 * a == V(2, 4) and -a == V(-1, -2)
assert abs(b) == 5.0 and list(a) == [1, 2] and a[1] == 2 and repr(a + b) == 'V(4, 6)'
assert a != b and len({a, V(1, 2)}) == 1
x, y = b
assert (x, y) == (3, 4) and abs(a * 2 * 2) > 8
=== a matrix
class M:
    def __init__(self, rows):
        self.rows = [list(r) for r in rows]
    def __matmul__(self, o):
        return M([[sum(a * b for a, b in zip(r, c)) for c in zip(*o.rows)] for r in self.rows])
    def __getitem__(self, ij):
        return self.rows[ij[0]][ij[1]]
    def __setitem__(self, ij, v):
        self.rows[ij[0]][ij[1]] = v
    @property
    def T(self):
        return M(zip(*self.rows))
---
m = M([[1, 2], [3, 4]])
assert (m @ m).rows == [[7, 10], [15, 22]] and m[1, 0] == 3 and m.T.rows == [[1, 3], [2, 4]]
m[0, 0] = 9
assert m.rows[0] == [9, 2]
=== an ordering
import functools
@functools.total_ordering
class Version:
    def __init__(self, text):
        self.parts = tuple(map(int, text.split('.')))
    def __eq__(self, o):
        return self.parts == o.parts
    def __lt__(self, o):
        return self.parts < o.parts
---
a, b = Version('1.2'), Version('1.10')
assert a < b
assert b >= a
assert max(a, b) is b
assert sorted([b, a])[0] is a
assert a == Version('1.2')
=== a temperature with properties
class T:
    def __init__(self, c):
        self._c = c
    @property
    def f(self):
        return self._c * 9 / 5 + 32
    @f.setter
    def f(self, v):
        self._c = (v - 32) * 5 / 9
    @classmethod
    def of(cls, f):
        t = cls(0)
        t.f = f
        return t
    @staticmethod
    def zero():
        return -273.15
---
t = T(100)
assert t.f == 212 and T.of(32)._c == 0 and T.zero() == -273.15
t.f = 50
assert abs(t._c - 10) < 1e-9
=== a linked list
class Node:
    def __init__(self, val=0, next=None):
        self.val, self.next = val, next
def reverse(head):
    prev = None
    while head:
        head.next, prev, head = prev, head, head.next
    return prev
---
head = Node(1, Node(2, Node(3)))
node, got = reverse(head), []
while node:
    got.append(node.val)
    node = node.next
assert got == [3, 2, 1] and head.next is None
=== a tree
class Tree:
    def __init__(self, v, left=None, right=None):
        self.v, self.left, self.right = v, left, right
def depth(t):
    return 0 if t is None else 1 + max(depth(t.left), depth(t.right))
def insert(t, v):
    if t is None:
        return Tree(v)
    if v < t.v:
        t.left = insert(t.left, v)
    else:
        t.right = insert(t.right, v)
    return t
---
t = None
for v in (5, 2, 8, 1):
    t = insert(t, v)
assert depth(t) == 3 and t.left.left.v == 1 and t.right.left is None and depth(Tree(1)) == 1
=== LeetCode's form
from typing import List
class Solution:
    def twoSum(self, nums: List[int], target: int) -> List[int]:
        seen = {}
        for i, n in enumerate(nums):
            if target - n in seen:
                return [seen[target - n], i]
            seen[n] = i
---
assert Solution().twoSum([2, 7, 11], 9) == [0, 1]
s = Solution()
assert s.twoSum(nums=[3, 3], target=6) == [0, 1]
=== a cache of its own
from collections import OrderedDict
class LRU:
    def __init__(self, n):
        self.n, self.d = n, OrderedDict()
    def get(self, k):
        if k not in self.d:
            return -1
        self.d.move_to_end(k)
        return self.d[k]
    def put(self, k, v):
        self.d[k] = v
        self.d.move_to_end(k)
        if len(self.d) > self.n:
            self.d.popitem(last=False)
    def __contains__(self, k):
        return k in self.d
---
c = LRU(2)
c.put(1, 'a')
c.put(2, 'b')
assert c.get(1) == 'a'
c.put(3, 'c')
assert c.get(2) == -1 and 1 in c and 2 not in c and list(c.d) == [1, 3]
=== inheritance
class Animal:
    def __init__(self, name):
        self.name = name
    def speak(self):
        raise NotImplementedError
    def hello(self):
        return f'{self.name} says {self.speak()}'
class Dog(Animal):
    def speak(self):
        return 'woof'
---
d = Dog('rex')
assert d.hello() == 'rex says woof' and isinstance(d, Animal) and issubclass(Dog, Animal)
assert type(d) is Dog and type(d).__name__ == 'Dog' and d.__class__.__name__ == 'Dog'
try:
    Animal('x').speak()
except NotImplementedError:
    pass
else:
    assert False
=== an abstract class
from abc import ABC, abstractmethod
class Shape(ABC):
    @abstractmethod
    def area(self): ...
class Sq(Shape):
    def __init__(self, s):
        self.s = s
    def area(self):
        return self.s ** 2
---
assert Sq(3).area() == 9 and isinstance(Sq(1), Shape)
try:
    Shape()
except TypeError:
    pass
else:
    assert False
=== an iterator of its own
class Down:
    def __init__(self, n):
        self.n = n
    def __iter__(self):
        return self
    def __next__(self):
        if self.n <= 0:
            raise StopIteration
        self.n -= 1
        return self.n + 1
---
assert list(Down(3)) == [3, 2, 1] and sum(Down(3)) == 6 and [x for x in Down(1)] == [1]
d = Down(1)
assert next(d) == 1
try:
    next(d)
except StopIteration:
    pass
else:
    assert False
=== a generator that is sent to
def f():
    total = 0
    while True:
        got = yield total
        if got is None:
            return total
        total += got
---
g = f()
assert next(g) == 0 and g.send(3) == 3 and g.send(4) == 7
try:
    g.send(None)
except StopIteration as e:
    assert e.value == 7
else:
    assert False
=== a generator type
def f(n):
    for i in range(n):
        yield i
---
import inspect, types
g = f(3)
assert isinstance(g, types.GeneratorType)
assert inspect.isgenerator(g)
assert list(g) == [0, 1, 2]
=== a lazy generator
log = []
def f():
    for i in range(3):
        log.append(i)
        yield i
---
g = f()
assert log == []
next(g)
assert log == [0]
=== a context manager
class R:
    def __init__(self):
        self.log = []
    def __enter__(self):
        self.log.append('in')
        return self
    def __exit__(self, kind, error, tb):
        self.log.append(kind and kind.__name__)
        return kind is ValueError
---
r = R()
with r as got:
    assert got is r
    raise ValueError('x')
assert r.log == ['in', 'ValueError']
with r:
    pass
assert r.log[-1] is None
=== contextmanager
import contextlib
@contextlib.contextmanager
def cm(log):
    log.append('in')
    try:
        yield 5
    finally:
        log.append('out')
---
log = []
with cm(log) as x:
    assert x == 5 and log == ['in']
assert log == ['in', 'out']
try:
    with cm(log):
        raise KeyError
except KeyError:
    pass
assert log == ['in', 'out'] * 2
=== a callable object
class Adder:
    def __init__(self, n):
        self.n = n
    def __call__(self, x):
        return x + self.n
---
a = Adder(3)
assert a(4) == 7 and callable(a) and list(map(a, [1, 2])) == [4, 5]
=== a decorator
import functools
def twice(f):
    @functools.wraps(f)
    def g(*a, **k):
        return f(*a, **k) * 2
    return g
---
@twice
def sq(x):
    '''doc'''
    return x * x
assert sq(3) == 18 and sq.__name__ == 'sq' and sq.__doc__ == 'doc'
=== a decorator with arguments
def retry(n):
    def wrap(f):
        def g(*a):
            for i in range(n):
                try:
                    return f(*a)
                except ValueError:
                    if i == n - 1:
                        raise
        return g
    return wrap
---
calls = []
@retry(3)
def flaky(x):
    calls.append(x)
    if len(calls) < 3:
        raise ValueError
    return x
assert flaky(7) == 7 and calls == [7, 7, 7]
=== memoises a function of the tests
def memo(f):
    cache = {}
    def g(x):
        if x not in cache:
            cache[x] = f(x)
        return cache[x]
    g.cache = cache
    return g
---
n = 0
@memo
def slow(x):
    global n
    n += 1
    return x * 2
assert slow(2) == 4 and slow(2) == 4 and n == 1 and slow.cache == {2: 4}
=== a descriptor
class Positive:
    def __set_name__(self, owner, name):
        self.name = '_' + name
    def __get__(self, o, t=None):
        return getattr(o, self.name)
    def __set__(self, o, v):
        if v < 0:
            raise ValueError
        setattr(o, self.name, v)
class Item:
    price = Positive()
    def __init__(self, p):
        self.price = p
---
i = Item(3)
i.price = 4
assert i.price == 4
try:
    i.price = -1
except ValueError:
    pass
else:
    assert False
=== dynamic attributes
class D:
    def __init__(self, **k):
        self.__dict__.update(k)
    def __getattr__(self, name):
        if name.startswith('x_'):
            return name[2:]
        raise AttributeError(name)
---
d = D(a=1)
assert d.a == 1 and d.x_hi == 'hi' and not hasattr(d, 'q') and getattr(d, 'q', 3) == 3
setattr(d, 'b', 2)
assert d.b == 2 and vars(d) == {'a': 1, 'b': 2}
=== a mapping of its own
from collections.abc import MutableMapping
class Lower(MutableMapping):
    def __init__(self, **k):
        self.d = {}
        self.update(k)
    def __getitem__(self, k):
        return self.d[k.lower()]
    def __setitem__(self, k, v):
        self.d[k.lower()] = v
    def __delitem__(self, k):
        del self.d[k.lower()]
    def __iter__(self):
        return iter(self.d)
    def __len__(self):
        return len(self.d)
---
m = Lower(A=1)
m['B'] = 2
assert m['a'] == 1
assert 'b' in m
assert len(m) == 2
assert dict(m) == {'a': 1, 'b': 2}
assert m.get('z', 9) == 9
del m['A']
assert list(m.items()) == [('b', 2)]
=== a graph
from collections import defaultdict, deque
class Graph:
    def __init__(self):
        self.adj = defaultdict(set)
    def edge(self, a, b):
        self.adj[a].add(b)
        self.adj[b].add(a)
    def bfs(self, start):
        seen, todo = [start], deque([start])
        while todo:
            for n in sorted(self.adj[todo.popleft()]):
                if n not in seen:
                    seen.append(n)
                    todo.append(n)
        return seen
---
g = Graph()
g.edge(1, 2)
g.edge(2, 3)
assert g.bfs(1) == [1, 2, 3]
assert g.adj[2] == {1, 3}
assert dict(g.adj) == {1: {2}, 2: {1, 3}, 3: {2}}
=== copies of objects
class C:
    def __init__(self, xs):
        self.xs = xs
---
import copy
a = C([1])
b, c = copy.copy(a), copy.deepcopy(a)
a.xs.append(2)
assert b.xs == [1, 2] and c.xs == [1] and isinstance(c, C)
=== dataclasses
from dataclasses import dataclass, field
@dataclass
class Item:
    name: str
    price: float = 1.0
    tags: list = field(default_factory=list)
    @property
    def gross(self):
        return self.price * 2
---
import dataclasses
i = Item('a', tags=['x'])
assert dataclasses.asdict(i) == {'name': 'a', 'price': 1.0, 'tags': ['x']}
assert i.gross == 2.0
assert dataclasses.replace(i, name='b') == Item('b', 1.0, ['x'])
assert dataclasses.is_dataclass(Item)
assert [f.name for f in dataclasses.fields(Item)] == ['name', 'price', 'tags']
=== an inner class
class Outer:
    class Inner:
        def __init__(self):
            self.v = 3
---
assert Outer.Inner().v == 3 and isinstance(Outer.Inner(), Outer.Inner)
=== generics
from typing import Generic, TypeVar
T = TypeVar('T')
class Box(Generic[T]):
    def __init__(self, x: T):
        self.x = x
---
assert Box[int](3).x == 3 and Box('a').x == 'a'
=== singledispatch
import functools
@functools.singledispatch
def f(x):
    return 'any'
@f.register
def _(x: int):
    return 'int'
---
assert f(1) == 'int' and f('a') == 'any'
=== a signature
def f(a: int, b: str = 'x', *c, d=3, **e) -> bool:
    '''Docs of f.'''
    return True
---
import inspect
p = inspect.signature(f).parameters
assert list(p) == ['a', 'b', 'c', 'd', 'e'] and p['b'].default == 'x'
assert f.__doc__ == 'Docs of f.'
assert f.__name__ == 'f'
assert f.__annotations__['a'] is int
assert f(1)
=== asyncio
import asyncio
async def f(x):
    await asyncio.sleep(0.001)
    return x * 2
---
import asyncio
assert asyncio.run(f(4)) == 8
async def both():
    return await asyncio.gather(f(1), f(2))
assert asyncio.run(both()) == [2, 4]
=== an asynchronous generator
import asyncio
async def f(n):
    for i in range(n):
        await asyncio.sleep(0)
        yield i
---
import asyncio
async def main():
    return [x async for x in f(3)]
assert asyncio.run(main()) == [0, 1, 2]
=== an asynchronous context manager
class A:
    def __init__(self):
        self.log = []
    async def __aenter__(self):
        self.log.append('in')
        return self
    async def __aexit__(self, *a):
        self.log.append('out')
    async def get(self):
        return 5
---
import asyncio
async def main():
    async with A() as a:
        assert await a.get() == 5
    return a.log
assert asyncio.run(main()) == ['in', 'out']
=== an asynchronous callback
async def f(g, xs):
    return [await g(x) for x in xs]
---
import asyncio
async def g(x):
    return x + 1
assert asyncio.run(f(g, [1, 2])) == [2, 3]
=== threads
import threading
def f(n):
    got, lock = [], threading.Lock()
    def work(i):
        with lock:
            got.append(i)
    ts = [threading.Thread(target=work, args=(i,)) for i in range(n)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    return sorted(got)
---
assert f(5) == [0, 1, 2, 3, 4]
=== threads of the tests
import threading
class Counter:
    def __init__(self):
        self.n, self.lock = 0, threading.Lock()
    def inc(self):
        with self.lock:
            self.n += 1
---
c = Counter()
for _ in range(50):
    c.inc()
assert c.n == 50
=== a thread pool
from concurrent.futures import ThreadPoolExecutor
def f(xs):
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda x: x * x, xs))
---
assert f([1, 2, 3]) == [1, 4, 9]
=== a subprocess
import subprocess, sys
def f():
    command = [sys.executable, '-c', 'print(6 * 7)']
    return subprocess.run(command, capture_output=True, text=True).stdout
---
assert f() == '42\n'
=== a database
import sqlite3
def f():
    db = sqlite3.connect(':memory:')
    db.execute('create table t (a, b)')
    db.executemany('insert into t values (?, ?)', [(1, 'x'), (2, 'y')])
    return db
---
db = f()
assert db.execute('select b from t order by a desc').fetchall() == [('y',), ('x',)]
=== regular expressions
import re
def f(s):
    return re.sub(r'(\w+)@', lambda m: m.group(1).upper() + '@', s)
---
assert f('ab@c') == 'AB@c'
=== a substitution by the tests
import re
def f(s, g):
    return re.sub('[0-9]+', g, s)
---
assert f('a12b3', lambda m: str(int(m.group()) * 2)) == 'a24b6'
=== a heap
import heapq
def f(xs, n):
    heap = list(xs)
    heapq.heapify(heap)
    return [heapq.heappop(heap) for _ in range(n)]
---
assert f([3, 1, 2], 2) == [1, 2]
=== XML
import xml.etree.ElementTree as ET
def f(s):
    return ET.fromstring(s)
---
e = f('<a x="1"><b>t</b></a>')
assert e.tag == 'a' and e.get('x') == '1' and e.find('b').text == 't' and len(e) == 1
=== arguments of a command
import argparse
def f(argv):
    p = argparse.ArgumentParser()
    p.add_argument('--n', type=int, default=1)
    return p.parse_args(argv)
---
assert f(['--n', '3']).n == 3 and f([]).n == 1
=== sockets
import socket
def f():
    a, b = socket.socketpair()
    with a, b:
        a.sendall(b'hi')
        return b.recv(5)
---
assert f() == b'hi'
=== weak references
import weakref
class C:
    pass
def f():
    c = C()
    r = weakref.ref(c)
    alive = r() is c
    del c
    return alive, r() is None
---
assert f() == (True, True)
=== pickles
import pickle
class P:
    def __init__(self, x):
        self.x = x
def f(x):
    return pickle.loads(pickle.dumps(P(x))).x
---
assert f([1]) == [1]
=== deep recursion
import sys
sys.setrecursionlimit(5000)
def f(n):
    return 0 if n == 0 else 1 + f(n - 1)
---
assert f(2000) == 2000
=== a guard
def f():
    return 1
if __name__ == '__main__x':
    f()
---
assert f() == 1
=== global keyword in a function
x = 1
def set_x(v):
    global x
    x = v
def get_x():
    return x
---
set_x(5)
assert get_x() == 5 and x == 5
=== shadows a builtin
def sum(xs):
    t = 0
    for x in xs:
        t += x
    return t
---
assert sum([1, 2]) == 3
=== a class of constants
class Config:
    HOST = 'h'
    PORTS = [1, 2]
---
assert Config.HOST == 'h' and Config.PORTS == [1, 2] and Config().HOST == 'h'
=== an event bus
class Bus:
    def __init__(self):
        self.subs = {}
    def on(self, name, f):
        self.subs.setdefault(name, []).append(f)
    def emit(self, name, *a):
        for f in self.subs.get(name, []):
            f(*a)
---
got = []
b = Bus()
b.on('x', got.append)
b.on('x', lambda v: got.append(v * 2))
b.emit('x', 3)
assert got == [3, 6]
=== a state machine
import enum
class S(enum.Enum):
    OFF = enum.auto()
    ON = enum.auto()
class Light:
    def __init__(self):
        self.state = S.OFF
    def toggle(self):
        self.state = S.ON if self.state is S.OFF else S.OFF
---
l = Light()
assert l.state == S.OFF
l.toggle()
assert l.state is S.ON and l.state.name == 'ON' and list(S) == [S.OFF, S.ON]
=== an inventory
class Inventory:
    def __init__(self):
        self.items = {}
    def add(self, name, n=1):
        self.items[name] = self.items.get(name, 0) + n
    def total(self):
        return sum(self.items.values())
---
import unittest
class TestInventory(unittest.TestCase):
    def setUp(self):
        self.inv = Inventory()
    def test_add(self):
        self.inv.add('a')
        self.inv.add('a', 2)
        self.assertEqual(self.inv.items, {'a': 3})
        self.assertEqual(self.inv.total(), 3)
    def test_empty(self):
        self.assertDictEqual(self.inv.items, {})
unittest.main(argv=['x'], exit=False)
=== functions of tests
def add(a, b):
    return a + b
---
def test_add():
    assert add(1, 2) == 3
def test_text():
    assert add('a', 'b') == 'ab'
test_add()
test_text()
=== a money class
class Money:
    def __init__(self, n):
        self.n = n
    def __add__(self, o):
        return Money(self.n + (o.n if isinstance(o, Money) else o))
    __radd__ = __add__
    def __eq__(self, o):
        return self.n == o.n
---
assert Money(1) + Money(2) == Money(3)
assert sum([Money(1), Money(2)]) == Money(3)
assert (Money(1) + 4).n == 5
=== hash and identity
class K:
    pass
---
a, b = K(), K()
d = {a: 1, b: 2}
assert d[a] == 1 and a != b and a == a and len(d) == 2
=== a set of its own objects
class T:
    def __init__(self, n):
        self.n = n
    def __hash__(self):
        return hash(self.n)
    def __eq__(self, o):
        return self.n == o.n
def f():
    return {T(1), T(1), T(2)}
---
got = f()
assert len(got) == 2 and T(1) in got and sorted(t.n for t in got) == [1, 2]
=== nested results
class P:
    def __init__(self, n):
        self.n = n
def f():
    return {'a': [P(1), (P(2),)]}
---
x = f()
assert x['a'][0].n == 1 and x['a'][1][0].n == 2
=== a polynomial
class Poly:
    def __init__(self, *c):
        self.c = c
    def __call__(self, x):
        return sum(a * x ** i for i, a in enumerate(self.c))
    def __mul__(self, o):
        out = [0] * (len(self.c) + len(o.c) - 1)
        for i, a in enumerate(self.c):
            for j, b in enumerate(o.c):
                out[i + j] += a * b
        return Poly(*out)
---
p = Poly(1, 1)
assert p(2) == 3 and (p * p).c == (1, 2, 1) and (p * p)(2) == 9
=== a bloom filter
class Seen:
    def __init__(self):
        self.bits = 0
    def add(self, x):
        self.bits |= 1 << (hash(x) % 64)
    def __contains__(self, x):
        return bool(self.bits >> (hash(x) % 64) & 1)
---
s = Seen()
s.add(5)
assert 5 in s and 6 not in s
=== an interval
class Interval:
    def __init__(self, a, b):
        self.a, self.b = a, b
    def __contains__(self, x):
        return self.a <= x <= self.b
    def __len__(self):
        return self.b - self.a
---
i = Interval(1, 5)
assert 3 in i and 7 not in i and len(i) == 4
=== returns collections.UserString("ab")
import collections
def f():
    return collections.UserString("ab")
---
import collections
x = f()
assert x == "ab" or str(x) == "ab"
=== returns collections.deque([1], maxlen=3)
import collections
def f():
    return collections.deque([1], maxlen=3)
---
import collections
x = f()
assert x.maxlen == 3
=== returns time.gmtime(0)
import time
def f():
    return time.gmtime(0)
---
import time
x = f()
assert x.tm_year == 1970 and x[0] == 1970
=== returns os.stat("/")
import os
def f():
    return os.stat("/")
---
import os
x = f()
assert x.st_size >= 0 and x.st_mode > 0
=== returns sys.version_info
import sys
def f():
    return sys.version_info
---
import sys
x = f()
assert x >= (3, 8) and x.major == 3
=== returns urllib.parse.urlparse("http://a.b/c?d=1")
import urllib.parse
def f():
    return urllib.parse.urlparse("http://a.b/c?d=1")
---
import urllib.parse
x = f()
assert x.netloc == "a.b" and x.path == "/c" and x.scheme == "http"
=== returns statistics.NormalDist(0, 1)
import statistics
def f():
    return statistics.NormalDist(0, 1)
---
import statistics
x = f()
assert x.mean == 0 and x.cdf(0) == 0.5
=== returns inspect.signature(lambda a, b=1: a)
import inspect
def f():
    return inspect.signature(lambda a, b=1: a)
---
import inspect
x = f()
assert list(x.parameters) == ["a", "b"]
=== returns ast.parse("1+2")
import ast
def f():
    return ast.parse("1+2")
---
import ast
x = f()
assert x.body[0].value.op.__class__.__name__ == "Add"
=== returns list[int]
def f():
    return list[int]
---
x = f()
assert str(x) == "list[int]" and x.__origin__ is list
=== returns typing.Optional[int]
import typing
def f():
    return typing.Optional[int]
---
import typing
x = f()
assert "Optional" in str(x)
=== returns int | str
def f():
    return int | str
---
x = f()
assert "int" in repr(x)
=== returns math
import math
def f():
    return math
---
import math
x = f()
assert x.pi > 3
=== returns logging.getLogger("a")
import logging
def f():
    return logging.getLogger("a")
---
import logging
x = f()
assert x.name == "a"
=== returns random.Random(3)
import random
def f():
    return random.Random(3)
---
import random
x = f()
assert x.random() == __import__("random").Random(3).random()
=== returns itertools.groupby([1, 1, 2])
import itertools
def f():
    return itertools.groupby([1, 1, 2])
---
import itertools
x = f()
assert [(k, list(g)) for k, g in x] == [(1, [1, 1]), (2, [2])]
=== returns itertools.tee([1, 2])
import itertools
def f():
    return itertools.tee([1, 2])
---
import itertools
x = f()
assert list(x[0]) == [1, 2] and list(x[1]) == [1, 2]
=== returns D(2020, 1, 1)
import datetime
class D(datetime.datetime):
    pass
def f():
    return D(2020, 1, 1)
---
import datetime
x = f()
assert x.year == 2020 and x.isoformat() == "2020-01-01T00:00:00"
=== returns float("nan"), [float("nan")]
def f():
    return float("nan"), [float("nan")]
---
x = f()
assert x[0] != x[0] and x[1][0] != x[1][0]
=== returns E(3)
class E(Exception):
    def __init__(s, c):
        super().__init__("m")
        s.c = c
def f():
    return E(3)
---
x = f()
assert x.c == 3 and isinstance(x, E) and str(x) == "m"
=== returns [E("a"), None]
class E(ValueError):
    pass
def f():
    return [E("a"), None]
---
x = f()
assert isinstance(x[0], ValueError) and x[0].args == ("a",)
=== returns (lambda: (yield 1))()
def f():
    return (lambda: (yield 1))()
---
x = f()
assert next(x) == 1
=== returns open("/dev/null")
def f():
    return open("/dev/null")
---
x = f()
assert x.read() == "" and not x.closed
=== returns tempfile.NamedTemporaryFile("w+")
import tempfile
def f():
    return tempfile.NamedTemporaryFile("w+")
---
import tempfile
x = f()
assert x.write("a") == 1 and x.seek(0) == 0 and x.read() == "a"
=== returns threading.Event()
import threading
def f():
    return threading.Event()
---
import threading
x = f()
assert not x.is_set() and x.set() is None and x.is_set()
=== returns threading.Thread(target=print)
import threading
def f():
    return threading.Thread(target=print)
---
import threading
x = f()
assert x.start() is None and x.join() is None and not x.is_alive()
=== returns c.ThreadPoolExecutor(1).submit(pow, 2, 3)
import concurrent.futures as c
def f():
    return c.ThreadPoolExecutor(1).submit(pow, 2, 3)
---
import concurrent.futures as c
x = f()
assert x.result() == 8
=== returns weakref.ref(c)
import weakref
class C:
    pass
c = C()
def f():
    return weakref.ref(c)
---
import weakref
x = f()
assert x() is not None
=== returns c.m
class C:
    def m(self):
        return 1
c = C()
def f():
    return c.m
---
x = f()
assert x() == 1 and x.__name__ == "m"
=== returns C.m
class C:
    def m(self):
        return 1
def f():
    return C.m
---
x = f()
assert x.__name__ == "m" and callable(x)
=== returns C.p
class C:
    @property
    def p(self):
        return 1
def f():
    return C.p
---
x = f()
assert isinstance(x, property) or x is not None
=== returns operator.attrgetter("a")
import operator
def f():
    return operator.attrgetter("a")
---
import operator
x = f()
assert callable(x)
=== returns contextlib.nullcontext(5)
import contextlib
def f():
    return contextlib.nullcontext(5)
---
import contextlib
x = f()
assert x.__enter__() == 5
=== returns decimal.getcontext()
import decimal
def f():
    return decimal.getcontext()
---
import decimal
x = f()
assert x.prec == 28
=== returns C.A (2)
import enum
class C(str, enum.Enum):
    A = "a"
def f():
    return C.A
---
import enum
x = f()
assert x == "a" and x is C.A and x.value == "a"
=== returns C.A (3)
import enum
class C(enum.Enum):
    A = (1, 2)
    def m(self):
        return self.value[0]
def f():
    return C.A
---
import enum
x = f()
assert x.m() == 1 and x in C and C["A"] is x and str(x) == "C.A" and repr(x) == "<C.A: (1, 2)>"
=== returns {C.A: "x"}
import enum
class C(enum.Enum):
    A = 1
    B = 2
def f():
    return {C.A: "x"}
---
import enum
x = f()
assert x[C.A] == "x" and C.B not in x and list(C.__members__) == ["A", "B"]
=== returns T(a=1)
from typing import TypedDict
class T(TypedDict):
    a: int
def f():
    return T(a=1)
---
x = f()
assert x == {"a": 1}
=== returns types.ModuleType("m")
import types
def f():
    return types.ModuleType("m")
---
import types
x = f()
assert x.__name__ == "m"
=== returns object()
def f():
    return object()
---
x = f()
assert x is not None and x == x
=== returns A
class A:
    pass
def f():
    return A
---
x = f()
assert x.__name__ == "A" and isinstance(x(), x)
=== returns iter({1: 2})
def f():
    return iter({1: 2})
---
x = f()
assert list(x) == [1]
=== returns iter(b"ab")
def f():
    return iter(b"ab")
---
x = f()
assert list(x) == [97, 98]
=== returns {1, 2} | {3}
def f():
    return {1, 2} | {3}
---
x = f()
assert x == {1, 2, 3} and isinstance(x, set)
=== returns dict(a=[1, (2, {3})])
def f():
    return dict(a=[1, (2, {3})])
---
x = f()
assert x == {"a": [1, (2, {3})]}
=== returns "x" * 100000
def f():
    return "x" * 100000
---
x = f()
assert len(x) == 100000
=== returns list(range(100000))
def f():
    return list(range(100000))
---
x = f()
assert x[-1] == 99999 and sum(x) == 4999950000
=== returns csv.DictReader(io.StringIO("a,b\n1,2"))
import csv, io
def f():
    return csv.DictReader(io.StringIO("a,b\n1,2"))
---
import csv, io
x = f()
assert list(x) == [{"a": "1", "b": "2"}]
=== returns json.dumps({"a": 1})
import json
def f():
    return json.dumps({"a": 1})
---
import json
x = f()
assert x == '{"a": 1}'
=== returns heapq.merge([1, 3], [2])
import heapq
def f():
    return heapq.merge([1, 3], [2])
---
import heapq
x = f()
assert list(x) == [1, 2, 3]
=== returns string.ascii_letters
import string
def f():
    return string.ascii_letters
---
import string
x = f()
assert x.startswith("abc")
=== returns configparser.ConfigParser()
import configparser
def f():
    return configparser.ConfigParser()
---
import configparser
x = f()
assert x.sections() == [] and x.read_string("[a]\nb=1") is None and x["a"]["b"] == "1"
=== returns email.message.EmailMessage()
import email.message
def f():
    return email.message.EmailMessage()
---
import email.message
x = f()
assert x.keys() == []
=== returns S()
from collections.abc import Sequence
class S(Sequence):
    def __getitem__(s, i):
        return [1, 2, 3][i]
    def __len__(s):
        return 3
def f():
    return S()
---
x = f()
assert list(x) == [1, 2, 3]
assert 2 in x
assert x.index(3) == 2
assert x[0:2] == [1, 2]
assert list(reversed(x)) == [3, 2, 1]
=== also: def f(p):
def f(p):
    return p.x + p[1]
---
from collections import namedtuple
P = namedtuple("P", "x y")
assert f(P(1, 2)) == 3
=== also: def f(c):
def f(c):
    return c.name, c.value
---
import enum
class C(enum.Enum):
    A = 1
assert f(C.A) == ("A", 1)
=== also: def f(c): (2)
def f(c):
    return c
---
import enum
class C(enum.Enum):
    A = 1
assert f(C.A) is C.A
=== also: def f(xs):
def f(xs):
    return sorted(xs)
---
class N:
    def __init__(s, v):
        s.v = v
    def __lt__(s, o):
        return s.v < o.v
a, b = N(2), N(1)
assert f([a, b]) == [b, a]
=== also: def f(x):
def f(x):
    return isinstance(x, dict), len(x)
---
class D(dict):
    pass
assert f(D(a=1)) == (True, 1)
=== also: def f(x): (2)
def f(x):
    return isinstance(x, list), sum(x)
---
class L(list):
    pass
assert f(L([1, 2])) == (True, 3)
=== also: def f(x): (3)
def f(x):
    return x + 1
---
class I(int):
    pass
assert f(I(3)) == 4
=== also: def f(x): (4)
def f(x):
    return x.upper()
---
class S(str):
    pass
assert f(S("a")) == "A"
=== also: def f(d):
def f(d):
    d["a"] += 1
    return d
---
from collections import defaultdict
d = defaultdict(lambda: 5)
assert f(d)["a"] == 6 and d["a"] == 6
=== also: return 1
import threading
def f(lock):
    with lock:
        return 1
---
import threading
assert f(threading.Lock()) == 1
=== also: def f(q):
def f(q):
    q.put(3)
---
import queue
q = queue.Queue()
f(q)
assert q.get() == 3
=== also: def f(ev):
def f(ev):
    ev.set()
---
import threading
e = threading.Event()
f(e)
assert e.is_set()
=== also: def f(r):
def f(r):
    return r.random()
---
import random
assert f(random.Random(1)) == random.Random(1).random()
=== also: def f(fh):
def f(fh):
    return fh.read()
---
open("a.txt", "w").write("hi")
with open("a.txt") as fh:
    assert f(fh) == "hi"
=== also: def f(fh): (2)
def f(fh):
    fh.write(b"x")
---
import io
b = io.BytesIO()
f(b)
assert b.getvalue() == b"x"
=== also: return 1 (2)
import sys
def f(a):
    if a:
        sys.exit(2)
    return 1
---
try:
    f(1)
    assert False
except SystemExit as e:
    assert e.code == 2
assert f(0) == 1
=== also: return p.parse_args(a).n
import argparse
def f(a):
    p = argparse.ArgumentParser()
    p.add_argument("--n", type=int)
    return p.parse_args(a).n
---
import unittest
class T(unittest.TestCase):
    def test_a(self):
        with self.assertRaises(SystemExit):
            f(["--n", "x"])
        self.assertEqual(f(["--n", "3"]), 3)
=== also: return os.path.exists("z.txt")
import os
def f():
    return os.path.exists("z.txt")
---
import os
os.mkdir("sub")
os.chdir("sub")
open("z.txt", "w").close()
assert f()
=== also: return Path("/nope").exists()
from pathlib import Path
def f():
    return Path("/nope").exists()
---
from unittest.mock import patch
with patch("pathlib.Path.exists", return_value=True):
    assert f()
assert not f()
=== also: return Path("/nope").exists() (2)
from pathlib import Path
def f():
    return Path("/nope").exists()
---
from pathlib import Path
from unittest.mock import patch
with patch.object(Path, "exists", return_value=True):
    assert f()
assert not f()
=== also: return datetime.datetime.now().year
import datetime
def f():
    return datetime.datetime.now().year
---
from unittest.mock import patch
import datetime
with patch("datetime.datetime") as d:
    d.now.return_value = datetime.date(1999, 1, 1)
    assert f() == 1999
=== also: return subprocess.run(["ls"], capture_output=True)
import subprocess
def f():
    return subprocess.run(["ls"], capture_output=True).stdout
---
from unittest.mock import patch, Mock
with patch("subprocess.run", return_value=Mock(stdout=b"x")) as r:
    assert f() == b"x"
r.assert_called_once_with(["ls"], capture_output=True)
=== also: return json.loads(r.read())
import urllib.request, json
def f(u):
    with urllib.request.urlopen(u) as r:
        return json.loads(r.read())
---
from unittest.mock import patch, MagicMock
m = MagicMock()
m.__enter__.return_value.read.return_value = b'{"a":1}'
with patch("urllib.request.urlopen", return_value=m):
    assert f("http://x") == {"a": 1}
=== also: def helper(x):
def helper(x):
    return x
def f(x):
    return helper(x) + 1
---
from unittest.mock import patch
import sys
with patch.object(sys.modules[__name__], "helper", lambda x: 10):
    assert f(1) == 11
assert f(1) == 2
=== also: return CONFIG["a"]
CONFIG = {"a": 1}
def f():
    return CONFIG["a"]
---
from unittest.mock import patch
with patch.dict(CONFIG, {"a": 5}):
    assert f() == 5
assert f() == 1
=== also: return x * RATE
RATE = 2
def f(x):
    return x * RATE
---
assert f(3) == 6 and RATE == 2
=== also: return x * RATE (2)
RATE = 2
def f(x):
    return x * RATE
---
import sys
from unittest.mock import patch
with patch(__name__ + ".RATE", 5):
    assert f(3) == 15
assert f(3) == 6
=== also: def f(n):
def f(n):
    if n == 0:
        raise RecursionError("deep")
    return f(n - 1)
---
try:
    f(10)
    assert False
except RecursionError:
    pass
=== also: def f(n): (2)
def f(n):
    return f(n + 1)
---
try:
    f(0)
    assert False
except RecursionError:
    pass
=== also: def f():
def f():
    raise KeyboardInterrupt
---
try:
    f()
    assert False
except KeyboardInterrupt:
    pass
=== also: def f(): (2)
def f():
    assert False, "inner"
---
try:
    f()
    ok = False
except AssertionError as e:
    ok = str(e) == "inner"
assert ok
=== also: def f(): (3)
def f():
    raise UnicodeDecodeError("utf-8", b"x", 0, 1, "bad")
---
try:
    f()
    assert False
except UnicodeDecodeError as e:
    assert e.reason == "bad"
=== also: class P:
class P:
    def __init__(s, n):
        s.n = n
    def __eq__(s, o):
        return s.n == o.n
def f():
    return [P(1), P(2)]
---
assert f() == [P(1), P(2)] and P(1) in f() and f().index(P(2)) == 1 and f().count(P(1)) == 1
=== also: class A:
class A:
    def __init__(s):
        s.kids = []
    def add(s, k):
        s.kids.append(k)
        k.parent = s
---
a, b = A(), A()
a.add(b)
assert b.parent is a and a.kids[0] is b and a.kids == [b] and len(a.kids) == 1
=== also: class Base:
class Base:
    reg = {}
    def __init_subclass__(c, **k):
        Base.reg[c.__name__] = c
class X(Base):
    pass
---
assert Base.reg == {"X": X} and "X" in Base.reg
=== also: class M(type):
class M(type):
    def __new__(m, n, b, d):
        d["tag"] = n.lower()
        return super().__new__(m, n, b, d)
class Foo(metaclass=M):
    pass
---
assert Foo.tag == "foo" and Foo().tag == "foo" and type(Foo).__name__ == "M"
=== also: def f(*, a: int = 1) -> str:
def f(*, a: int = 1) -> str:
    "d"
    return str(a)
---
assert f(a=3) == "3"
assert f.__kwdefaults__ == {"a": 1}
assert f.__annotations__ == {"a": int, "return": str}
=== also: class Matrix:
class Matrix:
    def __init__(s, d):
        s.d = d
    def __mul__(s, o):
        if isinstance(o, (int, float)):
            return Matrix([[x * o for x in r] for r in s.d])
        return NotImplemented
    def __eq__(s, o):
        return s.d == o.d
---
m = Matrix([[1]])
assert m * 2 == Matrix([[2]])
try:
    m * "a"
    assert False
except TypeError:
    pass
=== also: class T:
class T:
    def __init__(s, v):
        s.v = v
    def __gt__(s, o):
        return s.v > (o.v if isinstance(o, T) else o)
    def __add__(s, o):
        return T(s.v + o)
    def __float__(s):
        return float(s.v)
    def __int__(s):
        return int(s.v)
    def __bool__(s):
        return s.v != 0
    def __round__(s, n=None):
        return round(s.v, n)
    def __format__(s, f):
        return format(s.v, f)
---
t = T(20.26)
assert t > 10
assert t > T(3)
assert float(t) == 20.26
assert int(t) == 20
assert t
assert not T(0)
assert round(t, 1) == 20.3
assert f"{t:.1f}" == "20.3"
assert (t + 1).v == 21.26
assert float(t + 1) == 21.26
=== also: return await s.q.get()
import asyncio
class W:
    def __init__(s):
        s.q = asyncio.Queue()
    async def put(s, x):
        await s.q.put(x)
    async def get(s):
        return await s.q.get()
---
import asyncio
async def main():
    w = W()
    await w.put(3)
    return await w.get()
assert asyncio.run(main()) == 3
=== also: raise ValueError("x")
import asyncio
async def f():
    raise ValueError("x")
---
import asyncio
try:
    asyncio.run(f())
    assert False
except ValueError:
    pass
=== also: await asyncio.sleep(10)
import asyncio
async def slow():
    await asyncio.sleep(10)
---
import asyncio
async def m():
    try:
        await asyncio.wait_for(slow(), 0.05)
    except asyncio.TimeoutError:
        return "to"
assert asyncio.run(m()) == "to"
=== also: class Q:
class Q:
    def __init__(s, items=()):
        s._i = list(items)
    def __iter__(s):
        yield from s._i
    def __reversed__(s):
        return reversed(s._i)
    def __delitem__(s, i):
        del s._i[i]
    def __setitem__(s, i, v):
        s._i[i] = v
    def __getitem__(s, i):
        return s._i[i]
---
q = Q([1, 2, 3])
q[0] = 9
del q[1]
assert list(q) == [9, 3] and list(reversed(q)) == [3, 9] and q[-1] == 3 and q[0:1] == [9]
a, *b = q
assert b == [3]
=== also: def f(xs, n=2):
def f(xs, n=2):
    it = iter(xs)
    while chunk := [x for _, x in zip(range(n), it)]:
        yield chunk
---
assert list(f([1, 2, 3])) == [[1, 2], [3]]
assert list(f("abcd", n=3)) == [["a", "b", "c"], ["d"]]
=== also: def f(d): (2)
def f(d):
    return {k: v for k, v in sorted(d.items())}
---
assert f({"b": 1, "a": 2}) == {"a": 2, "b": 1} and list(f({"b": 1, "a": 2})) == ["a", "b"]
=== also: class S:
class S:
    instances = []
    def __init__(s):
        S.instances.append(s)
    def __del__(s):
        pass
---
s = S()
assert S.instances == [s] and len(S.instances) == 1
=== also: return P(99)
import copy
class P:
    def __init__(s, n):
        s.n = n
    def clone(s):
        return copy.copy(s)
    def __deepcopy__(s, m):
        return P(99)
---
import copy
p = P(1)
assert p.clone().n == 1 and p.clone() is not p and copy.deepcopy(p).n == 99
=== also: s.n = n
import pickle
class P:
    def __init__(s, n):
        s.n = n
---
import json
p = P(3)
assert json.dumps(p.__dict__) == '{"n": 3}'
assert p.__class__ is P
assert P.__module__
assert P.__doc__ is None
=== also: def f(s):
def f(s):
    return [m.group() for m in __import__("re").finditer("a.", s)]
---
assert f("abac") == ["ab", "ac"]
=== also: def f(a, b=None):
def f(a, b=None):
    b = b or {}
    b[a] = 1
    return b
---
d = {"z": 0}
assert f("x", d) is d and d == {"z": 0, "x": 1} and f("y") == {"y": 1}
=== also: def outer(fn):
def outer(fn):
    try:
        return fn(1)
    except TypeError:
        return "te"
---
assert outer(lambda: 1) == "te" and outer(lambda x: x) == 1
=== also: def apply_all(fs, x):
def apply_all(fs, x):
    return [g(x) for g in fs]
---
assert apply_all([str, abs, lambda v: v * 2], -3) == ["-3", 3, -6]
=== also: def pipeline(*fs):
def pipeline(*fs):
    def run(x):
        for g in fs:
            x = g(x)
        return x
    return run
---
assert pipeline(str.strip, str.upper, list)(" ab ") == ["A", "B"]
=== also: class O:
class O:
    def __init__(s):
        s.obs = []
    def on(s, cb):
        s.obs.append(cb)
        return lambda: s.obs.remove(cb)
    def fire(s, *a):
        return [cb(*a) for cb in s.obs]
---
o = O()
got = []
off = o.on(lambda x: got.append(x))
o.fire(1)
off()
o.fire(2)
assert got == [1]
=== operators in place
class Both:
    def __init__(s, n):
        s.n = n
    def __add__(s, k):
        return Both(s.n + k)
    def __iadd__(s, k):
        s.n += k
        return s
class Plain:
    def __init__(s, n):
        s.n = n
    def __add__(s, k):
        return Plain(s.n + k)
class Sets:
    def __init__(s):
        s.x = set()
    def __ior__(s, o):
        s.x |= o
        return s
---
b = c = Both(1)
b += 2
assert b is c and c.n == 3
assert (b + 1).n == 4 and b.n == 3
p = q = Plain(1)
p += 1
assert q.n == 1 and p.n == 2
s = t = Sets()
s |= {1, 2}
assert s is t and t.x == {1, 2}
=== what a module says of itself
'''A module.'''
__version__ = "1.2"
__all__ = ["f"]
def f():
    return __version__
---
assert f() == __version__ == "1.2"
assert __all__ == ["f"]=== one list, twice
def pair():
    x = []
    return x, x
def grid(n):
    return [[0] * n] * n
KEPT = {'a': [1]}
def kept():
    return KEPT['a']
---
a, b = pair()
a.append(1)
assert b == [1] and a is b
g = grid(2)
g[0][0] = 1
assert g == [[1, 0], [1, 0]]
kept().append(2)
assert kept() == [1, 2] and KEPT == {'a': [1, 2]}
=== a note on an exception
def f():
    e = KeyError('k')
    e.add_note('hint')
    raise e
---
try:
    f()
except KeyError as e:
    assert e.__notes__ == ['hint']
else:
    assert False
=== a file that the program wrote
import tempfile
from pathlib import Path
def write():
    path = Path(tempfile.mkdtemp()) / 'x.txt'
    path.write_text('here')
    return path
---
path = write()
assert path.read_text() == 'here'
=== a class of the tests derives from one of the program
class Shape:
    def __init__(self, name):
        self.name = name
    def area(self):
        raise NotImplementedError
    def describe(self):
        return f"{self.name}: {self.area()}"
---
class Square(Shape):
    def __init__(self, side):
        super().__init__("square")
        self.side = side
    def area(self):
        return self.side ** 2
s = Square(3)
assert s.describe() == "square: 9"
assert isinstance(s, Shape)
assert s.name == "square"
=== derives from an abstract class
from abc import ABC, abstractmethod
class Plugin(ABC):
    @abstractmethod
    def run(self, x): ...
    def twice(self, x):
        return self.run(self.run(x))
---
class Inc(Plugin):
    def run(self, x):
        return x + 1
assert Inc().twice(1) == 3
try:
    Plugin()
except TypeError:
    pass
else:
    assert False
=== derives from an exception
class AppError(Exception):
    def __init__(self, code):
        super().__init__(f"code {code}")
        self.code = code
def run(fn):
    try:
        return fn()
    except AppError as e:
        return e.code
---
class MyError(AppError):
    pass
def bad():
    raise MyError(7)
assert run(bad) == 7
assert issubclass(MyError, AppError)
=== derives from a class that registers
class Registry:
    plugins = {}
    def __init_subclass__(cls, **kw):
        super().__init_subclass__(**kw)
        Registry.plugins[cls.__name__] = cls
---
class A(Registry):
    pass
class B(Registry):
    pass
assert sorted(Registry.plugins) == ["A", "B"]
assert Registry.plugins["A"] is A
=== derives with an option
class Base:
    def __init_subclass__(cls, tag="x", **kw):
        super().__init_subclass__(**kw)
        cls.tag = tag
---
class A(Base, tag="hello"):
    pass
class B(Base):
    pass
assert A.tag == "hello" and B.tag == "x"
=== overrides a step of a template
class Pipeline:
    def __init__(self):
        self.log = []
    def setup(self):
        self.log.append("setup")
    def process(self, x):
        return x
    def run(self, x):
        self.setup()
        y = self.process(x)
        self.log.append("done")
        return y
---
class P(Pipeline):
    def process(self, x):
        self.log.append("process")
        return x * 2
p = P()
assert p.run(4) == 8
assert p.log == ["setup", "process", "done"]
=== derives from a visitor
class Visitor:
    def visit(self, node):
        name = "visit_" + type(node).__name__
        return getattr(self, name, self.generic)(node)
    def generic(self, node):
        return None
---
class V(Visitor):
    def visit_int(self, n):
        return n + 1
    def visit_str(self, s):
        return s.upper()
v = V()
assert v.visit(1) == 2 and v.visit("a") == "A" and v.visit(1.5) is None
=== a data class derives from a data class
from dataclasses import dataclass
@dataclass
class Point:
    x: int
    y: int = 0
    def norm1(self):
        return abs(self.x) + abs(self.y)
---
@dataclass
class Point3(Point):
    z: int = 0
    def norm1(self):
        return super().norm1() + abs(self.z)
p = Point3(1, -2, 3)
assert p.norm1() == 6
assert p == Point3(1, -2, 3)
=== derives from a dictionary's class
class AttrDict(dict):
    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name)
---
class D(AttrDict):
    def total(self):
        return sum(self.values())
d = D(a=1, b=2)
assert d.a == 1 and d.total() == 3
=== NaN in a container
NAN = float("nan")
def get():
    return NAN
def box():
    return [NAN]
---
x = get()
assert x is get() or x != x
assert box() == [NAN]
assert NAN in box()
=== a singleton by metaclass
class Singleton(type):
    _instances = {}
    def __call__(cls, *a, **k):
        if cls not in cls._instances:
            cls._instances[cls] = super().__call__(*a, **k)
        return cls._instances[cls]
class Config(metaclass=Singleton):
    def __init__(self):
        self.v = 1
---
a, b = Config(), Config()
assert a is b
a.v = 5
assert b.v == 5
assert isinstance(Config, Singleton)
=== derives from a class with a metaclass
class Meta(type):
    def __new__(m, name, bases, ns):
        ns["tag"] = name.lower()
        return super().__new__(m, name, bases, ns)
class Base(metaclass=Meta):
    pass
---
class Thing(Base):
    pass
assert Thing.tag == "thing" and Base.tag == "base"
=== a full signature
def f(a, b=2, *args, c, d=4, **kw) -> int:
    return a
---
import inspect
s = inspect.signature(f)
assert list(s.parameters) == ["a", "b", "args", "c", "d", "kw"]
assert s.parameters["b"].default == 2
assert s.return_annotation is int
assert s.parameters["c"].kind is inspect.Parameter.KEYWORD_ONLY
assert str(s) == "(a, b=2, *args, c, d=4, **kw) -> int"
=== annotations
from typing import List, Optional
def f(a: int, b: "str" = "x", c: Optional[List[int]] = None) -> List[str]:
    return []
---
import inspect, typing
s = inspect.signature(f)
assert s.parameters["a"].annotation is int
assert s.parameters["b"].annotation == "str"
assert typing.get_type_hints(f)["return"] == typing.List[str]
assert f.__annotations__["a"] is int
=== signatures of methods
class A:
    def m(self, x: int, y=3):
        return x
    @classmethod
    def c(cls, z): ...
    @staticmethod
    def s(q): ...
    def __init__(self, start=0): ...
---
import inspect
assert str(inspect.signature(A.m)) == "(self, x: int, y=3)"
assert str(inspect.signature(A().m)) == "(x: int, y=3)"
assert list(inspect.signature(A.c).parameters) == ["z"]
assert list(inspect.signature(A.s).parameters) == ["q"]
assert list(inspect.signature(A).parameters) == ["start"]
=== the signature of a decorated function
import functools
def deco(fn):
    @functools.wraps(fn)
    def wrapper(*a, **k):
        return fn(*a, **k)
    return wrapper
@deco
def f(a, b=1):
    "Doc."
    return a + b
---
import inspect
assert list(inspect.signature(f).parameters) == ["a", "b"]
assert f.__name__ == "f" and f.__doc__ == "Doc."
assert f.__wrapped__(1) == 2
=== kinds of functions
def gen():
    yield 1
async def co():
    return 1
async def agen():
    yield 1
class C:
    def m(self): ...
---
import inspect
assert inspect.isgeneratorfunction(gen)
assert inspect.iscoroutinefunction(co)
assert inspect.isasyncgenfunction(agen)
assert inspect.isclass(C)
assert inspect.isfunction(gen)
assert inspect.ismethod(C().m)
assert callable(gen)
=== decorates a method of the tests
def validate(fn):
    def w(self, x):
        if x < 0:
            raise ValueError("negative")
        return fn(self, x)
    return w
---
class A:
    @validate
    def f(self, x):
        return x + 1
assert A().f(1) == 2
try:
    A().f(-1)
except ValueError as e:
    assert "negative" in str(e)
else:
    assert False
=== an exception in a gathered coroutine
import asyncio
async def fail():
    await asyncio.sleep(0)
    raise LookupError("gone")
---
import asyncio
async def main():
    r = await asyncio.gather(fail(), return_exceptions=True)
    return type(r[0]).__name__, str(r[0])
assert asyncio.run(main()) == ("LookupError", "gone")
try:
    asyncio.run(fail())
except LookupError as e:
    assert str(e) == "gone"
else:
    assert False
=== fields of a data class
from dataclasses import dataclass, field
@dataclass
class C:
    a: int = field(default=3, metadata={"unit": "m"})
    b: str = "x"
---
import dataclasses
fs = dataclasses.fields(C)
assert fs[0].default == 3 and fs[0].type is int and fs[0].metadata["unit"] == "m"
assert C.__annotations__ == {"a": int, "b": str}
=== makes a named tuple of a list
from typing import NamedTuple, TypedDict
from collections import namedtuple
class E(NamedTuple):
    name: str
    n: int = 3
    def up(self):
        return self.name.upper()
P = namedtuple("P", "x y")
class TD(TypedDict):
    a: int
---
e = E("a")
assert e == ("a", 3) and e.up() == "A" and e._replace(n=5).n == 5
assert e._asdict() == {"name": "a", "n": 3}
p = P(1, 2)
x, y = p
assert p == (1, 2) and P._fields == ("x", "y") and p.x == 1 and P._make([3, 4]) == P(3, 4)
assert repr(p) == "P(x=1, y=2)" and p[0] == 1 and len(p) == 2 and isinstance(p, tuple)
assert TD(a=1) == {"a": 1}
=== pickles an object with a state of its own
import pickle
class A:
    def __init__(self, x):
        self.x = x
    def __getstate__(self):
        return {"x": self.x * 2}
    def __setstate__(self, s):
        self.x = s["x"]
---
import pickle
a = A(2)
b = pickle.loads(pickle.dumps(a))
assert b.x == 4 and a.x == 2
assert isinstance(b, A)
=== the context of an exception
class A(Exception): ...
class B(A): ...
def f():
    try:
        1 / 0
    except ZeroDivisionError as e:
        raise B("b") from e
def g():
    try:
        {}["k"]
    except KeyError:
        raise ValueError("v")
---
try:
    f()
except A as e:
    assert type(e) is B and isinstance(e.__cause__, ZeroDivisionError)
else:
    assert False
try:
    g()
except ValueError as e:
    assert isinstance(e.__context__, KeyError) and e.__cause__ is None
else:
    assert False
=== logs with extra fields
import logging
log = logging.getLogger("app.db")
def connect(ok):
    log.info("connecting")
    if not ok:
        log.error("failed: %s", "refused", extra={"code": 5})
---
import unittest
class T(unittest.TestCase):
    def test(self):
        with self.assertLogs("app.db", level="INFO") as cm:
            connect(False)
        self.assertEqual(cm.output, ["INFO:app.db:connecting", "ERROR:app.db:failed: refused"])
        self.assertEqual(cm.records[1].code, 5)
=== logs below the default level
import logging
logger = logging.getLogger("x")
logger.setLevel(logging.DEBUG)
def f():
    logger.debug("d %d", 1)
    logger.warning("w")
---
import logging
class H(logging.Handler):
    def __init__(self):
        super().__init__()
        self.got = []
    def emit(self, r):
        self.got.append((r.levelname, r.getMessage()))
h = H()
logging.getLogger("x").addHandler(h)
f()
assert h.got == [("DEBUG", "d 1"), ("WARNING", "w")]
=== a mock with the program's class as specification
class Repo:
    def find(self, id): ...
    def save(self, x): ...
class Service:
    def __init__(self, repo):
        self.repo = repo
    def rename(self, id, name):
        u = self.repo.find(id)
        u["name"] = name
        self.repo.save(u)
        return u
---
from unittest.mock import create_autospec, Mock
repo = Mock(spec=Repo)
repo.find.return_value = {"id": 1}
assert Service(repo).rename(1, "z") == {"id": 1, "name": "z"}
repo.save.assert_called_once_with({"id": 1, "name": "z"})
try:
    repo.missing
except AttributeError:
    pass
else:
    assert False
=== patches a property
class Car:
    def __init__(self):
        self.speed = 0
    @property
    def limit(self):
        return 100
    def drive(self):
        self.speed = self.limit
        return self.honk()
    def honk(self):
        return "beep"
---
from unittest.mock import patch, PropertyMock
c = Car()
with patch.object(Car, "limit", new_callable=PropertyMock) as p:
    p.return_value = 50
    c.drive()
    assert c.speed == 50
with patch.object(c, "honk", return_value="quiet"):
    assert c.drive() == "quiet"
assert c.drive() == "beep" and c.speed == 100
=== multiple inheritance
class A:
    def who(self):
        return ["A"]
class B(A):
    def who(self):
        return ["B", *super().who()]
class C(A):
    def who(self):
        return ["C", *super().who()]
class D(B, C):
    pass
---
assert D().who() == ["B", "C", "A"]
assert [k.__name__ for k in D.__mro__] == ["D", "B", "C", "A", "object"]
assert issubclass(D, C) and D.__bases__ == (B, C)
assert D.mro()[1] is B
=== what lru_cache wraps
from functools import lru_cache, cache
@lru_cache(maxsize=2)
def f(x):
    return x * x
@cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
---
f(1); f(1); f(2); f(3)
i = f.cache_info()
assert i.hits == 1 and i.misses == 3 and i.maxsize == 2 and i.currsize == 2
f.cache_clear()
assert f.cache_info().hits == 0
assert fib(80) == 23416728348467685
assert f.__wrapped__(4) == 16
=== derives an enum
from enum import Enum
class Base(Enum):
    @classmethod
    def parse(cls, s):
        return cls[s.upper()]
    @property
    def label(self):
        return self.name.title()
---
class Color(Base):
    RED = 1
    GREEN = 2
assert Color.parse("red") is Color.RED and Color.RED.label == "Red"
assert [c.name for c in Color] == ["RED", "GREEN"] and Color(2) is Color.GREEN
=== derives twice and super
class A:
    def __init__(self, x):
        self.x = x
    def f(self):
        return [self.x]
    @classmethod
    def make(cls, x):
        return cls(x)
    @property
    def twice(self):
        return self.x * 2
---
class B(A):
    def f(self):
        return super().f() + ["B"]
    @property
    def twice(self):
        return self.x * 3
class C(B):
    extra = 5
    def __init__(self, x, y):
        super().__init__(x)
        self.y = y
    def f(self):
        return super().f() + ["C", self.y, self.extra]
    @classmethod
    def make(cls, x):
        return cls(x, 0)
assert B(1).f() == [1, "B"] and C(1, 2).f() == [1, "B", "C", 2, 5]
b = B.make(4)
assert type(b) is B and isinstance(b, A) and b.twice == 12 and C.make(3).y == 0
assert issubclass(C, A) and C.__bases__ == (B,) and B.__bases__ == (A,)
assert [k.__name__ for k in C.__mro__] == ["C", "B", "A", "object"]
c = C(1, 2)
c.extra += 1
assert c.extra == 6 and C.extra == 5
=== derives an iterator and context manager
class Source:
    def __iter__(self):
        return self
    def __next__(self):
        x = self.read()
        if x is None:
            raise StopIteration
        return x
    def __enter__(self):
        self.open = True
        return self
    def __exit__(self, *a):
        self.open = False
def total(src):
    with src as s:
        return sum(s)
---
class L(Source):
    def __init__(self, xs):
        self.xs = list(xs)
    def read(self):
        return self.xs.pop(0) if self.xs else None
s = L([1, 2, 3])
assert total(s) == 6 and s.open is False
assert list(L("ab")) == ["a", "b"]
=== derives with a mixin of the tests
class Handler:
    def handle(self, x):
        return self.prepare(x) + 1
    def prepare(self, x):
        return x
---
class Log:
    def note(self, x):
        self.seen = getattr(self, "seen", []) + [x]
class H(Log, Handler):
    def prepare(self, x):
        self.note(x)
        return x * 2
h = H()
assert h.handle(3) == 7 and h.seen == [3]
=== derives a thread and a handler of logs
import threading, logging
class Worker(threading.Thread):
    def __init__(self, n):
        super().__init__()
        self.n = n
        self.result = None
    def run(self):
        self.result = self.compute(self.n)
    def compute(self, n):
        return n
---
w = Worker(3)
w.start()
w.join()
assert w.result == 3
=== derives operators
class V:
    def __init__(self, x):
        self.x = x
    def __add__(self, o):
        return type(self)(self.x + o.x)
    def __eq__(self, o):
        return isinstance(o, V) and self.x == o.x
    def __lt__(self, o):
        return self.x < o.x
---
class W(V):
    def __repr__(self):
        return f"W({self.x})"
    def __len__(self):
        return self.x
a = W(1) + W(2)
assert type(a) is W and repr(a) == "W(3)" and a == W(3) and len(a) == 3
assert sorted([W(2), W(1)])[0].x == 1
=== derives async
class Base:
    async def run(self, x):
        return await self.step(x) + 1
    async def step(self, x):
        return x
---
import asyncio
class D(Base):
    async def step(self, x):
        await asyncio.sleep(0)
        return x * 10
assert asyncio.run(D().run(2)) == 21
=== derives generic
from typing import Generic, TypeVar
T = TypeVar("T")
class Repo(Generic[T]):
    def __init__(self):
        self.rows = {}
    def add(self, row: T):
        self.rows[self.key(row)] = row
        return row
    def key(self, row):
        raise NotImplementedError
---
class Users(Repo[dict]):
    def key(self, row):
        return row["id"]
u = Users()
u.add({"id": 3})
assert u.rows == {3: {"id": 3}}
=== classeval: a class with a dictionary inside
class Inventory:
    def __init__(self):
        self.items = {}
    def add(self, name, quantity, price):
        if name in self.items:
            self.items[name]['quantity'] += quantity
        else:
            self.items[name] = {'quantity': quantity, 'price': price}
    def remove(self, name, quantity):
        if name not in self.items or self.items[name]['quantity'] < quantity:
            return False
        self.items[name]['quantity'] -= quantity
        if not self.items[name]['quantity']:
            del self.items[name]
        return True
    def total(self):
        return sum(i['quantity'] * i['price'] for i in self.items.values())
---
import unittest
class InventoryTestAdd(unittest.TestCase):
    def test_add(self):
        inventory = Inventory()
        inventory.add('apple', 2, 1.5)
        self.assertEqual(inventory.items, {'apple': {'quantity': 2, 'price': 1.5}})
        inventory.add('apple', 3, 1.5)
        self.assertEqual(inventory.items['apple']['quantity'], 5)
class InventoryTestRemove(unittest.TestCase):
    def setUp(self):
        self.inventory = Inventory()
        self.inventory.items = {'pear': {'quantity': 4, 'price': 2}}
    def test_remove(self):
        self.assertTrue(self.inventory.remove('pear', 4))
        self.assertEqual(self.inventory.items, {})
        self.assertFalse(self.inventory.remove('pear', 1))
    def test_total(self):
        self.inventory.items['fig'] = {'quantity': 1, 'price': 0.5}
        self.assertAlmostEqual(self.inventory.total(), 8.5)
=== classeval: sqlite in a file
import sqlite3
class Store:
    def __init__(self, path):
        self.path = path
        self.connection = sqlite3.connect(path)
        self.cursor = self.connection.cursor()
    def create_table(self):
        self.cursor.execute('CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, age INTEGER)')
        self.connection.commit()
    def insert(self, rows):
        self.cursor.executemany('INSERT INTO users (name, age) VALUES (?, ?)', rows)
        self.connection.commit()
    def find(self, name):
        self.cursor.execute('SELECT name, age FROM users WHERE name = ? ORDER BY id', (name,))
        return self.cursor.fetchall()
    def close(self):
        self.connection.close()
---
import os, sqlite3, unittest
class T(unittest.TestCase):
    def setUp(self):
        self.store = Store('test.db')
        self.store.create_table()
    def tearDown(self):
        self.store.close()
        os.remove('test.db')
    def test_insert(self):
        self.store.insert([('John', 25), ('Ann', 31)])
        self.assertEqual(self.store.find('John'), [('John', 25)])
        other = sqlite3.connect('test.db')
        self.assertEqual(other.execute('SELECT COUNT(*) FROM users').fetchone(), (2,))
        other.close()
    def test_tables(self):
        other = sqlite3.connect('test.db')
        names = other.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall()
        other.close()
        self.assertIn(('users',), names)
=== classeval: static methods and private state
class Cipher:
    def __init__(self, key):
        self._key = key
        self.__table = {c: chr((ord(c) - 97 + key) % 26 + 97) for c in 'abcdefghijklmnopqrstuvwxyz'}
    def encode(self, text):
        return ''.join(self.__table.get(c, c) for c in text)
    @staticmethod
    def is_letter(c):
        return c.isalpha() and c.islower()
    @classmethod
    def rot13(cls):
        return cls(13)
---
import unittest
class T(unittest.TestCase):
    def test_it(self):
        self.assertEqual(Cipher(1).encode('abz!'), 'bca!')
        self.assertEqual(Cipher.rot13().encode(Cipher.rot13().encode('hello')), 'hello')
        self.assertTrue(Cipher.is_letter('q'))
        self.assertFalse(Cipher(2).is_letter('Q'))
        self.assertEqual(Cipher(5)._key, 5)
        self.assertEqual(Cipher(3)._Cipher__table['a'], 'd')
=== classeval: game with a list of lists and randomness patched
import random
class Board:
    def __init__(self, n):
        self.n = n
        self.cells = [[0] * n for _ in range(n)]
    def drop(self):
        empty = [(r, c) for r in range(self.n) for c in range(self.n) if not self.cells[r][c]]
        r, c = random.choice(empty)
        self.cells[r][c] = 1
        return r, c
---
import unittest
from unittest.mock import patch
class T(unittest.TestCase):
    def test_drop(self):
        board = Board(2)
        with patch('random.choice', return_value=(1, 1)) as choice:
            self.assertEqual(board.drop(), (1, 1))
        choice.assert_called_once_with([(0, 0), (0, 1), (1, 0), (1, 1)])
        self.assertEqual(board.cells, [[0, 0], [0, 1]])
        board.cells[0][0] = 7
        self.assertEqual(board.cells, [[7, 0], [0, 1]])
=== classeval: assertLogs
import logging
class Access:
    def __init__(self):
        self.log = logging.getLogger('access')
    def enter(self, user):
        if user == 'root':
            self.log.warning('denied %s', user)
            return False
        self.log.info('welcome %s', user)
        return True
---
import unittest
class T(unittest.TestCase):
    def test_denied(self):
        with self.assertLogs('access', level='INFO') as logs:
            self.assertFalse(Access().enter('root'))
            self.assertTrue(Access().enter('ann'))
        self.assertEqual(logs.output, ['WARNING:access:denied root', 'INFO:access:welcome ann'])
        self.assertEqual(logs.records[0].levelname, 'WARNING')
=== canitedit: abstract class made concrete by tests
from abc import ABC, abstractmethod
class Shape(ABC):
    @abstractmethod
    def area(self): ...
    def describe(self):
        return f"{type(self).__name__} of area {self.area()}"
class Circle(Shape):
    def __init__(self, r):
        self.r = r
    def area(self):
        return 3 * self.r ** 2
---
try:
    Shape()
    raise AssertionError("abstract")
except TypeError:
    pass
class Square(Shape):
    def __init__(self, side):
        self.side = side
    def area(self):
        return self.side ** 2
assert Square(3).area() == 9
assert Square(3).describe() == "Square of area 9"
assert Circle(2).describe() == "Circle of area 12"
assert {Shape.__name__, *Shape.__abstractmethods__} == {'Shape', 'area'}
=== textbook: doctests of the program
def clamp(x, low, high):
    '''Limits x.

    >>> clamp(5, 0, 3)
    3
    >>> clamp(-1, 0, 3)
    0
    >>> clamp(1, 3, 0)
    Traceback (most recent call last):
        ...
    ValueError: low > high
    '''
    if low > high:
        raise ValueError('low > high')
    return max(low, min(x, high))
---
import doctest
parser = doctest.DocTestParser()
test = parser.get_doctest(clamp.__doc__, {'clamp': clamp}, 'clamp', None, 0)
runner = doctest.DocTestRunner(verbose=False)
runner.run(test)
assert runner.summarize(verbose=False).failed == 0
assert runner.tries == 3
=== hypothesis-like: properties of a class
class Interval:
    def __init__(self, low, high):
        if low > high:
            raise ValueError
        self.low, self.high = low, high
    def __contains__(self, x):
        return self.low <= x <= self.high
    def intersect(self, other):
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Interval(low, high) if low <= high else None
    def __eq__(self, other):
        return (self.low, self.high) == (other.low, other.high)
    def __hash__(self):
        return hash((self.low, self.high))
---
import itertools
intervals = [Interval(a, b) for a in range(4) for b in range(a, 4)]
for x, y in itertools.product(intervals, repeat=2):
    z = x.intersect(y)
    for n in range(-1, 5):
        both = n in x and n in y
        assert both == (z is not None and n in z)
    if z is not None:
        assert z == y.intersect(x)
assert len(set(intervals)) == 10
assert len({Interval(1, 2), Interval(1, 2)}) == 1
=== unittest: setUpClass, subTest, skip and addCleanup
class Counter:
    instances = 0
    def __init__(self):
        type(self).instances += 1
        self.n = 0
    def inc(self, by=1):
        self.n += by
        return self.n
---
import unittest
class T(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.start = Counter.instances
        cls.shared = Counter()
    def setUp(self):
        self.c = Counter()
        self.addCleanup(setattr, self.c, 'n', 0)
    def test_count(self):
        for by in (1, 2, 3):
            with self.subTest(by=by):
                self.assertEqual(Counter().inc(by), by)
    def test_instances(self):
        self.assertGreater(Counter.instances, self.start)
    @unittest.skip('later')
    def test_skipped(self):
        self.fail()
    @unittest.expectedFailure
    def test_fails(self):
        self.assertEqual(self.c.inc(), 2)
=== unittest: assertCountEqual and messages
def subsets(items):
    if not items:
        return [[]]
    rest = subsets(items[1:])
    return rest + [[items[0]] + r for r in rest]
---
import unittest
class T(unittest.TestCase):
    maxDiff = None
    def test_subsets(self):
        self.assertCountEqual(subsets([1, 2]), [[], [1], [2], [1, 2]])
        self.assertEqual(len(subsets(list(range(8)))), 256, 'wrong number')
        self.assertIn([3], subsets([1, 2, 3]))
        self.assertNotIn([4], subsets([1, 2, 3]))
        self.assertListEqual(subsets([]), [[]])
suite = unittest.TestLoader().loadTestsFromTestCase(T)
result = unittest.TextTestRunner(stream=__import__('io').StringIO()).run(suite)
assert result.wasSuccessful()
=== unittest: IsolatedAsyncioTestCase
import asyncio
class Fetcher:
    def __init__(self, delay=0):
        self.delay = delay
        self.seen = []
    async def fetch(self, key):
        await asyncio.sleep(self.delay)
        if key == 'bad':
            raise KeyError(key)
        self.seen.append(key)
        return key.upper()
    async def many(self, keys):
        return await asyncio.gather(*(self.fetch(k) for k in keys))
---
import unittest
class T(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.fetcher = Fetcher()
    async def test_one(self):
        self.assertEqual(await self.fetcher.fetch('a'), 'A')
    async def test_many(self):
        self.assertEqual(await self.fetcher.many(['a', 'b']), ['A', 'B'])
        self.assertEqual(self.fetcher.seen, ['a', 'b'])
    async def test_bad(self):
        with self.assertRaises(KeyError):
            await self.fetcher.fetch('bad')
=== mock: patch of the program's own function by name
import time
def fetch(key):
    raise RuntimeError('network')
def cached(key, _store={}):
    if key not in _store:
        _store[key] = fetch(key)
    return _store[key]
---
from unittest.mock import patch
with patch('__main__.fetch', return_value=7) as fake:
    assert cached('a') == 7
    assert cached('a') == 7
    assert fake.call_count == 1
    fake.side_effect = lambda key: key * 2
    assert cached('b') == 'bb'
try:
    cached('c')
    assert False
except RuntimeError as e:
    assert str(e) == 'network'
=== mock: patch.object of a method of the program's class
class Clock:
    def now(self):
        raise NotImplementedError
class Timer:
    def __init__(self, clock=None):
        self.clock = clock or Clock()
        self.start = self.clock.now()
    def elapsed(self):
        return self.clock.now() - self.start
---
from unittest.mock import patch, MagicMock
with patch.object(Clock, 'now', side_effect=[10, 13.5]):
    timer = Timer()
    assert timer.elapsed() == 3.5
clock = MagicMock(spec=Clock)
clock.now.return_value = 5
assert Timer(clock).elapsed() == 0
assert clock.now.call_count == 2
=== mock: patch.dict of os.environ
import os
def settings():
    debug = os.environ.get('APP_DEBUG', '0') == '1'
    return {'debug': debug, 'port': int(os.getenv('APP_PORT', '80'))}
---
import os
from unittest.mock import patch
assert settings() == {'debug': False, 'port': 80}
with patch.dict(os.environ, {'APP_DEBUG': '1', 'APP_PORT': '8080'}):
    assert settings() == {'debug': True, 'port': 8080}
assert settings()['port'] == 80
=== iterators: a class with __next__
class Countdown:
    def __init__(self, n):
        self.n = n
    def __iter__(self):
        return self
    def __next__(self):
        if self.n <= 0:
            raise StopIteration
        self.n -= 1
        return self.n + 1
    def __length_hint__(self):
        return self.n
---
import operator
c = Countdown(3)
assert iter(c) is c
assert next(c) == 3
assert operator.length_hint(c) == 2
assert list(c) == [2, 1]
assert next(c, 'end') == 'end'
a, b = Countdown(2)
assert (a, b) == (2, 1)
first, *rest = Countdown(4)
assert rest == [3, 2, 1]
=== descriptors: validated attributes
class Positive:
    def __set_name__(self, owner, name):
        self.name = '_' + name
    def __get__(self, obj, owner=None):
        if obj is None:
            return self
        return getattr(obj, self.name)
    def __set__(self, obj, value):
        if value <= 0:
            raise ValueError(f'{self.name[1:]} must be positive')
        setattr(obj, self.name, value)
class Product:
    price = Positive()
    weight = Positive()
    def __init__(self, price, weight):
        self.price, self.weight = price, weight
---
p = Product(2, 3)
p.price = 5
assert (p.price, p.weight) == (5, 3)
for bad in (0, -1):
    try:
        p.weight = bad
        assert False
    except ValueError as e:
        assert str(e) == 'weight must be positive'
assert isinstance(Product.price, Positive)
assert Product.__dict__['price'].name == '_price'
assert vars(p) == {'_price': 5, '_weight': 3}
=== descriptors: property with setter and deleter
class Temperature:
    def __init__(self, celsius=0.0):
        self._c = celsius
    @property
    def celsius(self):
        '''In degrees.'''
        return self._c
    @celsius.setter
    def celsius(self, value):
        if value < -273.15:
            raise ValueError
        self._c = value
    @celsius.deleter
    def celsius(self):
        self._c = 0.0
    @property
    def fahrenheit(self):
        return self._c * 9 / 5 + 32
---
t = Temperature()
t.celsius = 100
assert t.fahrenheit == 212
del t.celsius
assert t.celsius == 0
try:
    t.fahrenheit = 3
    assert False
except AttributeError:
    pass
assert isinstance(Temperature.celsius, property)
assert Temperature.celsius.__doc__ == 'In degrees.'
assert isinstance(vars(Temperature)['fahrenheit'], property)
=== metaclass: __init_subclass__ with a keyword
class Handler:
    handlers = {}
    def __init_subclass__(cls, *, kind=None, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.kind = kind or cls.__name__
        Handler.handlers[cls.kind] = cls
class A(Handler, kind='a'):
    pass
class B(Handler):
    pass
---
assert Handler.handlers == {'a': A, 'B': B}
assert A.kind == 'a' and B.kind == 'B'
class C(A, kind='c'):
    pass
assert Handler.handlers['c'] is C
assert issubclass(C, Handler) and C().kind == 'c'
=== abc: register, subclass hook and isinstance
from abc import ABC, abstractmethod
class Drawable(ABC):
    @abstractmethod
    def draw(self): ...
    @classmethod
    def __subclasshook__(cls, other):
        if cls is Drawable:
            return any('draw' in vars(k) for k in other.__mro__)
        return NotImplemented
class Pencil:
    def draw(self):
        return '/'
class Stone:
    pass
---
assert issubclass(Pencil, Drawable)
assert isinstance(Pencil(), Drawable)
assert not isinstance(Stone(), Drawable)
class Brush(Drawable):
    def draw(self):
        return '~'
assert Brush().draw() == '~'
=== protocol: runtime checkable
from typing import Protocol, runtime_checkable
@runtime_checkable
class Closeable(Protocol):
    def close(self) -> None: ...
class Door:
    def __init__(self):
        self.closed = False
    def close(self):
        self.closed = True
def close_all(items):
    return [item.close() for item in items if isinstance(item, Closeable)]
---
d = Door()
assert isinstance(d, Closeable)
assert close_all([d, 3, 'x']) == [None]
assert d.closed is True
class Window:
    closed = 0
    def close(self):
        self.closed += 1
w = Window()
close_all([w, w])
assert w.closed == 2
assert isinstance(w, Closeable)
=== namedtuple: typed with a method
from typing import NamedTuple
class Point(NamedTuple):
    x: float
    y: float = 0.0
    def norm(self):
        return (self.x ** 2 + self.y ** 2) ** 0.5
    def __add__(self, other):
        return Point(self.x + other.x, self.y + other.y)
---
p = Point(3, 4)
assert p.norm() == 5.0
assert p == (3, 4)
x, y = p
assert (x, y) == (3, 4)
assert p._replace(x=0) == Point(0, 4)
assert p._asdict() == {'x': 3, 'y': 4}
assert Point._fields == ('x', 'y')
assert p + Point(1) == Point(4, 4)
assert isinstance(p, tuple) and p[1] == 4
assert Point(1).y == 0.0
=== json: custom encoder and hook
import json
from datetime import date
class Encoder(json.JSONEncoder):
    def default(self, o):
        if isinstance(o, date):
            return {'__date__': o.isoformat()}
        if isinstance(o, set):
            return sorted(o)
        return super().default(o)
def decode(d):
    return date.fromisoformat(d['__date__']) if '__date__' in d else d
def dumps(o):
    return json.dumps(o, cls=Encoder, sort_keys=True)
def loads(text):
    return json.loads(text, object_hook=decode)
---
import json
from datetime import date
want = '{"a": {"__date__": "2024-05-06"}, "b": [1, 3]}'
assert dumps({'b': {3, 1}, 'a': date(2024, 5, 6)}) == want
assert loads(dumps([date(2020, 1, 1)])) == [date(2020, 1, 1)]
assert json.dumps({'s': {2}}, cls=Encoder) == '{"s": [2]}'
try:
    dumps(object())
    assert False
except TypeError as e:
    assert 'not JSON serializable' in str(e)
try:
    loads('{')
    assert False
except json.JSONDecodeError as e:
    assert e.pos == 1
=== sqlite3: connection made by the tests
def setup(db):
    db.execute('CREATE TABLE t (a INTEGER, b TEXT)')
    db.executemany('INSERT INTO t VALUES (?, ?)', [(i, chr(97 + i)) for i in range(4)])
    db.commit()
    return db.execute('SELECT SUM(a) FROM t').fetchone()[0]
---
import sqlite3
db = sqlite3.connect(':memory:')
assert setup(db) == 6
assert db.execute('SELECT b FROM t WHERE a = 2').fetchall() == [('c',)]
db.close()
=== exceptions: chained with notes
class ConfigError(Exception):
    pass
def load(text):
    try:
        return int(text)
    except ValueError as error:
        failure = ConfigError(f'bad value {text!r}')
        failure.add_note('expected an integer')
        raise failure from error
---
try:
    load('x')
    assert False
except ConfigError as e:
    assert str(e) == "bad value 'x'"
    assert e.__notes__ == ['expected an integer']
    assert isinstance(e.__cause__, ValueError)
    assert 'invalid literal' in str(e.__cause__)
assert load('5') == 5
=== subclassing: str and int of the program
class Name(str):
    def __new__(cls, text):
        return super().__new__(cls, text.strip().title())
    def initials(self):
        return ''.join(p[0] for p in self.split())
class Money(int):
    def __add__(self, other):
        return Money(int(self) + int(other))
    def __str__(self):
        return f'${int(self) / 100:.2f}'
---
n = Name(' ada lovelace ')
assert n == 'Ada Lovelace'
assert n.initials() == 'AL'
assert n.upper() == 'ADA LOVELACE'
assert str(Money(1234)) == '$12.34'
assert Money(5) + Money(6) == 11
assert isinstance(Money(1) + 2, Money)
assert f'{n}!' == 'Ada Lovelace!'
=== inspect: members by name prefix
class Commands:
    def cmd_add(self, a, b):
        return a + b
    def cmd_neg(self, a):
        return -a
    def helper(self):
        pass
    def run(self, line):
        name, *args = line.split()
        return getattr(self, 'cmd_' + name)(*map(int, args))
---
c = Commands()
names = sorted(n[4:] for n in dir(c) if n.startswith('cmd_'))
assert names == ['add', 'neg']
assert c.run('add 2 3') == 5
assert c.run('neg 4') == -4
try:
    c.run('mul 1 2')
    assert False
except AttributeError as e:
    assert 'cmd_mul' in str(e)
assert [n for n in vars(Commands) if n.startswith('cmd')] == ['cmd_add', 'cmd_neg']
=== interpreter: stack machine with jumps
class VM:
    def __init__(self, code):
        self.code, self.pc, self.stack, self.out = code, 0, [], []
    def step(self):
        op, *args = self.code[self.pc]
        self.pc += 1
        getattr(self, 'op_' + op)(*args)
    def op_push(self, n):
        self.stack.append(n)
    def op_add(self):
        self.stack.append(self.stack.pop() + self.stack.pop())
    def op_dup(self):
        self.stack.append(self.stack[-1])
    def op_jlt(self, n, to):
        if self.stack[-1] < n:
            self.pc = to
    def op_print(self):
        self.out.append(self.stack[-1])
    def run(self, limit=1000):
        while self.pc < len(self.code) and limit:
            self.step()
            limit -= 1
        return self.out
---
vm = VM([('push', 1), ('print',), ('dup',), ('add',), ('jlt', 20, 1)])
assert vm.run() == [1, 2, 4, 8, 16]
assert vm.stack == [32] and vm.pc == 5
fresh = VM([('push', 3)])
fresh.step()
assert fresh.stack == [3]
try:
    VM([('nope',)]).run()
    assert False
except AttributeError:
    pass
=== dsl: expressions built by operators
class Expr:
    def __add__(self, o): return Bin('+', self, wrap(o))
    def __radd__(self, o): return Bin('+', wrap(o), self)
    def __mul__(self, o): return Bin('*', self, wrap(o))
    def __rmul__(self, o): return Bin('*', wrap(o), self)
    def __eq__(self, o): return repr(self) == repr(o)
    def __hash__(self): return hash(repr(self))
class Var(Expr):
    def __init__(self, name): self.name = name
    def __repr__(self): return self.name
    def ev(self, **env): return env[self.name]
class Const(Expr):
    def __init__(self, value): self.value = value
    def __repr__(self): return repr(self.value)
    def ev(self, **env): return self.value
class Bin(Expr):
    def __init__(self, op, a, b): self.op, self.a, self.b = op, a, b
    def __repr__(self): return f'({self.a} {self.op} {self.b})'
    def ev(self, **env):
        a, b = self.a.ev(**env), self.b.ev(**env)
        return a + b if self.op == '+' else a * b
def wrap(x):
    return x if isinstance(x, Expr) else Const(x)
---
x, y = Var('x'), Var('y')
e = 2 * x + y * 3 + 1
assert repr(e) == '(((2 * x) + (y * 3)) + 1)'
assert e.ev(x=1, y=2) == 9
assert isinstance(e, Bin) and e.op == '+'
assert x + 1 == Var('x') + Const(1)
assert {x, Var('x')} == {x}
assert e.b.value == 1
=== dsl: units with conversion errors
class Unit:
    FACTORS = {'m': 1, 'cm': 0.01, 'km': 1000}
    def __init__(self, value, unit='m'):
        if unit not in self.FACTORS:
            raise ValueError(f'unknown unit: {unit}')
        self.value, self.unit = value, unit
    def to(self, unit):
        return Unit(self.value * self.FACTORS[self.unit] / self.FACTORS[unit], unit)
    def __add__(self, other):
        if not isinstance(other, Unit):
            return NotImplemented
        return Unit(self.value + other.to(self.unit).value, self.unit)
    def __str__(self):
        return f'{self.value:g} {self.unit}'
    def __lt__(self, other):
        return self.to('m').value < other.to('m').value
---
assert str(Unit(1, 'km') + Unit(500)) == '1.5 km'
assert Unit(99, 'cm') < Unit(1)
assert str(max(Unit(2), Unit(1, 'km'))) == '1 km'
for wrong in (1, 'x', None):
    try:
        Unit(1) + wrong
        assert False
    except TypeError as e:
        assert 'unsupported operand' in str(e)
try:
    Unit(1, 'mile')
    assert False
except ValueError as e:
    assert e.args == ('unknown unit: mile',)
=== mixins: cooperative super and mro
class Base:
    def __init__(self, **kwargs):
        super().__init__()
        self.log = [f'base {sorted(kwargs)}']
class A(Base):
    def __init__(self, a=1, **kwargs):
        super().__init__(**kwargs)
        self.a = a
        self.log.append('a')
class B(Base):
    def __init__(self, b=2, **kwargs):
        super().__init__(**kwargs)
        self.b = b
        self.log.append('b')
class C(A, B):
    pass
---
c = C(a=5, b=6)
assert (c.a, c.b) == (5, 6)
assert c.log == ['base []', 'b', 'a']
assert [k.__name__ for k in C.__mro__] == ['C', 'A', 'B', 'Base', 'object']
class D(C):
    def __init__(self, d, **kwargs):
        super().__init__(**kwargs)
        self.log.append(f'd {d}')
assert D(9, a=0).log == ['base []', 'b', 'a', 'd 9']
assert D.mro()[1] is C
assert issubclass(D, (A, B))
=== dataclass: slots, kw_only and inheritance
from dataclasses import KW_ONLY, dataclass, field, InitVar
@dataclass(slots=True, kw_only=True)
class Options:
    depth: int = 1
    names: list = field(default_factory=list, repr=False)
@dataclass
class Base:
    id: int
    scale: InitVar[int] = 1
    total: int = field(init=False, default=0)
    def __post_init__(self, scale):
        self.total = self.id * scale
@dataclass
class Derived(Base):
    _: KW_ONLY
    note: str = ''
---
import dataclasses
assert Options(depth=3) == Options(depth=3)
assert repr(Options()) == 'Options(depth=1)'
try:
    Options(3)
    assert False
except TypeError:
    pass
d = Derived(4, 5, note='n')
assert d.total == 20
assert dataclasses.asdict(d) == {'id': 4, 'total': 20, 'note': 'n'}
assert [f.name for f in dataclasses.fields(Derived)] == ['id', 'total', 'note']
assert dataclasses.astuple(Options(names=[1])) == (1, [1])
@dataclasses.dataclass
class More(Base):
    extra: float = 2.5
assert More(2).extra == 2.5 and More(2, 3, 1.0).total == 6
=== configparser and tomllib
import configparser, tomllib
def ini(text):
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return {s: dict(parser[s]) for s in parser.sections()}
def toml(text):
    return tomllib.loads(text)
---
assert ini('[a]\nx = 1\ny: two\n[b]\n') == {'a': {'x': '1', 'y': 'two'}, 'b': {}}
assert toml('n = 3\n[t]\nd = 2024-01-02\nl = [1.5, "x"]')['t']['l'] == [1.5, 'x']
import datetime
assert toml('d = 2024-01-02')['d'] == datetime.date(2024, 1, 2)
try:
    toml('x = ')
    assert False
except ValueError:
    pass
import configparser
try:
    ini('no section')
    assert False
except configparser.MissingSectionHeaderError as e:
    assert e.lineno == 1
=== html: a parser subclass
from html.parser import HTMLParser
from html import escape
class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self._depth = [], 0
    def handle_starttag(self, tag, attrs):
        if tag == 'a':
            self.links.append(dict(attrs).get('href'))
def links(text):
    parser = Links()
    parser.feed(text)
    return parser.links
---
assert links('<a href="x">1</a><p><A HREF=y>2</a><a>3</a>') == ['x', 'y', None]
p = Links()
p.feed('<a href="1">')
p.feed('<a href="2">')
assert p.links == ['1', '2']
class Count(Links):
    n = 0
    def handle_data(self, data):
        self.n += len(data)
c = Count()
c.feed('ab<a href=q>cd</a>')
c.close()
assert c.n == 4 and c.links == ['q']
=== dynamic code: exec, compile and eval in the program
def make(name, *params, body='None'):
    scope = {}
    exec(f"def {name}({', '.join(params)}): return {body}", scope)
    return scope[name]
def calculate(text, **names):
    return eval(compile(text, '<text>', 'eval'), {'__builtins__': {}}, names)
---
add = make('add', 'a', 'b=2', body='a + b')
assert add(1) == 3 and add(b=5, a=1) == 6
assert add.__name__ == 'add'
assert calculate('x * 2', x=4) == 8
try:
    calculate('open("x")')
    assert False
except NameError as e:
    assert e.name == 'open'
=== injection: constructor takes classes of the tests
class App:
    def __init__(self, store_class, **options):
        self.store = store_class(**options)
    def add(self, key, value):
        self.store.save(key, value)
        return self.store.count()
def build(cls, *args):
    return cls(*args)
---
class Memory:
    def __init__(self, limit=10):
        self.limit, self.data = limit, {}
    def save(self, key, value):
        if len(self.data) >= self.limit:
            raise OverflowError('full')
        self.data[key] = value
    def count(self):
        return len(self.data)
app = App(Memory, limit=1)
assert app.add('a', 1) == 1
try:
    app.add('b', 2)
    assert False
except OverflowError as e:
    assert str(e) == 'full'
assert isinstance(app.store, Memory)
assert app.store.data == {'a': 1}
assert build(dict, [('a', 1)]) == {'a': 1}
assert isinstance(build(Memory, 3), Memory)
=== events: weak listeners and priorities
import bisect, itertools
class Dispatcher:
    def __init__(self):
        self._listeners, self._count = {}, itertools.count()
    def listen(self, event, f=None, priority=0):
        if f is None:
            return lambda g: self.listen(event, g, priority) or g
        bisect.insort(self._listeners.setdefault(event, []), (-priority, next(self._count), f))
    def fire(self, event, payload):
        for _, _, f in self._listeners.get(event, ()):
            payload = f(payload)
            if payload is None:
                break
        return payload
---
d = Dispatcher()
d.listen('x', lambda p: p + ['low'])
@d.listen('x', priority=5)
def high(p):
    return p + ['high']
assert d.fire('x', []) == ['high', 'low']
d.listen('x', lambda p: None, priority=1)
assert d.fire('x', []) is None
assert d.fire('none', 3) == 3
assert high([]) == ['high']
=== template engine: filters and errors with position
import re
class TemplateError(Exception):
    pass
class Template:
    filters = {'upper': str.upper, 'len': len}
    def __init__(self, text):
        self.parts = re.split(r'(\{\{.*?\}\})', text)
    def render(self, **values):
        return ''.join(self._part(p, values) for p in self.parts)
    def _part(self, part, values):
        if not part.startswith('{{'):
            return part
        name, *filters = [s.strip() for s in part[2:-2].split('|')]
        try:
            value = values[name]
        except KeyError:
            raise TemplateError(f'missing {name}') from None
        for f in filters:
            value = self.filters[f](value)
        return str(value)
---
assert Template('a {{ x }} b').render(x=1) == 'a 1 b'
assert Template('{{ x | upper | len }}').render(x='abc') == '3'
Template.filters['twice'] = lambda v: v * 2
assert Template('{{x|twice}}').render(x='ab') == 'abab'
try:
    Template('{{ y }}').render(x=1)
    assert False
except TemplateError as e:
    assert str(e) == 'missing y'
    assert e.__cause__ is None and e.__suppress_context__
assert 'upper' in Template.filters
=== big class: matrix with slicing and iteration over rows
class Matrix:
    def __init__(self, rows):
        self._rows = [list(r) for r in rows]
    @property
    def shape(self):
        return len(self._rows), len(self._rows[0]) if self._rows else 0
    @property
    def T(self):
        return Matrix(zip(*self._rows))
    def __getitem__(self, key):
        if isinstance(key, tuple):
            r, c = key
            if isinstance(r, slice) or isinstance(c, slice):
                rows = self._rows[r] if isinstance(r, slice) else [self._rows[r]]
                return Matrix([row[c] if isinstance(c, slice) else [row[c]] for row in rows])
            return self._rows[r][c]
        return self._rows[key]
    def __iter__(self):
        return iter(self._rows)
    def __mul__(self, k):
        return Matrix([[x * k for x in r] for r in self._rows])
    def __eq__(self, o):
        return list(self) == list(o)
    def tolist(self):
        return [r[:] for r in self._rows]
    @classmethod
    def identity(cls, n):
        return cls([[int(i == j) for j in range(n)] for i in range(n)])
---
m = Matrix([[1, 2, 3], [4, 5, 6]])
assert m.shape == (2, 3) and m.T.shape == (3, 2)
assert m[1, 2] == 6 and m[0] == [1, 2, 3]
assert m[:, 1:].tolist() == [[2, 3], [5, 6]]
assert [sum(r) for r in m] == [6, 15]
assert (m * 2).tolist() == [[2, 4, 6], [8, 10, 12]]
assert Matrix.identity(2) == Matrix([[1, 0], [0, 1]])
assert (Matrix.identity(2) * 3).tolist() == [[3, 0], [0, 3]]
m[0].append(9)
assert m.tolist()[0] == [1, 2, 3, 9]
=== money: rounding, currencies and hashing
from decimal import Decimal, ROUND_HALF_EVEN
class Money:
    __slots__ = ('amount', 'currency')
    def __init__(self, amount, currency='EUR'):
        amount = Decimal(str(amount)).quantize(Decimal('0.01'), ROUND_HALF_EVEN)
        object.__setattr__(self, 'amount', amount)
        object.__setattr__(self, 'currency', currency)
    def __setattr__(self, *_):
        raise AttributeError('Money is immutable')
    def _check(self, o):
        if self.currency != o.currency:
            raise ValueError(f'{self.currency} and {o.currency}')
    def __add__(self, o):
        self._check(o)
        return Money(self.amount + o.amount, self.currency)
    def __mul__(self, k): return Money(self.amount * Decimal(str(k)), self.currency)
    __rmul__ = __mul__
    def _key(self): return self.amount, self.currency
    def __eq__(self, o): return isinstance(o, Money) and self._key() == o._key()
    def __lt__(self, o):
        self._check(o)
        return self.amount < o.amount
    def __hash__(self): return hash((self.amount, self.currency))
    def __str__(self): return f'{self.amount} {self.currency}'
    def allocate(self, *ratios):
        total, left, out = sum(ratios), self.amount, []
        for r in ratios:
            share = (self.amount * r / total).quantize(Decimal('0.01'), 'ROUND_DOWN')
            out.append(share)
            left -= share
        for i in range(int(left * 100)):
            out[i] += Decimal('0.01')
        return [Money(s, self.currency) for s in out]
---
from decimal import Decimal
assert str(Money(1.005) + Money('2')) == '3.00 EUR'
assert [str(m) for m in Money(10).allocate(1, 1, 1)] == ['3.34 EUR', '3.33 EUR', '3.33 EUR']
assert sum(Money(10).allocate(1, 2), Money(0)) == Money(10)
assert 2 * Money(3) == Money(6) == Money('6.00')
assert Money(1) < Money(2) and max([Money(1), Money(5)]) == Money(5)
assert Money(5).amount == Decimal('5.00')
for bad in (lambda: Money(1) + Money(1, 'USD'), lambda: Money(1) < Money(1, 'USD')):
    try:
        bad()
        assert False
    except ValueError as e:
        assert str(e) == 'EUR and USD'
try:
    Money(1).amount = 3
    assert False
except AttributeError as e:
    assert str(e) == 'Money is immutable'
assert len({Money(1), Money('1.00'), Money(2)}) == 2
=== unittest: parameterised by a loop that adds methods
def is_leap(year):
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
---
import unittest
class LeapTest(unittest.TestCase):
    pass
def make(year, want):
    def test(self):
        self.assertIs(is_leap(year), want)
    return test
for year, want in ((2000, True), (1900, False), (2024, True), (2023, False)):
    setattr(LeapTest, f'test_{year}', make(year, want))
=== unittest: inheritance of test cases
class ArrayStack:
    def __init__(self): self._a = []
    def push(self, x): self._a.append(x)
    def pop(self): return self._a.pop()
    def empty(self): return not self._a
class LinkedStack:
    def __init__(self): self._top = None
    def push(self, x): self._top = (x, self._top)
    def pop(self):
        if self._top is None:
            raise IndexError('pop from empty stack')
        x, self._top = self._top
        return x
    def empty(self): return self._top is None
---
import unittest
class Contract:
    stack_class = None
    def setUp(self):
        self.stack = self.stack_class()
    def test_lifo(self):
        for i in range(3):
            self.stack.push(i)
        self.assertEqual([self.stack.pop() for _ in range(3)], [2, 1, 0])
        self.assertTrue(self.stack.empty())
    def test_empty(self):
        self.assertRaises(IndexError, self.stack.pop)
class ArrayTest(Contract, unittest.TestCase):
    stack_class = ArrayStack
class LinkedTest(Contract, unittest.TestCase):
    stack_class = LinkedStack
=== unittest: mock as context, PropertyMock and wraps
class Sensor:
    @property
    def value(self):
        raise IOError('no hardware')
class Monitor:
    def __init__(self, sensor, limit=10):
        self.sensor, self.limit = sensor, limit
    def alarm(self):
        return self.sensor.value > self.limit
    def scale(self, x):
        return x * 2
    def total(self, xs):
        return sum(self.scale(x) for x in xs)
---
import unittest
from unittest.mock import PropertyMock, patch, Mock
class T(unittest.TestCase):
    def test_property(self):
        with patch.object(Sensor, 'value', new_callable=PropertyMock) as value:
            value.return_value = 11
            self.assertTrue(Monitor(Sensor()).alarm())
            value.return_value = 3
            self.assertFalse(Monitor(Sensor()).alarm())
    def test_fake(self):
        self.assertTrue(Monitor(Mock(value=99)).alarm())
        with self.assertRaises(IOError):
            Monitor(Sensor()).alarm()
    def test_wraps(self):
        m = Monitor(None)
        with patch.object(m, 'scale', side_effect=lambda x: x + 1) as scale:
            self.assertEqual(m.total([1, 2]), 5)
        self.assertEqual(scale.call_count, 2)
        self.assertEqual(m.total([1, 2]), 6)
=== mock: patch as a decorator stack and patch.multiple
import os, time
def stamp(path):
    return f'{os.path.basename(path)}@{int(time.time())} size {os.path.getsize(path)}'
---
from unittest.mock import patch
@patch('time.time', return_value=100.9)
@patch('os.path.getsize', return_value=7)
def test_stamp(getsize, now):
    assert stamp('/a/b.txt') == 'b.txt@100 size 7'
    getsize.assert_called_once_with('/a/b.txt')
    assert now.called
test_stamp()
try:
    stamp('/a/b.txt')
    assert False
except OSError:
    pass
=== asyncio: task groups, events and cancellation order
import asyncio
async def race(*delays):
    log = []
    async def run(n, delay):
        try:
            await asyncio.sleep(delay)
            log.append(n)
            return n
        except asyncio.CancelledError:
            log.append(f'cancelled {n}')
            raise
    tasks = [asyncio.create_task(run(n, d)) for n, d in enumerate(delays)]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return done.pop().result(), log
async def grouped(*values):
    out = []
    async def one(v):
        if v < 0:
            raise ValueError(v)
        out.append(v)
    async with asyncio.TaskGroup() as group:
        for v in values:
            group.create_task(one(v))
    return out
---
import asyncio
assert asyncio.run(race(5, 0.01)) == (1, [1, 'cancelled 0'])
assert asyncio.run(grouped(1, 2)) == [1, 2]
try:
    asyncio.run(grouped(1, -2))
    assert False
except* ValueError as group:
    assert group.exceptions[0].args == (-2,)
=== asyncio: rate limiter with the tests' coroutine
import asyncio
async def limited(workers, items, handle):
    queue, results = asyncio.Queue(), {}
    for item in items:
        queue.put_nowait(item)
    async def work():
        while not queue.empty():
            item = queue.get_nowait()
            results[item] = await handle(item)
    await asyncio.gather(*(work() for _ in range(workers)))
    return results
---
import asyncio
seen = []
async def handle(n):
    await asyncio.sleep(0)
    seen.append(n)
    return n * n
assert asyncio.run(limited(2, [1, 2, 3], handle)) == {1: 1, 2: 4, 3: 9}
assert sorted(seen) == [1, 2, 3]
=== returns: nested generators, maps, zips and reversed
def lines(text):
    return map(str.strip, text.splitlines())
def pairs(d):
    return zip(d, d.values())
def evens(n):
    return filter(lambda x: x % 2 == 0, range(n))
def back(items):
    return reversed(items)
def numbered(items):
    return enumerate(items, 1)
---
assert list(lines(' a \n b')) == ['a', 'b']
assert dict(pairs({'x': 1})) == {'x': 1}
assert list(evens(5)) == [0, 2, 4]
assert list(back([1, 2])) == [2, 1]
assert list(numbered('ab')) == [(1, 'a'), (2, 'b')]
m = lines('q\nr')
assert next(m) == 'q' and next(m) == 'r' and next(m, None) is None
assert isinstance(evens(3), filter) and isinstance(lines(''), map)
=== errors: custom handling of every built-in kind
import unicodedata
def provoke(kind):
    match kind:
        case 'index': return [][1]
        case 'key': return {}['k']
        case 'attr': return None.x
        case 'unicode': return b'\xff'.decode()
        case 'encode': return 'é'.encode('ascii')
        case 'os': return open('/no/such/file')
        case 'import': import no_such_module
        case 'assert': assert kind == 'x', 'message'
        case 'overflow': return 2.0 ** 10000
        case 'type': return len(3)
        case 'stop': return next(iter([]))
        case 'recursion': return provoke(kind)
---
expected = {'index': IndexError, 'key': KeyError, 'attr': AttributeError,
            'unicode': UnicodeDecodeError,
            'encode': UnicodeEncodeError, 'os': FileNotFoundError, 'import': ModuleNotFoundError,
            'assert': AssertionError, 'overflow': OverflowError, 'type': TypeError,
            'stop': StopIteration,
            'recursion': RecursionError}
for kind, error in expected.items():
    try:
        provoke(kind)
    except error as e:
        if kind == 'unicode':
            assert e.start == 0 and e.object == b'\xff'
        if kind == 'os':
            assert e.filename == '/no/such/file'
        if kind == 'key':
            assert e.args == ('k',)
        if kind == 'assert':
            assert str(e) == 'message'
    else:
        assert False, kind
=== plug-ins: classes of the tests registered by a decorator
class Registry:
    def __init__(self):
        self._classes = {}
    def register(self, name):
        def decorate(cls):
            if name in self._classes:
                raise KeyError(f'{name} is taken')
            self._classes[name] = cls
            return cls
        return decorate
    def create(self, name, *args):
        return self._classes[name](*args)
    def names(self):
        return sorted(self._classes)
registry = Registry()
@registry.register('base')
class Plugin:
    def __init__(self, n=0): self.n = n
    def run(self): return self.n
---
@registry.register('double')
class Double(Plugin):
    def run(self):
        return super().run() * 2
@registry.register('own')
class Own:
    def run(self):
        return 'own'
assert registry.names() == ['base', 'double', 'own']
assert registry.create('double', 4).run() == 8
assert isinstance(registry.create('double'), Double)
assert registry.create('own').run() == 'own'
try:
    registry.register('own')(int)
    assert False
except KeyError as e:
    assert 'taken' in str(e)
=== numbers ABC and a rational type of one's own
import math
from numbers import Rational
class Frac(Rational):
    __slots__ = ('_n', '_d')
    def __init__(self, n, d=1):
        g = math.gcd(n, d) * (1 if d > 0 else -1)
        self._n, self._d = n // g, d // g
    numerator = property(lambda s: s._n)
    denominator = property(lambda s: s._d)
    def __add__(s, o): return Frac(s._n * o.denominator + o.numerator * s._d, s._d * o.denominator)
    def __mul__(s, o): return Frac(s._n * o.numerator, s._d * o.denominator)
    def __neg__(s): return Frac(-s._n, s._d)
    def __eq__(s, o): return (s._n, s._d) == (o.numerator, o.denominator)
    def __lt__(s, o): return s._n * o.denominator < o.numerator * s._d
    def __le__(s, o): return not o < s
    def __hash__(s): return hash((s._n, s._d))
    def __repr__(s): return f'{s._n}/{s._d}'
    def __truediv__(s, o): return Frac(s._n * o.denominator, s._d * o.numerator)
    def __abs__(s): return Frac(abs(s._n), s._d)
    __radd__, __rmul__ = __add__, __mul__
    __floordiv__ = __mod__ = __pow__ = lambda s, o: NotImplemented
    __rtruediv__ = __rfloordiv__ = __rmod__ = __rpow__ = __pow__
    __pos__ = lambda s: s
    def __trunc__(s): return int(s._n / s._d)
    def __floor__(s): return s._n // s._d
    def __ceil__(s): return -(-s._n // s._d)
    def __round__(s, n=None): return round(s._n / s._d, n)
---
import math
from numbers import Number
a, b = Frac(1, 2), Frac(1, 3)
assert a + b == Frac(5, 6)
assert repr(a * b) == '1/6' and repr(-a) == '-1/2'
assert a + 1 == Frac(3, 2) and 2 * b == Frac(2, 3)
assert isinstance(a, Number)
assert math.floor(Frac(7, 2)) == 3 and math.ceil(Frac(7, 2)) == 4
assert b < a and sorted([a, b]) == [b, a]
assert float(a) == 0.5
assert sum([a, b], Frac(0)) == Frac(5, 6)
assert abs(Frac(-3, 4)).numerator == 3
assert a.denominator == 2 and round(Frac(7, 2)) == 4
=== special: bytes, fspath, index, bool, hash and format
import os
class Path2:
    def __init__(self, *parts): self.parts = parts
    def __truediv__(self, part): return Path2(*self.parts, part)
    def __rtruediv__(self, part): return Path2(part, *self.parts)
    def __fspath__(self): return '/'.join(self.parts)
    def __bytes__(self): return os.fspath(self).encode()
    def __str__(self): return os.fspath(self)
    def __len__(self): return len(self.parts)
    def __format__(self, spec): return str(self).upper() if spec == 'u' else format(str(self), spec)
---
import os
p = Path2('a') / 'b' / 'c.txt'
assert str(p) == 'a/b/c.txt' and bytes(p) == b'a/b/c.txt'
assert os.path.basename(p) == 'c.txt'
assert f'{p:u}' == 'A/B/C.TXT' and f'{p:>12}' == '   a/b/c.txt'
assert str('x' / p) == 'x/a/b/c.txt'
assert len(p) == 3 and bool(p) and not Path2()
=== class methods as alternative constructors with validation
import re
class Color:
    NAMES = {'red': (255, 0, 0)}
    def __init__(self, r, g, b):
        for v in (r, g, b):
            if not 0 <= v <= 255:
                raise ValueError(f'{v} is not in 0..255')
        self.rgb = r, g, b
    @classmethod
    def from_hex(cls, text):
        m = re.fullmatch(r'#?([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})', text, re.I)
        if not m:
            raise ValueError(f'invalid color: {text!r}')
        return cls(*(int(x, 16) for x in m.groups()))
    @classmethod
    def named(cls, name): return cls(*cls.NAMES[name])
    @property
    def hex(self): return '#%02x%02x%02x' % self.rgb
    @staticmethod
    def mix(a, b): return Color(*((x + y) // 2 for x, y in zip(a.rgb, b.rgb)))
    def __eq__(self, o): return isinstance(o, Color) and self.rgb == o.rgb
    def __repr__(self): return f'Color{self.rgb}'
---
assert Color.from_hex('#FF0000') == Color.named('red')
assert Color.from_hex('0a0b0c').hex == '#0a0b0c'
assert Color.mix(Color(0, 0, 0), Color(100, 50, 1)).rgb == (50, 25, 0)
assert repr(Color(1, 2, 3)) == 'Color(1, 2, 3)'
for text in ('', '#12', 'zzzzzz'):
    try:
        Color.from_hex(text)
        assert False
    except ValueError as e:
        assert str(e) == f'invalid color: {text!r}'
class Alpha(Color):
    alpha = 1.0
assert type(Alpha.from_hex('#010203')) is Alpha
assert Alpha.named('red').alpha == 1.0
=== lru and memo: cache statistics through the tests' function
import functools
class Memo:
    def __init__(self, f):
        functools.update_wrapper(self, f)
        self.f, self.cache, self.hits, self.misses = f, {}, 0, 0
    def __call__(self, *args):
        if args in self.cache:
            self.hits += 1
        else:
            self.misses += 1
            self.cache[args] = self.f(*args)
        return self.cache[args]
    def __get__(self, obj, kind=None):
        return functools.partial(self, obj)
---
@Memo
def slow(n):
    '''Doc.'''
    return n * 2
assert [slow(1), slow(1), slow(2)] == [2, 2, 4]
assert (slow.hits, slow.misses) == (1, 2)
assert slow.__name__ == 'slow' and slow.__doc__ == 'Doc.'
assert slow.cache == {(1,): 2, (2,): 4}
@Memo
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
assert fib(30) == 832040 and fib.misses == 31
class K:
    @Memo
    def m(self, x):
        return x + 1
assert K().m(4) == 5
=== tree: recursive dataclass with class reference
from __future__ import annotations
from dataclasses import dataclass, field
from typing import Iterator, Optional
@dataclass
class Node:
    value: int
    left: Optional[Node] = None
    right: Optional[Node] = None
    def insert(self, value: int) -> Node:
        side = 'left' if value < self.value else 'right'
        child = getattr(self, side)
        if child is None:
            setattr(self, side, Node(value))
        else:
            child.insert(value)
        return self
    def __iter__(self) -> Iterator[int]:
        if self.left:
            yield from self.left
        yield self.value
        if self.right:
            yield from self.right
def height(node):
    return 0 if node is None else 1 + max(height(node.left), height(node.right))
---
root = Node(5)
for v in (3, 8, 1, 4):
    assert root.insert(v) is root
assert list(root) == [1, 3, 4, 5, 8]
assert root.left == Node(3, Node(1), Node(4))
assert height(root) == 3 and height(None) == 0
mine = Node(1, Node(0))
mine.right = Node(2)
assert height(mine) == 2 and sum(mine) == 3
assert repr(Node(1)) == 'Node(value=1, left=None, right=None)'
from typing import get_type_hints
assert get_type_hints(Node)['value'] is int
=== async: cancellation and cleanup
import asyncio
class Worker:
    def __init__(self): self.state, self.n = 'new', 0
    async def run(self):
        self.state = 'running'
        try:
            while True:
                self.n += 1
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.state = 'cancelled'
            raise
        finally: self.closed = True
async def first_of(*coros):
    tasks = [asyncio.ensure_future(c) for c in coros]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for p in pending: p.cancel()
    return done.pop().result()
---
import asyncio
async def go():
    w = Worker()
    t = asyncio.create_task(w.run())
    await asyncio.sleep(0.01)
    assert w.state == 'running' and w.n >= 1
    t.cancel()
    try: await t
    except asyncio.CancelledError: pass
    assert w.state == 'cancelled' and w.closed and t.cancelled()
    async def after(d, v):
        await asyncio.sleep(d)
        return v
    assert await first_of(after(1, 'slow'), after(0, 'fast')) == 'fast'
asyncio.run(go())
=== async: stream protocol over queues
import asyncio
class Channel:
    def __init__(self): self._q, self.closed = asyncio.Queue(), False
    async def send(self, x):
        if self.closed: raise RuntimeError('channel closed')
        await self._q.put(x)
    async def close(self): self.closed = True; await self._q.put(None)
    def __aiter__(self): return self
    async def __anext__(self):
        x = await self._q.get()
        if x is None: raise StopAsyncIteration
        return x
async def pump(src, dst, fn):
    async for x in src: await dst.send(fn(x))
    await dst.close()
---
import asyncio, unittest
class T(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.a, self.b = Channel(), Channel()
    async def test_pump(self):
        task = asyncio.create_task(pump(self.a, self.b, lambda x: x.upper()))
        for s in 'xyz': await self.a.send(s)
        await self.a.close()
        got = [x async for x in self.b]
        await task
        self.assertEqual(got, ['X', 'Y', 'Z'])
        with self.assertRaisesRegex(RuntimeError, 'closed'): await self.a.send('q')
    async def test_other_source(self):
        async def src():
            for i in range(3): yield i
        await pump(src(), self.b, str)
        self.assertEqual([x async for x in self.b], ['0', '1', '2'])
=== async: producer consumer queue
import asyncio
async def producer(q, n):
    for i in range(n):
        await q.put(i)
    await q.put(None)
async def consumer(q, out):
    while True:
        x = await q.get()
        if x is None:
            break
        out.append(x * x)
async def main(n):
    q = asyncio.Queue(maxsize=2)
    out = []
    await asyncio.gather(producer(q, n), consumer(q, out))
    return out
async def fetch(x, delay=0):
    await asyncio.sleep(delay)
    if x < 0:
        raise ValueError('negative')
    return x
---
import asyncio, unittest
assert asyncio.run(main(4)) == [0, 1, 4, 9]
class T(unittest.IsolatedAsyncioTestCase):
    async def test_gather(self):
        r = await asyncio.gather(fetch(1), fetch(-1), return_exceptions=True)
        self.assertEqual(r[0], 1)
        self.assertIsInstance(r[1], ValueError)
    async def test_timeout(self):
        with self.assertRaises(asyncio.TimeoutError):
            await asyncio.wait_for(fetch(1, 5), 0.01)
    async def test_raises(self):
        with self.assertRaises(ValueError):
            await fetch(-3)
    async def test_own_queue(self):
        q, out = asyncio.Queue(), []
        for x in (2, 3, None):
            q.put_nowait(x)
        await consumer(q, out)
        self.assertEqual(out, [4, 9])
=== bcb: datetime patched in module
import datetime
def age(birth):
    today = datetime.date.today()
    return today.year - birth.year - ((today.month, today.day) < (birth.month, birth.day))
---
import datetime
import unittest
from unittest.mock import patch
class TestAge(unittest.TestCase):
    def test_fixed(self):
        real = datetime.date
        with patch('datetime.date') as d:
            d.today.return_value = real(2024, 5, 1)
            self.assertEqual(age(real(2000, 5, 2)), 23)
            self.assertEqual(age(real(2000, 5, 1)), 24)
    def test_now(self):
        self.assertGreaterEqual(age(datetime.date(1990, 1, 1)), 34)
=== time: stopwatch with perf_counter patched and gmtime
import time, datetime
class Stopwatch:
    def __init__(self): self._t = None; self.laps = []
    def __enter__(self): self._t = time.perf_counter(); return self
    def __exit__(self, *a): self.laps.append(time.perf_counter() - self._t)
def iso(ts): return time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(ts))
def ago(when, now=None):
    d = (now or datetime.datetime.now()) - when
    if d < datetime.timedelta(minutes=1): return 'just now'
    if d.days: return f'{d.days} day{"s" * (d.days > 1)} ago'
    return f'{d.seconds // 60} minutes ago'
---
import datetime, time
from unittest import mock
with mock.patch('time.perf_counter', side_effect=[1.0, 3.5]):
    with Stopwatch() as s: pass
assert s.laps == [2.5]
with Stopwatch() as s2: time.sleep(0.01)
assert 0.005 < s2.laps[0] < 2
assert iso(0) == '1970-01-01T00:00:00Z'
now = datetime.datetime(2024, 1, 10, 12)
assert ago(now - datetime.timedelta(days=2), now) == '2 days ago' and ago(now, now) == 'just now'
assert ago(datetime.datetime.now()) == 'just now' and ago(now - datetime.timedelta(minutes=5), now=now) == '5 minutes ago'
class FixedDate(datetime.datetime):
    @classmethod
    def now(cls, tz=None): return cls(2024, 1, 10, 12)
with mock.patch('datetime.datetime', FixedDate):
    assert ago(now - datetime.timedelta(days=1)) == '1 day ago'
=== weakref: cache of objects
import weakref, gc
class Obj:
    def __init__(self, n): self.n = n
class Pool:
    def __init__(self):
        self._c = weakref.WeakValueDictionary()
    def get(self, n):
        o = self._c.get(n)
        if o is None:
            o = self._c[n] = Obj(n)
        return o
    def size(self):
        gc.collect()
        return len(self._c)
---
import gc, weakref
p = Pool()
a = p.get(1)
assert p.get(1) is a and a.n == 1
b = p.get(2)
assert p.size() == 2
del b
gc.collect()
assert p.size() == 1
r = weakref.ref(a)
assert r() is a
=== singledispatch: serializer
from functools import singledispatch, singledispatchmethod
from datetime import date
@singledispatch
def ser(x): raise TypeError(f'cannot serialize {type(x).__name__}')
@ser.register
def _(x: int): return f'i{x}'
@ser.register(str)
def _(x): return f's{x}'
@ser.register(list)
@ser.register(tuple)
def _(x): return '[' + ','.join(ser(i) for i in x) + ']'
@ser.register
def _(x: date): return x.isoformat()
class Fmt:
    @singledispatchmethod
    def go(self, x): return 'obj'
    @go.register
    def _(self, x: int): return 'int'
    @go.register
    def _(self, x: str): return 'str'
---
import datetime
assert ser(1) == 'i1' and ser('a') == 'sa' and ser([1, ('b',)]) == '[i1,[sb]]'
assert ser(datetime.date(2020, 1, 1)) == '2020-01-01'
try:
    ser(1.5)
except TypeError as e:
    assert str(e) == 'cannot serialize float'
else:
    assert False
class Mine: pass
@ser.register(Mine)
def _(x):
    return 'mine'
assert ser(Mine()) == 'mine' and ser([Mine()]) == '[mine]'
assert ser.dispatch(bool)(True) == 'iTrue'
f = Fmt()
assert (f.go(1), f.go('s'), f.go(None)) == ('int', 'str', 'obj')
=== container: custom dict and list
from collections.abc import MutableMapping, Sequence
import collections
class CIDict(MutableMapping):
    def __init__(self, *a, **k):
        self._d = {}
        self.update(*a, **k)
    def __getitem__(self, k): return self._d[k.lower()][1]
    def __setitem__(self, k, v): self._d[k.lower()] = (k, v)
    def __delitem__(self, k): del self._d[k.lower()]
    def __iter__(self): return (k for k, _ in self._d.values())
    def __len__(self): return len(self._d)
class DefaultList(list):
    def __getitem__(self, i):
        try: return super().__getitem__(i)
        except IndexError: return None
class Attr(dict):
    def __getattr__(self, k):
        try: return self[k]
        except KeyError: raise AttributeError(k) from None
    __setattr__ = dict.__setitem__
class Missing(dict):
    def __missing__(self, k): return f'<{k}>'
---
d = CIDict({'Content-Type': 'x'}, Accept='y')
assert d['content-type'] == 'x' and 'ACCEPT' in d and len(d) == 2
d['ACCEPT'] = 'z'
assert dict(d) == {'Content-Type': 'x', 'ACCEPT': 'z'}
assert d.get('none', 0) == 0 and d.pop('accept') == 'z' and list(d) == ['Content-Type']
assert d == {'Content-Type': 'x'}
assert isinstance(d, collections.abc.Mapping) if (collections := __import__('collections.abc')) else 0
l = DefaultList([1, 2])
assert l[1] == 2 and l[9] is None and l == [1, 2] and len(l) == 2
l.append(3)
assert l[2] == 3 and sum(l) == 6
a = Attr(x=1)
a.y = 2
assert a.x == 1 and a['y'] == 2 and a == {'x': 1, 'y': 2}
assert not hasattr(a, 'nope') and getattr(a, 'nope', 5) == 5
assert '{a} {b}'.format_map(Missing(a=1)) == '1 <b>'
assert Missing()['q'] == '<q>'
=== http: handler with BaseHTTPRequestHandler-like parsing
from http import HTTPStatus
from urllib.parse import urlparse, parse_qs, urlencode, quote
from email.utils import formatdate
def parse_request(raw: bytes):
    head, _, body = raw.partition(b'\r\n\r\n')
    lines = head.decode('latin-1').split('\r\n')
    method, target, version = lines[0].split(' ')
    headers = {k.lower(): v.strip() for k, v in (l.split(':', 1) for l in lines[1:])}
    u = urlparse(target)
    return {'method': method, 'path': u.path, 'query': parse_qs(u.query), 'headers': headers, 'body': body, 'version': version}
def response(status, body='', **headers):
    st = HTTPStatus(status)
    hs = {'Content-Length': len(body.encode()), **{k.replace('_', '-').title(): v for k, v in headers.items()}}
    return (f'HTTP/1.1 {st.value} {st.phrase}\r\n' + ''.join(f'{k}: {v}\r\n' for k, v in hs.items()) + '\r\n' + body).encode()
def build_url(base, **q): return base + ('?' + urlencode(sorted(q.items())) if q else '')
---
from http import HTTPStatus
r = parse_request(b'GET /a/b?x=1&x=2&y=%20 HTTP/1.1\r\nHost: h\r\nX-A:  v \r\n\r\nBODY')
assert r['query'] == {'x': ['1', '2'], 'y': [' ']} and r['headers'] == {'host': 'h', 'x-a': 'v'}
assert r['body'] == b'BODY' and r['path'] == '/a/b'
assert response(404, 'no', content_type='text/plain') == b'HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nno'
assert response(HTTPStatus.OK).startswith(b'HTTP/1.1 200 OK')
assert build_url('http://x', b=2, a='p q') == 'http://x?a=p+q&b=2'
try: response(999)
except ValueError: pass
else: assert False
=== builder: fluent query
class Query:
    def __init__(self, table): self._t, self._w, self._o, self._l, self._cols, self._args = table, [], [], None, ['*'], []
    def _clone(self):
        q = Query(self._t)
        q._w, q._o, q._l, q._cols, q._args = self._w[:], self._o[:], self._l, self._cols[:], self._args[:]
        return q
    def select(self, *cols): q = self._clone(); q._cols = list(cols); return q
    def where(self, **kw):
        q = self._clone()
        for k, v in kw.items():
            f, _, op = k.partition('__')
            q._w.append(f"{f} {dict(gt='>', lt='<', ne='!=').get(op, '=')} ?")
            q._args.append(v)
        return q
    def order_by(self, *f): q = self._clone(); q._o = [x[1:] + ' DESC' if x.startswith('-') else x for x in f]; return q
    def limit(self, n): q = self._clone(); q._l = n; return q
    def sql(self):
        s = f"SELECT {', '.join(self._cols)} FROM {self._t}"
        if self._w: s += ' WHERE ' + ' AND '.join(self._w)
        if self._o: s += ' ORDER BY ' + ', '.join(self._o)
        if self._l is not None: s += f' LIMIT {self._l}'
        return s, tuple(self._args)
    __str__ = lambda self: self.sql()[0]
    def run(self, conn): return conn.execute(*self.sql()).fetchall()
---
import sqlite3
base = Query('t')
q = base.where(a=1, b__gt=2).order_by('-c', 'd').limit(3)
assert q.sql() == ('SELECT * FROM t WHERE a = ? AND b > ? ORDER BY c DESC, d LIMIT 3', (1, 2))
assert base.sql() == ('SELECT * FROM t', ()) and str(base.select('x', 'y')) == 'SELECT x, y FROM t'
db = sqlite3.connect(':memory:')
db.executescript("create table t(a, b); insert into t values (1, 'x'), (2, 'y'), (3, 'z');")
assert Query('t').select('b').where(a__ne=2).order_by('-a').run(db) == [('z',), ('x',)]
try: Query('nope').run(db)
except sqlite3.OperationalError as e: assert 'no such table' in str(e)
else: assert False
db.close()
=== di: container resolving by annotations
import inspect
class ResolutionError(Exception): pass
class Container:
    def __init__(self): self._f, self._single = {}, {}
    def register(self, key, factory=None, singleton=False):
        self._f[key] = (factory or key, singleton)
        return self
    def resolve(self, key):
        if key in self._single: return self._single[key]
        if key not in self._f: raise ResolutionError(f'{getattr(key, "__name__", key)} is not registered')
        factory, single = self._f[key]
        params = inspect.signature(factory).parameters.values()
        kw = {p.name: self.resolve(p.annotation) for p in params if p.annotation is not inspect.Parameter.empty and p.default is inspect.Parameter.empty}
        obj = factory(**kw)
        if single: self._single[key] = obj
        return obj
---
class Db:
    made = 0
    def __init__(self): Db.made += 1
class Repo:
    def __init__(self, db: Db): self.db = db
class Service:
    def __init__(self, repo: Repo, db: Db, retries: int = 3):
        self.repo, self.db, self.retries = repo, db, retries
c = Container().register(Db, singleton=True).register(Repo).register(Service)
s = c.resolve(Service)
assert isinstance(s, Service) and isinstance(s.repo, Repo)
assert s.repo.db is s.db and s.retries == 3 and Db.made == 1
assert c.resolve(Repo) is not c.resolve(Repo)
c.register('answer', lambda: 42)
assert c.resolve('answer') == 42
try: c.resolve(str)
except ResolutionError as e: assert str(e) == 'str is not registered'
else: assert False
=== generators: pipeline with coroutines and close
def coroutine(fn):
    def start(*a, **k):
        g = fn(*a, **k); next(g)
        return g
    return start
@coroutine
def grep(pattern, target):
    try:
        while True:
            line = yield
            if pattern in line: target.send(line)
    except GeneratorExit:
        target.close()
@coroutine
def collect(out):
    try:
        while True: out.append((yield))
    finally: out.append('closed')
def countdown(n):
    while n:
        try: yield n
        except ValueError as e: n += int(str(e)); continue
        n -= 1
---
out = []
g = grep('py', collect(out))
for w in ['python', 'ruby', 'pypy']: g.send(w)
g.close()
assert out == ['python', 'pypy', 'closed']
c = countdown(3)
assert next(c) == 3
assert c.throw(ValueError('2')) == 5
assert next(c) == 4 and list(c) == [3, 2, 1]
try: c.throw(KeyError('x'))
except KeyError: pass
else: assert False
=== int subclass and enum flags arithmetic
from enum import IntFlag, Enum
class Perm(IntFlag):
    NONE = 0
    READ = 1
    WRITE = 2
    EXEC = 4
    ALL = 7
    @classmethod
    def parse(cls, s):
        r = cls.NONE
        for ch, f in zip('rwx', (cls.READ, cls.WRITE, cls.EXEC)):
            if ch in s: r |= f
        return r
    def __str__(self): return ''.join(c if self & f else '-' for c, f in zip('rwx', (1, 2, 4)))
class Planet(Enum):
    EARTH = (5.97e24, 6.37e6)
    MARS = (6.42e23, 3.39e6)
    def __init__(self, mass, radius): self.mass, self.radius = mass, radius
    @property
    def g(self): return 6.67e-11 * self.mass / self.radius ** 2
class Bounded(int):
    def __new__(cls, v, lo=0, hi=10): return super().__new__(cls, max(lo, min(hi, v)))
    def __add__(self, o): return Bounded(int(self) + int(o))
---
p = Perm.parse('rx')
assert p == Perm.READ | Perm.EXEC and p == 5 and Perm.WRITE not in p and Perm.READ in p
assert str(p) == 'r-x' and (p ^ Perm.ALL) == Perm.WRITE and (p & ~Perm.READ) is Perm.EXEC
assert int(Perm.ALL) == 7 and bool(Perm.NONE) is False
assert abs(Planet.EARTH.g - 9.8) < 0.1
assert Planet.MARS.value == (6.42e23, 3.39e6) and Planet((6.42e23, 3.39e6)) is Planet.MARS
assert Planet.MARS.mass == 6.42e23 and [x.name for x in Planet] == ['EARTH', 'MARS']
b = Bounded(15)
assert b == 10 and b + 1 == 10 and Bounded(3) + 4 == 7 and isinstance(b + 1, Bounded) and b - 1 == 9
assert list(range(Bounded(3))) == [0, 1, 2] and f'{Bounded(7):03d}' == '007'
=== dict subclass: multi dict and counter like
from collections import UserDict, Counter, OrderedDict
class MultiDict(dict):
    def __setitem__(self, k, v): self.setdefault(k, []).append(v)
    def first(self, k): return self[k][0]
class LowerDict(UserDict):
    def __setitem__(self, k, v): super().__setitem__(k.lower(), v)
    def __getitem__(self, k): return super().__getitem__(k.lower())
    def __contains__(self, k): return super().__contains__(k.lower())
class Bag(Counter):
    def total_weight(self, w): return sum(self[k] * w[k] for k in self)
class FIFO(OrderedDict):
    def __init__(self, n): super().__init__(); self.n = n
    def __setitem__(self, k, v):
        if len(self) >= self.n and k not in self: self.popitem(last=False)
        super().__setitem__(k, v)
---
m = MultiDict()
m['a'] = 1; m['a'] = 2
assert m == {'a': [1, 2]} and m.first('a') == 1 and dict(m) == {'a': [1, 2]}
l = LowerDict(A=1)
l['B'] = 2
assert l['b'] == 2 and 'a' in l and l.data == {'a': 1, 'b': 2} and sorted(l) == ['a', 'b']
b = Bag('aab')
assert b['a'] == 2 and b['zz'] == 0 and b.total_weight({'a': 1, 'b': 10}) == 12 and b.most_common(1) == [('a', 2)]
assert b + Counter('b') == Counter(a=2, b=2)
f = FIFO(2)
for k in 'abc': f[k] = ord(k)
assert list(f) == ['b', 'c'] and f['c'] == 99 and len(f) == 2
f.move_to_end('b')
assert list(f.items()) == [('c', 99), ('b', 98)]
=== plugin: subclasses discovered by __subclasses__
class Exporter:
    ext = None
    @classmethod
    def for_ext(cls, ext):
        for sub in cls.__subclasses__():
            if sub.ext == ext: return sub()
        raise LookupError(f'no exporter for {ext}')
    def export(self, rows): raise NotImplementedError(type(self).__name__)
class Csv(Exporter):
    ext = 'csv'
    def export(self, rows): return '\n'.join(','.join(map(str, r)) for r in rows)
class Base:
    kinds = []
    def __init_subclass__(cls, /, kind=None, **kw):
        super().__init_subclass__(**kw)
        cls.kind = kind or cls.__name__.lower()
        Base.kinds.append(cls.kind)
---
assert Exporter.for_ext('csv').export([(1, 2), ('a', 'b')]) == '1,2\na,b'
class Tsv(Exporter):
    ext = 'tsv'
    def export(self, rows): return '\n'.join('\t'.join(map(str, r)) for r in rows)
t = Exporter.for_ext('tsv')
assert isinstance(t, Tsv) and t.export([(1, 2)]) == '1\t2'
class Todo(Exporter): ext = 'todo'
try: Exporter.for_ext('todo').export([])
except NotImplementedError as e: assert str(e) == 'Todo'
else: assert False
try: Exporter.for_ext('zip')
except LookupError: pass
else: assert False
class A(Base): pass
class B(Base, kind='bee'): pass
assert Base.kinds == ['a', 'bee'] and B.kind == 'bee' and A().kind == 'a'
assert set(c.__name__ for c in Exporter.__subclasses__()) == {'Csv', 'Tsv', 'Todo'}
=== swe: plugin hooks with priorities and unregister
import bisect, itertools
from contextlib import contextmanager
class Hook:
    _n = itertools.count()
    def __init__(self, name): self.name, self._impl = name, []
    def __call__(self, *a, **k): return [r for _, _, f in self._impl if (r := f(*a, **k)) is not None]
    def add(self, f, priority=0): bisect.insort(self._impl, (-priority, next(Hook._n), f))
    def remove(self, f): self._impl = [i for i in self._impl if i[2] is not f]
class Manager:
    def __init__(self): self._hooks = {}
    def __getattr__(self, n):
        if n.startswith('_'): raise AttributeError(n)
        return self._hooks.setdefault(n, Hook(n))
    def register(self, plugin):
        for n in dir(plugin):
            if n.startswith('on_'): getattr(self, n[3:]).add(getattr(plugin, n), getattr(plugin, 'priority', 0))
        return plugin
    @contextmanager
    def temporary(self, name, f):
        h = getattr(self, name); h.add(f)
        try: yield h
        finally: h.remove(f)
---
class P1:
    def on_load(self, x): return f'p1 {x}'
    def on_save(self): return None
class P2:
    priority = 10
    def __init__(self): self.seen = []
    def on_load(self, x): self.seen.append(x); return f'p2 {x}'
m = Manager()
p1, p2 = m.register(P1()), m.register(P2())
assert m.load('f') == ['p2 f', 'p1 f'] and p2.seen == ['f'] and m.save() == []
with m.temporary('save', lambda: 'tmp') as h:
    assert m.save() == ['tmp'] and h.name == 'save'
assert m.save() == [] and m.unknown(1, a=2) == []
assert isinstance(m.load, Hook) and m.load is m.load
class Pure:
    @staticmethod
    def on_save(): return 'static'
m.register(Pure)
assert m.save() == ['static']
=== introspection: docstrings, modules, members
'''Module doc.'''
import inspect
__all__ = ['Public', 'helper']
__version__ = '1.2'
class Public:
    '''A public class.

    More.
    '''
    attr: int = 3
    def method(self, x: int) -> str:
        "Does it."
        return str(x)
    @staticmethod
    def s(): return 's'
    @classmethod
    def c(cls): return cls.__name__
    def _private(self): pass
def helper(a, b=2):
    '''Helps.

    >>> helper(1)
    3
    '''
    return a + b
---
import inspect
assert Public.__doc__.startswith('A public class.') and inspect.getdoc(Public).endswith('More.')
assert Public.method.__doc__ == 'Does it.' and helper.__doc__.strip().startswith('Helps.')
assert __version__ == '1.2' and 'helper' in __all__
assert [n for n, _ in inspect.getmembers(Public, inspect.isfunction) if not n.startswith('_')] == ['method', 's']
assert Public.__annotations__ == {'attr': int} and Public.method.__annotations__['return'] is str
assert Public.c() == 'Public' and Public().c() == 'Public' and Public.s() == 's'
assert inspect.isclass(Public) and inspect.isfunction(helper) and inspect.ismethod(Public().method)
assert Public.__name__ == Public.__qualname__ == 'Public' and Public.method.__qualname__ == 'Public.method'
assert 'method' in dir(Public) and hasattr(Public, '_private') and Public().method.__self__.attr == 3
assert '__init__' in dir(Public) and helper.__defaults__ == (2,) and helper.__code__.co_argcount == 2
=== bcb: logging to a file with rotation
import logging, logging.handlers, os
def task_func(path, messages, level=logging.INFO):
    log = logging.getLogger('task')
    log.setLevel(level)
    h = logging.handlers.RotatingFileHandler(path, maxBytes=10000, backupCount=1)
    h.setFormatter(logging.Formatter('%(levelname)s|%(message)s'))
    log.addHandler(h)
    for lv, m in messages: log.log(lv, m)
    h.close(); log.removeHandler(h)
    return log
---
import logging, os, tempfile, unittest
class TestCases(unittest.TestCase):
    def test_file(self):
        fd, p = tempfile.mkstemp()
        os.close(fd)
        log = task_func(p, [(logging.INFO, 'a'), (logging.DEBUG, 'b'), (logging.ERROR, 'c')])
        with open(p) as f: self.assertEqual(f.read(), 'INFO|a\nERROR|c\n')
        self.assertIsInstance(log, logging.Logger)
        self.assertEqual(log.name, 'task')
        self.assertEqual(log.level, logging.INFO)
        self.assertEqual(log.handlers, [])
        os.remove(p)
=== bcb: shutil and glob housekeeping
import glob, os, shutil, time
def task_func(src, dst, ext='.log', older_than=0):
    os.makedirs(dst, exist_ok=True)
    moved = []
    for p in sorted(glob.glob(os.path.join(src, '*' + ext))):
        if time.time() - os.path.getmtime(p) >= older_than:
            shutil.move(p, dst)
            moved.append(os.path.basename(p))
    return moved
---
import os, tempfile, time, unittest
from pathlib import Path
class TestCases(unittest.TestCase):
    def test_move(self):
        with tempfile.TemporaryDirectory() as d:
            src, dst = Path(d, 's'), Path(d, 't')
            src.mkdir()
            for n in ('b.log', 'a.log', 'c.txt'): (src / n).touch()
            self.assertEqual(task_func(str(src), str(dst)), ['a.log', 'b.log'])
            self.assertEqual(sorted(os.listdir(dst)), ['a.log', 'b.log'])
            self.assertEqual([p.name for p in src.iterdir()], ['c.txt'])
    def test_age(self):
        with tempfile.TemporaryDirectory() as d:
            p = Path(d, 'old.log'); p.write_text('x')
            past = time.time() - 1000
            os.utime(p, (past, past))
            Path(d, 'new.log').write_text('y')
            self.assertEqual(task_func(d, os.path.join(d, 'arch'), older_than=500), ['old.log'])
=== abc: shapes
from abc import ABC, abstractmethod
import math
class Shape(ABC):
    @property
    @abstractmethod
    def area(self): ...
    @abstractmethod
    def scale(self, k): ...
    def describe(self):
        return f'{type(self).__name__} with area {self.area:.2f}'
class Circle(Shape):
    def __init__(self, r): self.r = r
    @property
    def area(self): return math.pi * self.r ** 2
    def scale(self, k): return Circle(self.r * k)
class Square(Shape):
    def __init__(self, a): self.a = a
    @property
    def area(self): return self.a ** 2
    def scale(self, k): return type(self)(self.a * k)
---
import math, inspect
assert math.isclose(Circle(1).area, 3.14159, rel_tol=1e-4)
assert Square(2).scale(3).area == 36
assert Circle(2).describe() == 'Circle with area 12.57'
assert inspect.isabstract(Shape) and not inspect.isabstract(Circle)
assert issubclass(Square, Shape) and isinstance(Circle(1), Shape)
assert Shape.__abstractmethods__ == {'area', 'scale'}
try:
    Shape()
    raise SystemError
except TypeError as e:
    assert 'abstract' in str(e)
class Half(Shape):
    @property
    def area(self):
        return 0.5
    def scale(self, k):
        return self
assert Half().describe() == 'Half with area 0.50'
shapes = [Circle(1), Square(1), Half()]
assert [type(s).__name__ for s in sorted(shapes, key=lambda s: s.area)] == ['Half', 'Square', 'Circle']
assert round(sum(s.area for s in shapes), 2) == 4.64
=== validation: phone, email, iban, composite validators
import re
class ValidationError(Exception):
    def __init__(self, errors): self.errors = errors; super().__init__(f'{len(errors)} error(s)')
class V:
    def __init__(self, fn, msg): self.fn, self.msg = fn, msg
    def __call__(self, x): return [] if self.fn(x) else [self.msg]
    def __and__(self, o): return All(self, o)
    def __or__(self, o): return Any(self, o)
    def __invert__(self): return V(lambda x: bool(self(x)), f'not {self.msg}')
class All(V):
    def __init__(self, *vs): self.vs = vs
    def __call__(self, x): return [e for v in self.vs for e in v(x)]
class Any(V):
    def __init__(self, *vs): self.vs = vs
    def __call__(self, x): errs = [v(x) for v in self.vs]; return [] if not all(errs) else sum(errs, [])
email = V(lambda s: re.fullmatch(r'[^@\s]+@[^@\s]+\.\w+', s) is not None, 'bad email')
short = V(lambda s: len(s) < 10, 'too long')
def iban(s): s = s.replace(' ', ''); return int(''.join(str(int(c, 36)) for c in s[4:] + s[:4])) % 97 == 1
def validate(data, rules):
    errs = {k: e for k, v in rules.items() if (e := v(data.get(k, '')))}
    if errs: raise ValidationError(errs)
    return data
---
assert email('a@b.co') == [] and email('x') == ['bad email']
both = email & short
assert both('longer@address.com') == ['too long'] and both('nope-nope-nope') == ['bad email', 'too long']
assert (email | short)('hi') == [] and (~email)('a@b.co') == ['not bad email']
assert iban('GB82 WEST 1234 5698 7654 32') and not iban('GB82 WEST 1234 5698 7654 33')
mine = V(str.isupper, 'must be upper')
try: validate({'e': 'zz', 'u': 'low'}, {'e': email, 'u': mine & short})
except ValidationError as e: assert e.errors == {'e': ['bad email'], 'u': ['must be upper']} and str(e) == '2 error(s)'
else: assert False
d = {'e': 'q@w.de'}
assert validate(d, {'e': email}) is d
=== decorators of classes: singleton, total equality, immutable and registering
import functools
def singleton(cls):
    inst = {}
    @functools.wraps(cls, updated=())
    def get(*a, **k):
        if cls not in inst: inst[cls] = cls(*a, **k)
        return inst[cls]
    return get
def countcalls(*names):
    def deco(cls):
        for n in names:
            fn = getattr(cls, n)
            def w(self, *a, _fn=fn, _n=n, **k):
                self.calls[_n] = self.calls.get(_n, 0) + 1
                return _fn(self, *a, **k)
            setattr(cls, n, w)
        cls.calls = {}
        return cls
    return deco
class Registry(dict):
    def __call__(self, key):
        def deco(obj): self[key] = obj; return obj
        return deco
    def make(self, key, *a, **k):
        try: return self[key](*a, **k)
        except KeyError: raise LookupError(f'unknown: {key}') from None
@singleton
class Config:
    def __init__(self, v=1): self.v = v
@countcalls('area')
class Square:
    def __init__(self, a): self.a = a
    def area(self): return self.a ** 2
registry = Registry()
---
assert Config(5) is Config(9) and Config().v == 5 and Config.__name__ == 'Config'
s = Square(3)
assert s.area() == s.area() == 9 and Square.calls == {'area': 2} and s.calls is Square.calls or s.calls == {'area': 2}
@registry('dog')
class Dog:
    def __init__(self, n='rex'): self.n = n
@registry('shout')
def shout(s): return s.upper()
d = registry.make('dog', n='fido')
assert isinstance(d, Dog) and d.n == 'fido' and registry.make('shout', 'a') == 'A' and registry['dog'] is Dog
try: registry.make('cat')
except LookupError as e: assert str(e) == 'unknown: cat'
else: assert 0
@singleton
class Mine:
    def __init__(self): self.k = []
Mine().k.append(1)
assert Mine().k == [1] and Mine() is Mine()
assert len(registry) == 2 and list(registry) == ['dog', 'shout']
=== dataclass of the tests handled by the program: asdict, fields, json
import dataclasses, json
def to_json(obj): return json.dumps(dataclasses.asdict(obj), sort_keys=True)
def diff(a, b): return {f.name: (getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a) if getattr(a, f.name) != getattr(b, f.name)}
def from_dict(cls, d):
    names = {f.name for f in dataclasses.fields(cls)}
    unknown = d.keys() - names
    if unknown: raise TypeError(f'unknown fields: {sorted(unknown)}')
    return cls(**d)
def validate(obj):
    for f in dataclasses.fields(obj):
        if isinstance(f.type, type) and not isinstance(getattr(obj, f.name), f.type):
            raise TypeError(f'{f.name} should be {f.type.__name__}')
    return True
---
from dataclasses import dataclass, field
@dataclass
class Point:
    x: int
    y: int = 0
    tags: list = field(default_factory=list)
assert to_json(Point(1, tags=['a'])) == '{"tags": ["a"], "x": 1, "y": 0}'
assert diff(Point(1, 2), Point(1, 3)) == {'y': (2, 3)}
p = from_dict(Point, {'x': 5})
assert p == Point(5) and isinstance(p, Point)
try: from_dict(Point, {'z': 1})
except TypeError as e: assert str(e) == "unknown fields: ['z']"
else: assert False
assert validate(p)
try: validate(Point('q'))
except TypeError as e: assert 'x should be int' == str(e)
else: assert False
=== enum of the tests handled by the program
from enum import Enum
def choices(enum): return [(m.value, m.name.title()) for m in enum]
def parse(enum, text):
    try: return enum[text.upper()]
    except KeyError: raise ValueError(f'{text!r} is not a valid {enum.__name__}') from None
def next_member(m):
    ms = list(type(m))
    return ms[(ms.index(m) + 1) % len(ms)]
def tally(items):
    out = {}
    for i in items: out[i] = out.get(i, 0) + 1
    return out
---
from enum import Enum
class Color(Enum):
    RED = 'r'
    GREEN = 'g'
assert choices(Color) == [('r', 'Red'), ('g', 'Green')]
assert parse(Color, 'red') is Color.RED
try: parse(Color, 'blue')
except ValueError as e: assert str(e) == "'blue' is not a valid Color"
else: assert False
assert next_member(Color.GREEN) is Color.RED
assert tally([Color.RED, Color.GREEN, Color.RED]) == {Color.RED: 2, Color.GREEN: 1}
=== memory allocator: first fit with coalescing
class OutOfMemory(MemoryError): pass
class Heap:
    def __init__(self, size): self.size, self.free_list, self.used = size, [(0, size)], {}
    def alloc(self, n):
        for i, (a, s) in enumerate(self.free_list):
            if s >= n:
                if s == n: del self.free_list[i]
                else: self.free_list[i] = (a + n, s - n)
                self.used[a] = n
                return a
        raise OutOfMemory(f'cannot allocate {n} bytes')
    def free(self, a):
        n = self.used.pop(a)
        self.free_list = sorted(self.free_list + [(a, n)])
        merged = []
        for x, s in self.free_list:
            if merged and merged[-1][0] + merged[-1][1] == x: merged[-1] = (merged[-1][0], merged[-1][1] + s)
            else: merged.append((x, s))
        self.free_list = merged
    @property
    def available(self): return sum(s for _, s in self.free_list)
---
h = Heap(100)
a, b, c = h.alloc(30), h.alloc(30), h.alloc(40)
assert (a, b, c) == (0, 30, 60) and h.available == 0
try: h.alloc(1)
except MemoryError as e: assert isinstance(e, OutOfMemory) and 'allocate 1' in str(e)
else: assert False
h.free(a); h.free(c)
assert h.free_list == [(0, 30), (60, 40)]
try: h.alloc(50)
except OutOfMemory: pass
else: assert False
h.free(b)
assert h.free_list == [(0, 100)] and h.used == {}
try: h.free(b)
except KeyError: pass
else: assert 0
=== exceptions: retry policy, custom hierarchy, else and finally
class TransientError(Exception): pass
class PermanentError(Exception):
    def __init__(self, msg, *, code=0, context=None):
        super().__init__(msg); self.code, self.context = code, context or {}
    def __eq__(self, o): return isinstance(o, PermanentError) and (self.args, self.code) == (o.args, o.code)
    def __hash__(self): return hash(self.args)
def attempt(fn, times=3, cleanup=lambda: None):
    errors = []
    try:
        for _ in range(times):
            try: result = fn()
            except TransientError as e: errors.append(e)
            except PermanentError: raise
            except Exception as e: raise PermanentError('wrapped', code=1, context={'type': type(e).__name__}) from e
            else: return result, errors
        raise PermanentError('exhausted', code=len(errors)) from errors[-1]
    finally: cleanup()
---
seq = iter([TransientError('1'), TransientError('2'), 'ok'])
def fn():
    x = next(seq)
    if isinstance(x, Exception): raise x
    return x
cleaned = []
r, errs = attempt(fn, cleanup=lambda: cleaned.append(1))
assert r == 'ok' and [str(e) for e in errs] == ['1', '2'] and cleaned == [1]
def fail(): raise TransientError('again')
try: attempt(fail, 2)
except PermanentError as e:
    assert e.code == 2 and e.args == ('exhausted',) and isinstance(e.__cause__, TransientError) and str(e.__cause__) == 'again'
    assert e == PermanentError('exhausted', code=2)
else: assert False
try: attempt(lambda: {}['k'])
except PermanentError as e: assert e.context == {'type': 'KeyError'} and e.__cause__.args == ('k',)
else: assert False
def perm(): raise PermanentError('p', code=9)
try: attempt(perm)
except PermanentError as e: assert e.code == 9 and e.__cause__ is None
=== bcb: system information with platform and mocks
import platform, os, sys, getpass
def task_func():
    return {'os': platform.system(), 'python': platform.python_version(), 'cwd': os.getcwd(), 'cpus': os.cpu_count(), 'bits': sys.maxsize.bit_length() + 1}
def env_summary(prefix): return sorted(k for k in os.environ if k.startswith(prefix))
---
import os, sys, platform, unittest
from unittest.mock import patch
class T(unittest.TestCase):
    def test_keys(self):
        r = task_func()
        self.assertEqual(set(r), {'os', 'python', 'cwd', 'cpus', 'bits'})
        self.assertEqual(r['python'], '.'.join(map(str, sys.version_info[:3])))
        self.assertEqual(r['cwd'], os.getcwd())
        self.assertEqual(r['bits'], 64)
    @patch('platform.system', return_value='Plan9')
    @patch('os.cpu_count', return_value=128)
    def test_mocked(self, cpus, system):
        r = task_func()
        self.assertEqual((r['os'], r['cpus']), ('Plan9', 128))
        system.assert_called_once()
    def test_env(self):
        with patch.dict('os.environ', {'ZZ_A': '1', 'ZZ_B': '2'}):
            self.assertEqual(env_summary('ZZ_'), ['ZZ_A', 'ZZ_B'])
        self.assertEqual(env_summary('ZZ_'), [])
=== bcb: argparse and subprocess wrapper
import argparse, shlex, subprocess
def parse(argv):
    p = argparse.ArgumentParser()
    p.add_argument('cmd'); p.add_argument('--dry-run', action='store_true'); p.add_argument('--env', action='append', default=[])
    return p.parse_args(argv)
def task_func(argv):
    a = parse(argv)
    env = dict(e.split('=', 1) for e in a.env)
    if a.dry_run: return shlex.split(a.cmd), env
    r = subprocess.run(shlex.split(a.cmd), capture_output=True, text=True)
    return r.returncode, r.stdout
---
import unittest, subprocess
from unittest.mock import patch
class T(unittest.TestCase):
    def test_dry(self): self.assertEqual(task_func(['echo "a b"', '--dry-run', '--env', 'X=1=2']), (['echo', 'a b'], {'X': '1=2'}))
    def test_run(self): self.assertEqual(task_func(['echo hi']), (0, 'hi\n'))
    def test_mock(self):
        with patch('subprocess.run') as run:
            run.return_value = subprocess.CompletedProcess(['x'], 3, stdout='out', stderr='')
            self.assertEqual(task_func(['x y']), (3, 'out'))
            run.assert_called_once_with(['x', 'y'], capture_output=True, text=True)
    def test_namespace(self):
        a = parse(['ls'])
        self.assertEqual(a.cmd, 'ls'); self.assertFalse(a.dry_run); self.assertEqual(vars(a), {'cmd': 'ls', 'dry_run': False, 'env': []})
        with self.assertRaises(SystemExit): parse([])
=== mock: patching requests-like helper and retries with sleep
import time, json
from urllib import request, error
class ApiError(Exception):
    def __init__(self, status): super().__init__(f'HTTP {status}'); self.status = status
def get_json(url, retries=3, backoff=1):
    for i in range(retries):
        try:
            with request.urlopen(url, timeout=5) as r: return json.load(r)
        except error.HTTPError as e:
            if e.code < 500: raise ApiError(e.code) from e
        except error.URLError: pass
        time.sleep(backoff * 2 ** i)
    raise ApiError(503)
---
import io, unittest
from unittest.mock import patch, call
from urllib.error import HTTPError, URLError
class T(unittest.TestCase):
    @patch('time.sleep')
    @patch('urllib.request.urlopen')
    def test_retry(self, op, sleep):
        op.side_effect = [URLError('x'), io.BytesIO(b'{"a": 1}')]
        self.assertEqual(get_json('http://u'), {'a': 1})
        sleep.assert_called_once_with(1)
        op.assert_called_with('http://u', timeout=5)
    @patch('time.sleep')
    @patch('urllib.request.urlopen')
    def test_gives_up(self, op, sleep):
        op.side_effect = URLError('x')
        with self.assertRaises(ApiError) as cm: get_json('http://u', retries=2)
        self.assertEqual(cm.exception.status, 503)
        self.assertEqual(sleep.call_args_list, [call(1), call(2)])
    @patch('urllib.request.urlopen')
    def test_client_error(self, op):
        op.side_effect = HTTPError('http://u', 404, 'Not Found', {}, None)
        with self.assertRaises(ApiError) as cm: get_json('http://u')
        self.assertEqual(cm.exception.status, 404)
        self.assertIsInstance(cm.exception.__cause__, HTTPError)
        self.assertEqual(cm.exception.__cause__.code, 404)
=== threads: worker pool with results and shutdown
import threading, queue
class Pool:
    def __init__(self, n):
        self.q, self.results, self.lock = queue.Queue(), [], threading.Lock()
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(n)]
        for t in self.threads: t.start()
    def _work(self):
        while (job := self.q.get()) is not None:
            fn, args = job
            try: r = ('ok', fn(*args))
            except Exception as e: r = ('error', repr(e))
            with self.lock: self.results.append(r)
            self.q.task_done()
    def submit(self, fn, *args): self.q.put((fn, args))
    def close(self):
        self.q.join()
        for _ in self.threads: self.q.put(None)
        for t in self.threads: t.join()
---
p = Pool(3)
for i in range(5): p.submit(pow, i, 2)
p.submit(lambda: 1 / 0)
p.close()
oks = sorted(r for s, r in p.results if s == 'ok')
assert oks == [0, 1, 4, 9, 16]
assert [r for s, r in p.results if s == 'error'] == ["ZeroDivisionError('division by zero')"]
assert not any(t.is_alive() for t in p.threads)
=== inheritance: test subclasses logging handler, thread and dict of the program
import threading
class Job(threading.Thread):
    def __init__(self, n): super().__init__(); self.n, self.result = n, None
    def compute(self): return self.n
    def run(self): self.result = self.compute()
class Recorder(dict):
    def __setitem__(self, k, v): super().__setitem__(k, v); self.on_set(k, v)
    def on_set(self, k, v): pass
class Base:
    registry = {}
    def __init_subclass__(cls, **kw): super().__init_subclass__(**kw); Base.registry[cls.__name__] = cls
    def run(self): return self.before() + self.main() + self.after()
    def before(self): return '<'
    def after(self): return '>'
def run_all(): return {n: c().run() for n, c in sorted(Base.registry.items())}
---
class Square(Job):
    def compute(self): return super().compute() ** 2
j = Square(7); j.start(); j.join()
assert j.result == 49
class Log(Recorder):
    def __init__(self): super().__init__(); self.log = []
    def on_set(self, k, v): self.log.append(k)
l = Log()
l['a'] = 1; l['b'] = 2
assert l.log == ['a', 'b'] and l == {'a': 1, 'b': 2} and l['a'] == 1
class X(Base):
    def main(self): return 'x'
class Y(X):
    def before(self): return super().before() * 2
    def main(self): return 'y' + super().main()
assert run_all() == {'X': '<x>', 'Y': '<<yx>'} and Base.registry['X'] is X
=== injected callbacks with state, nonlocal and generators of the tests
def walk(tree, visit):
    stack = [(tree, 0)]
    while stack:
        node, depth = stack.pop()
        if visit(node, depth) is False: continue
        stack += [(c, depth + 1) for c in reversed(node.get('children', []))]
def consume(gen, n):
    out = []
    for x in gen:
        out.append(x)
        if len(out) == n: break
    return out
def pingpong(co, values): next(co); return [co.send(v) for v in values]
def with_resource(make, fn):
    with make() as r: return fn(r)
def memo(fn, store): return lambda k: store[k] if k in store else store.setdefault(k, fn(k))
---
from contextlib import contextmanager
T = {'n': 1, 'children': [{'n': 2, 'children': [{'n': 3}]}, {'n': 4}]}
seen = []
walk(T, lambda node, d: seen.append((node['n'], d)))
assert seen == [(1, 0), (2, 1), (3, 2), (4, 1)]
count = 0
def visit(node, d):
    global count
    count += 1
    return d < 1
walk(T, visit)
assert count == 3
def nat():
    i = 0
    while True:
        yield i
        i += 1
g = nat()
assert consume(g, 3) == [0, 1, 2] and next(g) == 3
def echo():
    got = None
    while True: got = yield got
assert pingpong(echo(), [1, 'a']) == [1, 'a']
events = []
@contextmanager
def res():
    events.append('open')
    try: yield 'r'
    finally: events.append('close')
assert with_resource(res, str.upper) == 'R' and events == ['open', 'close']
try: with_resource(res, lambda r: 1 / 0)
except ZeroDivisionError: pass
else: assert 0
assert events[-1] == 'close' and len(events) == 4
store, calls = {}, []
f = memo(lambda k: calls.append(k) or k * 2, store)
assert f(2) == 4 and f(2) == 4 and calls == [2] and store == {2: 4}
=== operator module and methodcaller over the program's objects
import operator
class Item:
    def __init__(self, name, price): self.name, self.price = name, price
    def discounted(self, p=10): return self.price * (100 - p) / 100
def total(items, fn=None): return sum(map(fn or operator.attrgetter('price'), items))
---
import operator
xs = [Item('a', 10), Item('b', 20)]
assert total(xs) == 30 and total(xs, operator.methodcaller('discounted', 50)) == 15 and total(xs, lambda i: len(i.name)) == 2
assert sorted(xs, key=operator.attrgetter('price'), reverse=True)[0].name == 'b'
assert list(map(operator.attrgetter('name', 'price'), xs)) == [('a', 10), ('b', 20)]
=== time: freeze through injected and patched clocks
import datetime, time
class Session:
    TTL = datetime.timedelta(minutes=30)
    def __init__(self, user): self.user, self.created = user, datetime.datetime.now()
    @property
    def expired(self): return datetime.datetime.now() - self.created > self.TTL
class Stopwatch:
    def __init__(self, clock=None): self.clock, self.laps, self._t = clock or time.monotonic, [], None
    def start(self): self._t = self.clock(); return self
    def lap(self):
        if self._t is None: raise RuntimeError('not started')
        now = self.clock(); self.laps.append(now - self._t); self._t = now
        return self.laps[-1]
def greeting():
    h = time.localtime().tm_hour
    return 'morning' if h < 12 else 'evening'
---
import datetime, time, unittest
from unittest.mock import patch, MagicMock
class T(unittest.TestCase):
    def test_session(self):
        with patch('datetime.datetime', wraps=datetime.datetime) as dt:
            dt.now.return_value = datetime.datetime(2024, 1, 1, 12, 0)
            s = Session('u')
            self.assertFalse(s.expired)
            dt.now.return_value = s.created + datetime.timedelta(minutes=31)
            self.assertTrue(s.expired)
        self.assertEqual(s.created.year, 2024)
    def test_watch(self):
        ticks = iter([0, 1.5, 4])
        w = Stopwatch(lambda: next(ticks)).start()
        self.assertEqual((w.lap(), w.lap()), (1.5, 2.5))
        with self.assertRaises(RuntimeError): Stopwatch().lap()
    def test_real(self):
        w = Stopwatch().start()
        self.assertGreaterEqual(w.lap(), 0)
    @patch('time.localtime')
    def test_greet(self, lt):
        lt.return_value = time.struct_time((2024, 1, 1, 9, 0, 0, 0, 1, 0))
        self.assertEqual(greeting(), 'morning')
        lt.return_value = MagicMock(tm_hour=20)
        self.assertEqual(greeting(), 'evening')
=== asyncio: tasks of the program between those of the tests
import asyncio, time
async def fetch(x, d=0):
    await asyncio.sleep(d)
    if x < 0: raise ValueError('neg')
    return x
class W:
    def __init__(self): self.n, self.state, self.q = 0, 'new', asyncio.Queue()
    async def start(self): self.t = asyncio.create_task(self.run()); self.state = 'on'
    async def run(self):
        try:
            while True:
                self.n += 1
                await asyncio.sleep(0.002)
        except asyncio.CancelledError:
            self.state = 'cancelled'; raise
    async def stop(self):
        self.t.cancel()
        try: await self.t
        except asyncio.CancelledError: pass
        self.state = 'off'
    async def put(self, x): await self.q.put(x)
    async def get(self): return await self.q.get()
async def stubborn():
    try: await asyncio.sleep(5)
    except asyncio.CancelledError: return 'kept'
---
import asyncio, time
async def main():
    t0 = time.time()
    assert await asyncio.gather(*(fetch(i, 0.1) for i in range(5))) == [0, 1, 2, 3, 4]
    assert time.time() - t0 < 0.5 * 5
    try: await asyncio.wait_for(fetch(1, 5), 0.02)
    except asyncio.TimeoutError: pass
    else: assert 0
    w = W()
    t = asyncio.create_task(w.run())
    await asyncio.sleep(0.05)
    assert w.n > 1 and w.state == 'new'
    t.cancel()
    try: await t
    except asyncio.CancelledError: pass
    else: assert 0
    assert w.state == 'cancelled' and t.cancelled()
    w = W(); await w.start(); await asyncio.sleep(0.1); assert w.n > 1
    await w.stop(); assert w.state == 'off'
    g = asyncio.create_task(w.get()); await asyncio.sleep(0); await w.put(9); assert await g == 9
    t = asyncio.create_task(stubborn()); await asyncio.sleep(0.01); t.cancel(); assert await t == 'kept'
    async with asyncio.timeout(1): assert await fetch(3) == 3
    async with asyncio.TaskGroup() as tg:
        a = tg.create_task(fetch(1, .01)); b = tg.create_task(fetch(2))
    assert a.result() + b.result() == 3
    r = await asyncio.gather(fetch(1), fetch(-1), return_exceptions=True)
    assert isinstance(r[1], ValueError)
asyncio.run(main())
=== asyncio: coroutines of the tests in tasks of the program
import asyncio
async def with_timeout(coro, t, default=None):
    try: return await asyncio.wait_for(coro, t)
    except asyncio.TimeoutError: return default
async def first_of(*coros):
    tasks = [asyncio.ensure_future(c) for c in coros]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for p in pending: p.cancel()
    return done.pop().result()
async def limited(n, fns):
    sem = asyncio.Semaphore(n)
    async def one(f):
        async with sem: return await f()
    return await asyncio.gather(*map(one, fns))
async def gather_tasks(*c): return [await t for t in [asyncio.create_task(x) for x in c]]
async def consume(q, n): return [await q.get() for _ in range(n)]
def run_sync(f): return asyncio.run(f())
class Timer:
    def __init__(self, d, cb): self.task = asyncio.create_task(self._run(d, cb))
    async def _run(self, d, cb):
        await asyncio.sleep(d); await cb()
async def set_timer(d, cb): return Timer(d, cb)
async def boom(f):
    try: await f()
    except ValueError as e: return str(e)
---
import asyncio
log = []
async def after(d, v):
    try: await asyncio.sleep(d)
    except asyncio.CancelledError: log.append('c%s' % v); raise
    return v
async def main():
    assert await with_timeout(after(5, 1), 0.02, 'late') == 'late'
    assert await with_timeout(after(0, 1), 1) == 1
    assert await first_of(after(1, 'slow'), after(0.01, 'fast')) == 'fast'
    await asyncio.sleep(0.02)
    assert log == ['c1', 'cslow'], log
    run = peak = 0
    async def job():
        nonlocal run, peak
        run += 1; peak = max(peak, run)
        await asyncio.sleep(0.01)
        run -= 1
        return peak
    await limited(2, [job] * 5)
    assert peak == 2, peak
    assert await gather_tasks(after(0.01, 1), after(0, 2)) == [1, 2]
    q = asyncio.Queue()
    t = asyncio.create_task(consume(q, 2))
    await asyncio.sleep(0); await q.put(1); await asyncio.sleep(0.01); await q.put(2)
    assert await t == [1, 2]
    fired = asyncio.Event()
    async def cb(): fired.set()
    await set_timer(0.01, cb)
    await asyncio.wait_for(fired.wait(), 1)
    async def bad(): raise ValueError('x')
    assert await boom(bad) == 'x'
asyncio.run(main())
async def q():
    await asyncio.sleep(0)
    return 5
assert run_sync(q) == 5
=== files: written by a call that returns an object
import logging
class L: pass
def g(path):
    open(path, 'w').write('x')
    return L()
def h(path):
    open(path, 'w').write('x')
    return logging.getLogger('t')
def e(path):
    h = logging.FileHandler(path)
    log = logging.getLogger('q')
    log.addHandler(h)
    log.warning('hey')
    h.close(); log.removeHandler(h)
def e2(path):
    e(path)
    return open(path).read()
---
import tempfile, os, logging
for f in (g, h, e, e2):
    fd, p = tempfile.mkstemp()
    os.close(fd)
    r = f(p)
    with open(p) as fh: x = fh.read()
    assert x, (f, x, r)
=== pytest: parametrize ids
def roman(n):
    out = ""
    for v, s in [(1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]:
        while n >= v:
            out += s
            n -= v
    return out
---
import pytest

@pytest.mark.parametrize("n, want", [
    (1, "I"),
    (4, "IV"),
    pytest.param(1994, "MCMXCIV", id="long"),
    pytest.param(0, "zero", marks=pytest.mark.xfail(reason="no zero")),
])
def test_roman(n, want):
    assert roman(n) == want

@pytest.mark.parametrize("a", [1, 2])
@pytest.mark.parametrize("b", [10, 20], ids=["ten", "twenty"])
def test_cross(a, b):
    assert roman(a + b) == roman(b) + roman(a)
=== pytest: raises match and info
class ParseError(ValueError):
    def __init__(self, pos, msg):
        super().__init__(f"{msg} at {pos}")
        self.pos = pos

def parse_int_list(s):
    out = []
    for i, p in enumerate(s.split(",")):
        if not p.strip().lstrip("-").isdigit():
            raise ParseError(i, f"bad number {p!r}")
        out.append(int(p))
    return out
---
import pytest

def test_ok():
    assert parse_int_list("1, 2,-3") == [1, 2, -3]

def test_bad():
    with pytest.raises(ParseError, match=r"bad number 'x' at 1") as info:
        parse_int_list("1,x")
    assert info.value.pos == 1
    assert info.type is ParseError
    assert "at 1" in str(info.value)

def test_base():
    with pytest.raises(ValueError):
        parse_int_list("")
    with pytest.raises((KeyError, ValueError)):
        parse_int_list("z")
=== pytest: approx
import math
def stats(xs):
    m = sum(xs) / len(xs)
    return {"mean": m, "sd": math.sqrt(sum((x - m) ** 2 for x in xs) / len(xs))}
---
import pytest
from pytest import approx

def test_stats():
    s = stats([0.1, 0.2, 0.3])
    assert s["mean"] == approx(0.2)
    assert s == {"mean": approx(0.2), "sd": approx(0.0816, abs=1e-3)}
    assert [s["mean"], 1] == approx([0.2, 1])
    assert s["sd"] != approx(5)
    assert pytest.approx(0.2, rel=1e-3) == s["mean"]

def test_zero_division():
    with pytest.raises(ZeroDivisionError):
        stats([])
=== pytest: fixture class
class Stack:
    def __init__(self):
        self._items = []
    def push(self, x):
        self._items.append(x)
    def pop(self):
        if not self._items:
            raise IndexError("pop from empty stack")
        return self._items.pop()
    def __len__(self):
        return len(self._items)
---
import pytest

@pytest.fixture
def stack():
    return Stack()

@pytest.fixture
def full(stack):
    for i in range(3):
        stack.push(i)
    return stack

def test_empty(stack):
    assert len(stack) == 0
    with pytest.raises(IndexError, match="empty"):
        stack.pop()

class TestFull:
    def test_len(self, full):
        assert len(full) == 3

    def test_pop(self, full, stack):
        assert full is stack
        assert full.pop() == 2
        assert len(stack) == 2
=== pytest: yield fixture with scope
class Connection:
    opened = 0
    def __init__(self, url):
        self.url = url
        self.closed = False
        Connection.opened += 1
    def query(self, q):
        if self.closed:
            raise RuntimeError("closed")
        return f"{self.url}:{q}"
    def close(self):
        self.closed = True
---
import pytest

@pytest.fixture(scope="module")
def conn():
    c = Connection("db")
    yield c
    c.close()
    assert c.closed

def test_query(conn):
    assert conn.query("x") == "db:x"
    assert Connection.opened == 1

def test_shared(conn):
    assert Connection.opened == 1
    assert not conn.closed
=== pytest: params fixture and indirect
def convert(value, to):
    return {"int": int, "float": float, "str": str}[to](value)
---
import pytest

@pytest.fixture(params=["int", "float"], ids=lambda p: f"to_{p}")
def kind(request):
    return request.param

def test_number(kind):
    v = convert("3", kind)
    assert v == 3
    assert type(v).__name__ == kind

@pytest.fixture
def doubled(request):
    return request.param * 2

@pytest.mark.parametrize("doubled, want", [(2, "4"), (5, "10")], indirect=["doubled"])
def test_indirect(doubled, want):
    assert convert(doubled, "str") == want
=== pytest: capsys
import sys
def report(rows):
    for name, n in rows:
        print(f"{name:<5}|{n:>3}")
    if not rows:
        print("nothing", file=sys.stderr)
---
def test_rows(capsys):
    report([("a", 1), ("bb", 22)])
    captured = capsys.readouterr()
    assert captured.out == "a    |  1\nbb   | 22\n"
    assert captured.err == ""

def test_none(capsys):
    report([])
    out, err = capsys.readouterr()
    assert out == ""
    assert err.strip() == "nothing"
=== pytest: tmp_path
import json
from pathlib import Path
class Store:
    def __init__(self, path):
        self.path = Path(path)
    def load(self):
        if not self.path.exists():
            return {}
        return json.loads(self.path.read_text())
    def save(self, **kw):
        data = self.load()
        data.update(kw)
        self.path.write_text(json.dumps(data))
        return self.path
---
import json
import pytest

@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "s.json")

def test_empty(store):
    assert store.load() == {}

def test_save(store, tmp_path):
    assert store.save(a=1) == tmp_path / "s.json"
    store.save(b=[2])
    assert json.loads((tmp_path / "s.json").read_text()) == {"a": 1, "b": [2]}

def test_bad(tmp_path):
    p = tmp_path / "x.json"
    p.write_text("{")
    with pytest.raises(json.JSONDecodeError):
        Store(p).load()
=== pytest: monkeypatch env and attr
import os
import time
def config():
    return {"debug": os.getenv("APP_DEBUG", "0") == "1", "home": os.environ.get("APP_HOME")}
def stamp():
    return int(time.time())
def greet():
    return f"{stamp()}: {input('name? ')}"
---
import time
import pytest

def test_env(monkeypatch):
    monkeypatch.setenv("APP_DEBUG", "1")
    monkeypatch.delenv("APP_HOME", raising=False)
    assert config() == {"debug": True, "home": None}

def test_clean():
    assert config()["debug"] is False

def test_time(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1000.7)
    assert stamp() == 1000

def test_input(monkeypatch):
    monkeypatch.setattr("builtins.input", lambda prompt: "Bob")
    monkeypatch.setattr("time.time", lambda: 5)
    assert greet() == "5: Bob"
=== pytest: monkeypatch chdir and setitem
import os
SETTINGS = {"limit": 10}
def files():
    return sorted(os.listdir("."))[: SETTINGS["limit"]]
---
def test_files(tmp_path, monkeypatch):
    for n in "cab":
        (tmp_path / n).touch()
    monkeypatch.chdir(tmp_path)
    assert files() == ["a", "b", "c"]
    monkeypatch.setitem(SETTINGS, "limit", 2)
    assert files() == ["a", "b"]

def test_restored():
    assert SETTINGS["limit"] == 10
=== pytest: caplog
import logging
log = logging.getLogger("app")
def divide(a, b):
    log.debug("divide %s %s", a, b)
    if b == 0:
        log.warning("division by zero: %d", a)
        return None
    return a / b
---
import logging

def test_warns(caplog):
    with caplog.at_level(logging.WARNING):
        assert divide(3, 0) is None
    assert "division by zero: 3" in caplog.text
    assert len(caplog.records) == 1
    assert caplog.records[0].levelname == "WARNING"

def test_debug(caplog):
    caplog.set_level(logging.DEBUG, logger="app")
    assert divide(4, 2) == 2
    assert caplog.record_tuples == [("app", logging.DEBUG, "divide 4 2")]
    assert caplog.messages == ["divide 4 2"]
=== pytest: autouse and skip marks
registry = {}
def register(name):
    def deco(f):
        registry[name] = f
        return f
    return deco
def call(name, *a):
    return registry[name](*a)
---
import sys
import pytest

@pytest.fixture(autouse=True)
def clean():
    registry.clear()
    yield
    registry.clear()

def test_register():
    @register("add")
    def add(a, b):
        return a + b
    assert call("add", 1, 2) == 3
    assert list(registry) == ["add"]

def test_missing():
    with pytest.raises(KeyError):
        call("add", 1, 2)

@pytest.mark.skipif(sys.platform == "win32", reason="posix")
def test_posix():
    assert registry == {}

@pytest.mark.skip(reason="not written")
def test_later():
    raise AssertionError

@pytest.mark.xfail(raises=KeyError, strict=True)
def test_known():
    call("x")
=== pytest: warns and deprecated
import warnings
def old_api(x):
    warnings.warn("old_api is deprecated, use new_api", DeprecationWarning, stacklevel=2)
    return new_api(x)
def new_api(x):
    if x > 100:
        warnings.warn("large", UserWarning)
    return x * 2
---
import pytest

def test_old():
    with pytest.warns(DeprecationWarning, match="use new_api"):
        assert old_api(2) == 4

def test_large():
    with pytest.warns(UserWarning) as record:
        new_api(200)
    assert len(record) == 1
    assert str(record[0].message) == "large"

def test_deprecated_call():
    with pytest.deprecated_call():
        old_api(1)
=== pytest: fixture factory and finalizer
class Temp:
    live = []
    def __init__(self, name):
        self.name = name
        Temp.live.append(name)
    def drop(self):
        Temp.live.remove(self.name)
---
import pytest

@pytest.fixture
def make(request):
    def factory(name):
        t = Temp(name)
        request.addfinalizer(t.drop)
        return t
    return factory

def test_two(make):
    a, b = make("a"), make("b")
    assert Temp.live == ["a", "b"]
    assert a.name == "a"

def test_dropped():
    assert Temp.live == []

@pytest.mark.usefixtures("make")
def test_marked():
    assert True
    assert Temp.live == []
=== pytest: capfd and main
import sys
def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    if "--help" in argv:
        print("usage: tool")
        sys.exit(0)
    if not argv:
        sys.stderr.write("error: no arguments\n")
        raise SystemExit(2)
    print(" ".join(reversed(argv)))
    return 0
---
import pytest
import sys

def test_help(capsys):
    with pytest.raises(SystemExit) as e:
        main(["--help"])
    assert e.value.code == 0
    assert "usage" in capsys.readouterr().out

def test_none(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tool"])
    with pytest.raises(SystemExit) as e:
        main()
    assert e.value.code == 2
    assert "no arguments" in capsys.readouterr().err

def test_run(capfd):
    assert main(["a", "b"]) == 0
    assert capfd.readouterr().out == "b a\n"
=== pytest: importorskip fail and skip inside
import zlib
def pack(s, level=6):
    return zlib.compress(s.encode(), level)
def unpack(b):
    return zlib.decompress(b).decode()
---
import pytest
zlib = pytest.importorskip("zlib")

@pytest.mark.parametrize("s", ["", "aaaa" * 100, "é"])
def test_round(s):
    assert unpack(pack(s)) == s

def test_bad():
    try:
        unpack(b"junk")
    except zlib.error:
        pass
    else:
        pytest.fail("no error")

def test_skip():
    if not hasattr(zlib, "no_such"):
        pytest.skip("not here")
    assert False
=== pytest: class scope fixture and shared state
class Graph:
    def __init__(self):
        self.adj = {}
    def edge(self, a, b):
        self.adj.setdefault(a, set()).add(b)
        self.adj.setdefault(b, set()).add(a)
    def component(self, a):
        seen, todo = set(), [a]
        while todo:
            n = todo.pop()
            if n not in seen:
                seen.add(n)
                todo += self.adj.get(n, ())
        return seen
---
import pytest

@pytest.fixture(scope="class")
def graph(request):
    g = Graph()
    for a, b in [(1, 2), (2, 3), (4, 5)]:
        g.edge(a, b)
    request.cls.graph = g
    return g

@pytest.mark.usefixtures("graph")
class TestGraph:
    def test_component(self):
        assert self.graph.component(1) == {1, 2, 3}

    def test_lonely(self, graph):
        assert graph is self.graph
        assert graph.component(9) == {9}
        assert graph.adj[4] == {5}
=== pytest: setup and teardown module functions
EVENTS = []
class Service:
    def __init__(self, name):
        self.name = name
    def start(self):
        EVENTS.append(("start", self.name))
    def stop(self):
        EVENTS.append(("stop", self.name))
---
import pytest
service = None

def setup_module(module):
    global service
    service = Service("db")
    service.start()

def teardown_module(module):
    service.stop()

def setup_function(function):
    EVENTS.append(("begin", function.__name__))

def test_started():
    assert EVENTS[0] == ("start", "db")
    assert EVENTS[-1] == ("begin", "test_started")

def test_second():
    assert ("begin", "test_second") in EVENTS
    assert ("stop", "db") not in EVENTS

class TestInner:
    @classmethod
    def setup_class(cls):
        cls.s = Service("x")
    def test_name(self):
        assert self.s.name == "x"
=== pytest: async by asyncio.run
import asyncio
async def fetch_all(fetch, urls):
    return await asyncio.gather(*(fetch(u) for u in urls))
async def with_timeout(coro, s):
    try:
        return await asyncio.wait_for(coro, s)
    except asyncio.TimeoutError:
        return None
---
import asyncio
import pytest

@pytest.fixture
def fetcher():
    seen = []
    async def fetch(u):
        seen.append(u)
        await asyncio.sleep(0)
        return u.upper()
    fetch.seen = seen
    return fetch

def test_all(fetcher):
    assert asyncio.run(fetch_all(fetcher, ["a", "b"])) == ["A", "B"]
    assert fetcher.seen == ["a", "b"]

def test_timeout():
    async def go():
        return await with_timeout(asyncio.sleep(10), 0.01)
    assert asyncio.run(go()) is None
=== mocks: a list of the caller passed on
import smtplib
from email.mime.text import MIMEText

def task_func(host, sender, to, body):
    msg = MIMEText(body)
    msg["Subject"] = "Report"
    msg["From"] = sender
    msg["To"] = ", ".join(to)
    with smtplib.SMTP(host) as s:
        s.sendmail(sender, to, msg.as_string())
    return msg
---
import unittest
from unittest.mock import patch

class TestCases(unittest.TestCase):
    @patch("smtplib.SMTP")
    def test_send(self, smtp):
        msg = task_func("h", "a@x", ["b@x", "c@x"], "hello")
        smtp.assert_called_once_with("h")
        inst = smtp.return_value.__enter__.return_value
        self.assertEqual(inst.sendmail.call_count, 1)
        args = inst.sendmail.call_args[0]
        self.assertEqual(args[1], ["b@x", "c@x"])
        self.assertIn("hello", args[2])
        self.assertEqual(msg["To"], "b@x, c@x")
=== types: of None and Ellipsis
def f(x):
    return type(x)
---
assert f(None) is type(None)
assert f(...) is type(...)
assert f(3) is int
=== modules: those of the program's imports
import http.server
import json
import os
import shutil
import xml.etree.ElementTree as ET

def keep(path, folder):
    os.makedirs(folder, exist_ok=True)
    return shutil.copy(path, folder)

def code(name):
    return http.HTTPStatus[name].value

def tag(text):
    return ET.fromstring(text).tag
---
os.makedirs("kept", exist_ok=True)
with open("a.json", "w") as f:
    json.dump([1], f)
assert keep("a.json", "kept") == os.path.join("kept", "a.json")
with open("kept/a.json") as f:
    assert json.load(f) == [1]
shutil.rmtree("kept")
os.remove("a.json")
assert code("OK") == http.HTTPStatus.OK
assert http.server.HTTPServer.request_queue_size == 5
assert tag("<r/>") == ET.fromstring("<r/>").tag
=== mocks: functions that open and look for files
import os

def save(folder):
    path = os.path.join(folder, 'a.txt')
    with open(path, 'w') as f:
        f.write('x')
    return os.path.exists(path)

def load(path):
    with open(path) as f:
        return f.read()
---
import os, tempfile
from unittest.mock import mock_open, patch

d = tempfile.mkdtemp()
with patch("os.path.exists", return_value=True) as m:
    assert save(d)
m.assert_called_once_with(os.path.join(d, "a.txt"))
assert os.path.isfile(os.path.join(d, "a.txt"))
with patch("builtins.open", mock_open(read_data="z")) as m, patch("os.makedirs") as made:
    os.mkdir(os.path.join(d, "s"))
    assert load("w") == "z"
m.assert_called_once_with("w")
made.assert_not_called()
os.rmdir(os.path.join(d, "s"))
os.remove(os.path.join(d, "a.txt"))
os.rmdir(d)
"""
)
