"""Mutable values that both sides have: a change on one side is made on the other.

Each value gets a number when it is first sent. Before each message a side checks which of them have
changed, and sends their new contents along. Each side has a :class:`SharedValues`; one assigns even
numbers, the other odd ones. Long values, and values beyond :data:`MAX_SHARED`, are copied instead.
"""

from __future__ import annotations

import collections
import itertools
import operator
from collections.abc import Callable
from typing import Any

from .wire import MUTABLE, WireError

MAX_SHARED = 256
MAX_LENGTH = 2000

# The kinds by the tags of the wire format, and as which of list, dict and set each is treated.
_TAG_OF: dict[type, str] = {
    list: "l",
    dict: "d",
    set: "s",
    bytearray: "ba",
    collections.deque: "dq",
    collections.OrderedDict: "do",
    collections.Counter: "dc",
    collections.defaultdict: "dd",
}
# Whatever a subclass makes of the attribute.
_FACTORY: Any = vars(collections.defaultdict)["default_factory"]
_KIND_OF = {tag: kind for kind, tag in _TAG_OF.items()}


class SharedValues:
    """One side's mutable values that the other side has too.

    Args:
        first: the number of the first value that this side sends; the next ones increase by two.
    """

    def __init__(self, first: int) -> None:
        self._numbers = itertools.count(first, 2)
        self._number_of: dict[int, int] = {}
        self._values: dict[int, Any] = {}
        self._seen: dict[int, object] = {}  # the contents that the other side knows

    def pack(self, value: Any, pack_item: Callable[[Any], Any], tag: str = "") -> Any:
        """The content of a ``sh`` tree; None to copy the value."""
        number = self._number_of.get(id(value))
        if number is not None:
            return number
        if len(self._values) >= MAX_SHARED or len(value) > MAX_LENGTH:
            return None
        number = next(self._numbers)
        self._keep(number, value)
        self._seen[number] = _contents(value)
        extra = None
        if isinstance(value, collections.defaultdict):
            extra = pack_item(_FACTORY.__get__(value))
        elif type(value) is collections.deque:
            extra = value.maxlen
        return [number, tag or _TAG_OF[type(value)], extra, _packed(value, pack_item)]

    def unpack(self, content: Any, unpack_item: Callable[[Any], Any], made: Any = None) -> Any:
        """The value of a ``sh`` tree; ``made`` is an instance of a subclass to be filled."""
        if type(content) is int:
            return self.known(content)
        number, tag, extra, items = content
        if number in self._values or type(number) is not int or tag not in _KIND_OF:
            raise WireError("a malformed value: a shared one")
        if len(self._values) >= 2 * MAX_SHARED:
            raise WireError("too many shared values")
        value = _KIND_OF[tag]() if made is None else made
        if tag == "dd":
            _FACTORY.__set__(value, unpack_item(extra))
        elif tag == "dq" and type(extra) is int and made is None:
            value = collections.deque(maxlen=extra)
        self._keep(number, value)
        _fill(value, items, unpack_item)
        self._seen[number] = _contents(value)
        return value

    def adopt(self, value: Any, number: int = 0) -> int:
        """Shares a value that the other side already has, by its number there or by a new one;
        returns 0 if it can't be shared.
        """
        if number == 0:
            if id(value) in self._number_of:
                return self._number_of[id(value)]
            if len(self._values) >= MAX_SHARED or len(value) > MAX_LENGTH:
                return 0
            number = next(self._numbers)
        elif number in self._values or len(self._values) >= 2 * MAX_SHARED:
            raise WireError("a malformed value: a shared one")
        self._keep(number, value)
        self._seen[number] = _contents(value)
        return number

    def look(self, number: int) -> None:
        """Marks a value's contents as known to the other side."""
        self._seen[number] = _contents(self._values[number])

    def known(self, number: object) -> object:
        """The value of a number."""
        if type(number) is not int or number not in self._values:
            raise WireError("a malformed value: an unknown shared one")
        return self._values[number]

    def changes(self, pack_item: Callable[[Any], Any]) -> list[Any]:
        """The changes since the last check: pairs of number and contents."""
        found: list[Any] = []
        for number in list(self._seen):  # what is being unpacked is not yet among them
            value = self._values[number]
            if not _same(value, self._seen[number]):
                self._seen[number] = _contents(value)
                if len(value) <= MAX_LENGTH:
                    found.append([number, _packed(value, pack_item)])
        return found

    def apply(self, changes: Any, unpack_item: Callable[[Any], Any]) -> None:
        """Makes the changes of the other side."""
        for number, items in changes:
            value = self.known(number)
            _fill(value, items, unpack_item)
            self._seen[number] = _contents(value)

    def _keep(self, number: int, value: object) -> None:
        self._number_of[id(value)] = number
        self._values[number] = value


def base_of(value: object) -> type | None:
    """The type among the mutable ones that a value is an instance of."""
    for kind in type(value).__mro__:
        if kind in MUTABLE:
            return kind
    return None


def tag_of(kind: type) -> str:
    """The tag of a mutable type."""
    return _TAG_OF[kind]


# By the methods of the built-in types, whatever a subclass has made of them.
def _contents(value: Any) -> Any:
    if isinstance(value, collections.OrderedDict):
        return list(collections.OrderedDict.items(value))
    if isinstance(value, dict):
        return list(dict.items(value))
    if isinstance(value, list):
        return list.copy(value)
    if isinstance(value, set):
        return list(set.__iter__(value))
    if isinstance(value, bytearray):
        return bytes(value)
    return list(collections.deque.__iter__(value))


def _same(value: object, seen: Any) -> bool:
    contents = _contents(value)
    if isinstance(contents, bytes):
        return contents == seen
    if len(contents) != len(seen):
        return False
    if isinstance(value, set):  # without asking its items for their hashes
        return set(map(id, contents)) == set(map(id, seen))
    if isinstance(value, dict):
        return all(a is c and b is d for (a, b), (c, d) in zip(contents, seen, strict=True))
    return all(map(operator.is_, contents, seen))


def _packed(value: object, pack_item: Callable[[Any], Any]) -> Any:
    contents = _contents(value)
    if isinstance(contents, bytes):
        return contents.hex()
    if isinstance(value, dict):
        return [[pack_item(key), pack_item(item)] for key, item in contents]
    return [pack_item(item) for item in contents]


def _fill(value: Any, items: Any, unpack_item: Callable[[Any], Any]) -> None:
    if isinstance(value, bytearray):
        value[:] = bytes.fromhex(items)
    elif isinstance(value, dict):
        pairs = [(unpack_item(key), unpack_item(item)) for key, item in items]
        ordered = isinstance(value, collections.OrderedDict)
        kind: Any = collections.OrderedDict if ordered else dict
        kind.clear(value)
        for key, item in pairs:
            kind.__setitem__(value, key, item)
    elif isinstance(value, list):
        list.__setitem__(value, slice(None), [unpack_item(item) for item in items])
    elif isinstance(value, set):
        made = {unpack_item(item) for item in items}
        set.clear(value)
        set.update(value, made)
    else:
        made = [unpack_item(item) for item in items]
        collections.deque.clear(value)
        collections.deque.extend(value, made)
