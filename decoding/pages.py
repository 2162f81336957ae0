"""Where the rows of a paged cache have their slots.

All rows share the slots of a layer and are given them in pages (Kwon et al., arXiv 2309.06180), so
rows come and go without a copy of the others' states, none takes more memory than it may need, and
states stay at their addresses, which captured passes depend on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from codegen.decoding.device import upload
from codegen.kernels.tree_attention import PAGE


class Pages:
    """The pages of the rows in a batch.

    Page 0 is nobody's: a row's slots beyond its own pages are there. They are written by rows that
    have finished, and never seen.

    Attributes:
        starts: where each page of each row begins in the shared slots, int64 [B, N].
        count: number of pages in use or free, with page 0.

    Args:
        slots: most slots of a row.
        device: of ``starts``.
    """

    def __init__(self, slots: int, device: torch.device) -> None:
        self.starts = torch.zeros(0, -(-slots // PAGE), dtype=torch.long, device=device)
        self.count = 1
        self._rows: list[list[int]] = []
        self._free: list[int] = []

    def admit(self, slots: Sequence[int]) -> None:
        """Appends rows with at least so many slots."""
        new = torch.zeros(len(slots), self.starts.shape[1], dtype=torch.long)
        for row, needed in zip(new, slots, strict=True):
            pages = -(-needed // PAGE)
            missing = max(0, pages - len(self._free))
            self._free += range(self.count, self.count + missing)
            self.count += missing
            self._rows.append([self._free.pop() for _ in range(pages)])
            row[:pages] = PAGE * torch.tensor(self._rows[-1])
        self.starts = torch.cat([self.starts, *upload(self.starts.device, new)])

    def select(self, rows: Sequence[int]) -> None:
        """Keeps only the given rows, in this order."""
        for row, pages in enumerate(self._rows):
            self._free += [] if row in rows else pages
        self._rows = [self._rows[row] for row in rows]
        (kept,) = upload(self.starts.device, torch.tensor(rows, dtype=torch.long))
        self.starts = self.starts[kept]

    def places(self, slots: torch.Tensor) -> torch.Tensor:
        """The shared slots of the rows' slots, int64 [B, Q] each."""
        return self.starts.gather(1, slots // PAGE) + slots % PAGE
