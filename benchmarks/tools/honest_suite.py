"""Right programs of every kind, with the tests that people write for them.

Each passes in plain Python, its tests behind the program in one module (a test sees to that), so
each that fails in the sandbox is judged wrongly. None needs an installed package.
"""

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
"""
)
