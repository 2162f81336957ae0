"""Tells documents apart that come without a name, by their text.

A request goes to the slot whose last text had most of its lines, if that is at least half of them;
else to the slot that was used longest ago, which forgets what it had. A slot that is in use takes
no second request, so that parallel requests do not end one another. Of the lines only hashes are
kept, so that a client can't fill the memory with long ones.
"""

from __future__ import annotations

from collections import OrderedDict

_SLOTS = 8  # a client
_CLIENTS = 64
_LINES = 64  # compared, those nearest to the cursor
_ALIKE = 0.5


class Slots:
    """The slots of all clients."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, OrderedDict[str, frozenset[int]]] = OrderedDict()
        self._busy: set[tuple[str, str]] = set()

    def take(self, client: str, prefix: str, suffix: str = "") -> tuple[str, bool]:
        """A slot's name, and whether what it held is of another document.

        Give it back with :meth:`release`.
        """
        known = self._clients.setdefault(client, OrderedDict())
        self._clients.move_to_end(client)
        lines = _lines(prefix, suffix)
        free = [name for name in known if (client, name) not in self._busy]
        alike = {name: len(lines & known[name]) / max(1, len(lines)) for name in free}
        best = max(free, key=lambda name: alike[name], default=None)
        if best is not None and alike[best] >= _ALIKE:
            name, other = best, False
        else:
            if len(known) >= _SLOTS and free:
                name = free[0]
                del known[name]
            else:
                name = f"slot-{len(known)}"
                while name in known:
                    name += "'"
            other = True
        known[name] = lines
        known.move_to_end(name)
        self._busy.add((client, name))
        self._trim()
        return name, other

    def release(self, client: str, name: str) -> None:
        """The request is over."""
        self._busy.discard((client, name))

    def _trim(self) -> None:
        while len(self._clients) > _CLIENTS:
            oldest = next(iter(self._clients))
            if any(client == oldest for client, _ in self._busy):
                self._clients.move_to_end(oldest)
                return
            del self._clients[oldest]


def _lines(prefix: str, suffix: str) -> frozenset[int]:
    before = prefix.splitlines()[-_LINES:-1]
    behind = suffix.splitlines()[1 : _LINES // 2]
    found = frozenset(hash(line) for line in (*before, *behind) if line.strip())
    return found or frozenset({hash(prefix[:40])})
