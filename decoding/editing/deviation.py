"""How far cached states are from fresh ones, measured in an early layer.

CacheBlend (Yao et al., EuroSys 2025, arXiv 2405.16444) encodes again those tokens whose keys and
values deviate most, and finds them in one of the first layers: what deviates there deviates in
the deeper ones. The forward pass ends in that layer: with L layers a token costs 2 / L of a pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from codegen.decoding.editing.cells import CellCache, CellLayer

_LAYER = 1  # the first whose states depend on the context


class _Measured(Exception):
    """Ends the forward pass."""


def deviations(
    cells: CellCache, fresh: torch.Tensor, forward: Callable[[], object]
) -> torch.Tensor:
    """Squared distances of the placed tokens' states from those in their cells, float32 [Q].

    Only the first layer's states of tokens without any are written.

    Args:
        cells: with the tokens' index and end set.
        fresh: which of them have no states yet, bool [Q].
        forward: runs the model over the tokens.
    """
    found: list[torch.Tensor] = []

    def probe(
        layer: CellLayer, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not layer.is_initialized:
            layer.lazy_initialization(keys, values)
        assert layer.keys is not None and layer.values is not None
        index = cells.room.index
        if layer is cells.layers[_LAYER]:
            for new, old in ((keys, layer.keys), (values, layer.values)):
                found.append((new - old.index_select(2, index)).float().square().sum((0, 1, 3)))
            raise _Measured
        layer.write(index[fresh], keys[:, :, fresh], values[:, :, fresh])
        return layer.keys[:, :, : cells.room.end], layer.values[:, :, : cells.room.end]

    if len(cells.layers) <= _LAYER:
        return torch.zeros(len(fresh), device=fresh.device)
    cells.room.probe = probe
    try:
        forward()
    except _Measured:
        pass
    finally:
        cells.room.probe = None
    return found[0] + found[1]
