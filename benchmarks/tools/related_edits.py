"""Edits that matter for what comes next: a definition changes, a use of it is being typed below."""

from __future__ import annotations

from dataclasses import dataclass

_FILLER = '''def read_lines(path):
    """Return the lines of a text file without their line ends."""
    with open(path, encoding="utf-8") as file:
        return [line.rstrip("\\n") for line in file]


def count_words(lines):
    """Count how often each word occurs."""
    counts = {}
    for line in lines:
        for word in line.split():
            counts[word] = counts.get(word, 0) + 1
    return counts


def most_common(counts, number):
    """The most frequent words, most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return [word for word, _ in ordered[:number]]


'''
_LONG_FILLER = (
    _FILLER
    + '''class Table:
    """Rows of equal length with named columns."""

    def __init__(self, columns):
        self.columns = list(columns)
        self.rows = []

    def append(self, row):
        if len(row) != len(self.columns):
            raise ValueError("wrong number of cells")
        self.rows.append(list(row))

    def column(self, name):
        index = self.columns.index(name)
        return [row[index] for row in self.rows]


'''
)


@dataclass(frozen=True, slots=True)
class RelatedEdit:
    """A definition, old and new, a text behind it that ends at the cursor, and what comes there.

    Attributes:
        name: what is edited.
        before, after: the definition.
        rest: from the definition's end to the cursor.
        right, wrong: continuations that fit the new and the old definition.
    """

    name: str
    before: str
    after: str
    rest: str
    right: str
    wrong: str


def _edit(
    name: str, before: str, after: str, cursor: str, right: str, wrong: str, filler: str = _FILLER
) -> RelatedEdit:
    return RelatedEdit(name, before, after, "\n\n" + filler + cursor, right, wrong)


_AREA = ("def area(w, h):\n    return w * h\n", "def area(w, h, d):\n    return w * h * d\n")

RELATED = (
    _edit("add a parameter", *_AREA, "print(area(1, 2", ", 3", "))"),
    _edit("add a parameter, more between", *_AREA, "print(area(1, 2", ", 3", "))", _LONG_FILLER),
    _edit(
        "add a parameter to a function without result",
        "def send(text):\n    print(text)\n",
        "def send(text, user):\n    print(user, text)\n",
        "send('hi'", ", '", ")",
    ),
    _edit(
        "add a parameter of __init__",
        "class User:\n    def __init__(self, name):\n        self.name = name\n",
        "class User:\n    def __init__(self, name, age):\n        self.name = name\n"
        "        self.age = age\n",
        "u = User('bob'", ", ", ")",
    ),
    _edit(
        "add a field of a named tuple",
        "from collections import namedtuple\n\nPoint = namedtuple('Point', ['x', 'y'])\n",
        "from collections import namedtuple\n\nPoint = namedtuple('Point', ['x', 'y', 'z'])\n",
        "p = Point(x=1, y=2", ", z", ")",
    ),
    _edit(
        "remove a parameter",
        "def mix(a, b, c):\n    return a + b + c\n",
        "def mix(a, b):\n    return a + b\n",
        "print(mix(1, 2", "))", ", 3",
    ),
    _edit(
        "rename a function",
        "def get_total(items):\n    return sum(items)\n",
        "def get_average(items):\n    return sum(items) / len(items)\n",
        "print(get_", "average", "total",
    ),
    _edit(
        "change an item of a list",
        "colors = ['red', 'green', 'blue']\n",
        "colors = ['red', 'yellow', 'blue']\n",
        "assert colors == ['red', '", "yellow", "green",
    ),
    _edit(
        "rename a key",
        "config = {'host': 'localhost', 'port': 80}\n",
        "config = {'server': 'localhost', 'port': 80}\n",
        "print(config['", "server", "host",
    ),
    _edit(
        "change a constant",
        "MAX_RETRIES = 3\n", "MAX_RETRIES = 7\n", "assert MAX_RETRIES == ", "7", "3",
    ),
    _edit(
        "change a constant, more between",
        "MAX_RETRIES = 3\n", "MAX_RETRIES = 7\n", "assert MAX_RETRIES == ", "7", "3", _LONG_FILLER,
    ),
    _edit(
        "call within a longer statement",
        *_AREA,
        "volumes = [\n    area(2, 3, 4),\n    area(1, 2", ", 3", "),",
    ),
)  # fmt: skip
