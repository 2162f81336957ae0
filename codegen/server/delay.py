"""How long an automatic request waits for the next key, and an explicit one not at all.

Work that the next key would make useless is not begun: within a burst of typing the wait is a share
of the usual time between keys. It is short all the same, for a superseded request costs at most one
forward pass, and what it has encoded stays in the cache.
"""

from __future__ import annotations

_SHARE = 0.5  # of the usual interval
_PAUSE_S = 1.0  # longer intervals are no typing
_FORGET = 0.3  # weight of the newest interval
_BREAKS = "\n.([{=,: "


class TypingDelay:
    """Follows the typing in one document.

    Args:
        longest_s: most that a request waits.
    """

    def __init__(self, longest_s: float = 0.08) -> None:
        self.longest_s = longest_s
        self._interval_s: float | None = None
        self._last_s = float("-inf")

    def key(self, now_s: float) -> None:
        """A change came."""
        since = now_s - self._last_s
        self._last_s = now_s
        if since > _PAUSE_S:
            return
        old = self._interval_s
        self._interval_s = since if old is None else old + _FORGET * (since - old)

    def wait_s(self, now_s: float, before: str, work_s: float) -> float:
        """How long to wait.

        Args:
            now_s: the request's time.
            before: the character before the cursor; after some, people stop to think.
            work_s: what an answer usually takes. If that is less than the time to the next key,
                there is nothing to save.
        """
        interval = self._interval_s
        if interval is None or now_s - self._last_s > _PAUSE_S or work_s < interval:
            return 0.0
        share = _SHARE / 2 if before and before in _BREAKS else _SHARE
        return min(self.longest_s, share * interval)
