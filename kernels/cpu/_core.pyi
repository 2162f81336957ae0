"""Products of few rows on a CPU; see few_rows.hpp. Tensors are given by their addresses.

Nothing is checked here: :mod:`codegen.kernels.cpu` does it.
"""

SUPPORTED: bool
"""Whether this CPU has the instructions."""

def linear4(x: int, weights: int, y: int, rows: int, outputs: int, inputs: int, /) -> None:
    """Y [rows, outputs] = x [rows, inputs] times the transpose of packed weights; bfloat16."""

def linear8(
    x: int, weights: int, scales: int, y: int, rows: int, outputs: int, inputs: int, /
) -> None:
    """The same for weights of eight bits and float32 scales [outputs]."""

def norm(x: int, weight: int, y: int, rows: int, width: int, epsilon: float, /) -> None:
    """Y = root mean square normalisation of the rows x [rows, width]."""

def gate(x: int, y: int, rows: int, width: int, /) -> None:
    """Y [rows, width] = silu of the first half of x [rows, 2 width] times the second."""

def rotate(
    x: int, cosines: int, sines: int, rows: int, heads: int, turned: int, dim: int, /
) -> None:
    """Turns the first ``turned`` heads of x [rows, heads, dim] in place."""

def attend(
    queries: int,
    keys: int,
    values: int,
    cells: int,
    places: int,
    out: int,
    count: int,
    heads: int,
    kv_heads: int,
    dim: int,
    capacity: int,
    query_stride: int,
    scale: float,
    /,
) -> None:
    """Out [count, heads, dim] = the attention of queries over cells; bfloat16, int64 indices."""
