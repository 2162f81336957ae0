"""The GPU kernels' operations with plain references, and the minimum bytes that each moves."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_NODES, _DEPTH, _CHILDREN = 16, 4, 4


@dataclass(frozen=True)
class Sizes:
    """Sizes of the model, by default a Llama with 8B parameters, and of the batch.

    Attributes:
        heads, group: key heads, and query heads per key head.
        dim: channels of a head.
        context: prefix length in slots.
        batch: rows.
    """

    layers: int = 32
    heads: int = 8
    group: int = 4
    dim: int = 128
    vocabulary: int = 128_256
    context: int = 4096
    batch: int = 8


TINY = Sizes(2, 1, 2, 16, 4160, 270, 2)  # two blocks of the vocabulary, two splits of the prefix


@dataclass(frozen=True)
class Case:
    """One operation; both calls return the tensors to compare.

    Attributes:
        bytes: minimum bytes read and written.
        operations: floating-point operations on tensor cores.
        tolerance: absolute and relative.
        packed, dim: keys to tree attention's block sizes.
    """

    kernel: Callable[[], tuple[torch.Tensor, ...]]
    reference: Callable[[], tuple[torch.Tensor, ...]]
    bytes: float
    operations: float = 0.0
    tolerance: float = 0.0
    packed: int = 0
    dim: int = 0


def cases() -> Mapping[str, Callable[[torch.Generator, Sizes, str], Case]]:
    """Returns input factories by operation: functions of a random generator, sizes and device."""
    return {
        # Plain decoding, a tree of drafts, and a small one with a window and soft caps.
        "tree_attention T=1": functools.partial(_attention, nodes=1),
        f"tree_attention T={_NODES}": functools.partial(_attention, nodes=_NODES),
        f"tree_attention bf16 T={_NODES}": functools.partial(
            _attention, nodes=_NODES, kind="bfloat16"
        ),
        "tree_attention T=1, pages": functools.partial(_attention, nodes=1, paged=True),
        f"tree_attention T={_NODES}, pages": functools.partial(
            _attention, nodes=_NODES, paged=True
        ),
        "tree_attention T=4, window, cap": functools.partial(_attention, nodes=4, narrowed=True),
        f"accept_tree K={_CHILDREN}": _tree_acceptance,
        f"accept_greedy W={_NODES}": _greedy_acceptance,
        "compaction": _compaction,
        f"gumbel_top_k k={_CHILDREN}": _draws,
        "penalize": _penalties,
        "rotation": _rotation,
    }


def make(name: str, seed: int, sizes: Sizes, device: str) -> Case:
    """Builds one operation on a device."""
    import torch

    return cases()[name](torch.Generator(device).manual_seed(seed), sizes, device)


def _attention(
    g: torch.Generator,
    sizes: Sizes,
    device: str,
    nodes: int,
    narrowed: bool = False,
    paged: bool = False,
    kind: str = "float16",
) -> Case:
    import torch

    from codegen.kernels import tree_attention as module

    batch, heads, dim, dtype = sizes.batch, sizes.heads, sizes.dim, getattr(torch, kind)
    q = torch.randn(batch, nodes, heads * sizes.group, dim, generator=g, device=device, dtype=dtype)
    # The cache has extra slots, which are not read.
    slots, starts = 2 * sizes.context, None
    if paged:
        pages = -(-slots // module.PAGE)
        slots, starts = (
            batch * pages * module.PAGE,
            torch.randperm(batch * pages, generator=g, device=device),
        )
        starts = module.PAGE * starts.view(batch, pages)
    keys, values = torch.randn(
        2, 1 if paged else batch, heads, slots, dim, generator=g, device=device, dtype=dtype
    )
    chain = torch.ones(1, nodes, nodes, dtype=torch.bool, device=device).tril()
    table = module.pack(torch.full((batch,), sizes.context, device=device), chain, starts)
    seen, cap = sizes.context + nodes, None
    if narrowed:
        window, cap = sizes.context // 4, 50.0
        table, seen = module.narrow(table, window=window), window + nodes - 1
    given = (q, keys, values, table, None, cap)
    return Case(
        lambda: (module.tree_attention(*given),),
        lambda: (module.reference(*given),),
        bytes=2.0 * (2 * q.numel() + 2 * batch * heads * seen * dim),
        operations=4.0 * q.numel() * seen,
        tolerance=4e-3 if kind == "float16" else 2e-2,
        packed=max(16, 1 << (nodes * sizes.group - 1).bit_length()),
        dim=max(16, 1 << (dim - 1).bit_length()),
    )


def _tree_acceptance(g: torch.Generator, sizes: Sizes, device: str) -> Case:
    """Returns a case whose draft mixes the target's distribution with another one."""
    import torch

    from codegen.kernels import vocabulary as accept

    # One level of siblings under the root, all sampled from one distribution.
    batch, shape = sizes.batch, (sizes.batch, _CHILDREN + 1, sizes.vocabulary)
    target = torch.softmax(torch.randn(*shape, generator=g, device=device), -1)
    other = torch.softmax(torch.randn(*shape, generator=g, device=device), -1)
    draft = ((target + other) / 2)[:, :1].contiguous()
    siblings = draft[:, 0].multinomial(_CHILDREN, generator=g)
    children = torch.full((batch, _CHILDREN + 1, _CHILDREN), -1, device=device)
    children[:, 0] = torch.arange(1, _CHILDREN + 1, device=device)
    depths = torch.ones(batch, _CHILDREN + 1, dtype=torch.long, device=device)
    depths[:, 0] = 0
    uniforms, last = (
        torch.rand(*size, generator=g, device=device, dtype=torch.float64)
        for size in ((batch, 1, _CHILDREN), (batch,))
    )
    given = (target, draft, uniforms, last)
    return Case(
        lambda: tuple(accept.accept_tree(children, siblings, depths, *given)),
        lambda: tuple(accept.reference_tree(children, siblings, *given)),
        bytes=2 * 4.0 * batch * sizes.vocabulary,
    )


