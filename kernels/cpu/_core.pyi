"""Products of few rows on a CPU; see the headers. Tensors are given by their addresses.

Nothing is checked here: :mod:`codegen.kernels.cpu` does it. Every function is there for each set of
instructions, with its name behind the function's: ``linear_avx2``, ``linear_avx2_vnni``,
``linear_avx512_vnni``, ``linear_avx512_bf16``. Numbers are bfloat16 and slots too for AVX-512 BF16,
else float32 and float16. The passes ``run_avx2_wide``, ``run_avx2_vnni_wide`` and
``run_avx512_vnni_wide`` have float32 slots.
"""

SETS: list[str]
"""The sets of instructions that were compiled and that this CPU has."""

def linear_avx2(x: int, product: int, y: int, rows: int, /) -> None:
    """Y [rows, O] = x [rows, I] times the transpose of a product's weights (common.hpp)."""

def norm_avx2(x: int, weight: int, y: int, rows: int, size: int, epsilon: float, /) -> None:
    """Y = root mean square normalisation of the rows x [rows, size]."""

def gate_avx2(x: int, y: int, rows: int, size: int, /) -> None:
    """Y [rows, size] = silu of the first half of x [rows, 2 size] times the second."""

def rotate_avx2(
    x: int, cosines: int, sines: int, rows: int, heads: int, turned: int, dim: int, /
) -> None:
    """Turns the first ``turned`` heads of x [rows, heads, dim] in place."""

def attend_avx2(
    states: int,
    parts: int,
    slots: int,
    count: int,
    out: int,
    heads: int,
    kv_heads: int,
    dim: int,
    scale: float,
    /,
) -> None:
    """Writes the keys and values of ``count`` parts' rows into their slots, and attends.

    States [rows, heads + 2 kv_heads, dim] are queries, keys and values; out [rows, heads, dim].
    """

def run_avx2(
    layers: int,
    number_of_layers: int,
    norm: int,
    head: int,
    hidden: int,
    feed_forward: int,
    heads: int,
    kv_heads: int,
    dim: int,
    scale: float,
    epsilon: float,
    x: int,
    cosines: int,
    sines: int,
    parts: int,
    slots: int,
    count: int,
    kept: int,
    number: int,
    logits: int,
    helpers: int,
    /,
) -> None:
    """A forward pass over x [rows, hidden], which is overwritten; logits [number, V].

    Up to ``helpers`` more threads take part where that pays.
    """

linear_avx2_vnni = linear_avx2
norm_avx2_vnni = norm_avx2
gate_avx2_vnni = gate_avx2
rotate_avx2_vnni = rotate_avx2
attend_avx2_vnni = attend_avx2
run_avx2_vnni = run_avx2
run_avx2_wide = run_avx2
run_avx2_vnni_wide = run_avx2

linear_avx512_vnni = linear_avx2
norm_avx512_vnni = norm_avx2
gate_avx512_vnni = gate_avx2
rotate_avx512_vnni = rotate_avx2
attend_avx512_vnni = attend_avx2
run_avx512_vnni = run_avx2
run_avx512_vnni_wide = run_avx2

linear_avx512_bf16 = linear_avx2
norm_avx512_bf16 = norm_avx2
gate_avx512_bf16 = gate_avx2
rotate_avx512_bf16 = rotate_avx2
attend_avx512_bf16 = attend_avx2
run_avx512_bf16 = run_avx2