def _greedy_acceptance(g: torch.Generator, sizes: Sizes, device: str) -> Case:
    import torch

    from codegen.kernels import vocabulary as accept

    tokens = torch.arange(_NODES, device=device).repeat(sizes.batch, 1)
    parents = tokens - 1
    chosen = torch.where(torch.rand(tokens.shape, generator=g, device=device) < 0.9, tokens + 1, 0)
    walk = (tokens, parents, chosen)
    return Case(
        lambda: (accept.accept_greedy(*walk),),
        lambda: (accept.reference_greedy(*walk),),
        bytes=4 * 8.0 * tokens.numel(),
    )


def _compaction(g: torch.Generator, sizes: Sizes, device: str) -> Case:
    import torch

    from codegen.kernels import kv_cache as kernel_states

    # Few slots: each move changes only its own.
    states = list(
        torch.randn(
            2 * sizes.layers, sizes.batch, sizes.heads, 2 * _NODES, sizes.dim,
            generator=g, device=device, dtype=torch.float16,
        )
    )  # fmt: skip
    sources = torch.tensor([[5, 8, 12, 16]] * sizes.batch, device=device)
    targets = torch.tensor([[4, 5, 6, 7]] * sizes.batch, device=device)

    def after(move: Callable[..., None]) -> tuple[torch.Tensor, ...]:
        move(states, sources, targets)
        return (states[0][:, :, 4:8],)

    # Each move changes the next one's input, so the reference moves copies of the initial states.
    start = [tensor.clone() for tensor in states]

    def reference() -> tuple[torch.Tensor, ...]:
        kernel_states.reference_compact(start, sources, targets)
        return (start[0][:, :, 4:8],)

    moved = 2.0 * 2 * sizes.layers * sources.numel() * sizes.heads * sizes.dim * 2
    return Case(lambda: after(kernel_states.compact), reference, bytes=moved)


def _draws(g: torch.Generator, sizes: Sizes, device: str) -> Case:
    import torch

    from codegen.kernels import vocabulary as module

    log_probs = torch.log_softmax(
        torch.randn(sizes.batch, sizes.vocabulary, generator=g, device=device), dim=-1
    )
    ids = torch.arange(sizes.batch, device=device)
    given = (log_probs, _CHILDREN, ids, ids, ids)
    return Case(
        lambda: tuple(module.gumbel_top_k(*given)),
        lambda: tuple(module.reference_top_k(*given)),
        bytes=4.0 * log_probs.numel(),
        tolerance=1e-4,
    )


def _penalties(g: torch.Generator, sizes: Sizes, device: str) -> Case:
    """Returns a case with penalties on a thousand tokens of each row."""
    import torch

    from codegen.kernels import vocabulary as module

    each = min(1000, sizes.vocabulary)
    start = torch.randn(sizes.batch, sizes.vocabulary, generator=g, device=device)
    rows = torch.arange(sizes.batch, device=device).repeat_interleave(each)
    ids = torch.cat(
        [
            torch.randperm(sizes.vocabulary, generator=g, device=device)[:each]
            for _ in range(sizes.batch)
        ]
    )
    amounts = torch.tensor([[1 / 1.1], [1.1], [-0.1]], dtype=torch.float64, device=device)
    given = (rows, ids, amounts.repeat(1, len(ids)))
    outputs = [start.clone(), start.clone()]

    def changed(change: Callable[..., object], to: torch.Tensor) -> tuple[torch.Tensor, ...]:
        to.copy_(start)  # timed on both sides
        change(to, *given)
        return (to,)

    return Case(
        lambda: changed(module.penalize, outputs[0]),
        lambda: changed(module.reference_penalize, outputs[1]),
        bytes=2 * 4.0 * start.numel() + len(ids) * (2 * 8 + 3 * 8 + 2 * 4),
        tolerance=1e-5,
    )


def _rotation(g: torch.Generator, sizes: Sizes, device: str) -> Case:
    import torch

    from codegen.kernels import kv_cache as kernel_states

    slots = sizes.context // sizes.batch
    encoded = torch.randn(1, sizes.heads, slots, sizes.dim, generator=g, device=device).half()
    cells = torch.randperm(slots, generator=g, device=device)
    angles = torch.randn(slots, sizes.dim // 2, generator=g, device=device)
    given = (cells, angles.cos(), angles.sin(), False)
    outputs = [encoded.clone(), encoded.clone()]

    def turned(turn: Callable[..., object], states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        turn(encoded, states, *given)
        return (states,)

    return Case(
        lambda: turned(kernel_states.turn_slots, outputs[0]),
        lambda: turned(kernel_states.reference_turn, outputs[1]),
        bytes=2.0 * 2 * encoded.numel() + 2 * 4 * angles.numel(),
        tolerance=2e-3,
    )
