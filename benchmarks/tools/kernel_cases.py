"""The operations that ``codegen bench kernels`` times on a GPU, with the bytes each must move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# An 8B model of the Llama family.
_LAYERS, _HEADS, _GROUP, _DIM, _VOCABULARY = 32, 8, 4, 128, 128_256
_NODES, _DEPTH, _CHILDREN = 16, 4, 4


@dataclass(frozen=True)
class Case:
    """One operation; both calls give the tensors to compare.

    Attributes:
        bytes: that have to be read and written at least once.
        operations: floating-point, of tensor cores.
        tolerance: absolute and relative.
    """

    name: str
    kernel: Callable[[], tuple[torch.Tensor, ...]]
    reference: Callable[[], tuple[torch.Tensor, ...]]
    bytes: float
    operations: float = 0.0
    tolerance: float = 0.0


def cases(seed: int, context: int, batch: int, device: str = "cuda") -> Iterator[Case]:
    """All operations, their inputs made one at a time.

    Args:
        seed: of the inputs.
        context: slots of a prefix.
        batch: rows.
        device: of the inputs.
    """
    import torch

    g = torch.Generator(device).manual_seed(seed)
    yield _attention(g, context, batch, device)
    yield from _acceptance(g, batch, device)
    yield _compaction(g, batch, device)
    yield _draws(g, batch, device)
    yield _logits(g, batch, device)
    yield _rotation(g, context, device)


def _attention(g: torch.Generator, context: int, batch: int, device: str) -> Case:
    import torch

    from codegen.kernels import tree_attention as module

    q = torch.randn(
        batch, _NODES, _HEADS * _GROUP, _DIM, generator=g, device=device, dtype=torch.float16
    )
    keys, values = torch.randn(
        2, batch, _HEADS, context + _NODES, _DIM, generator=g, device=device, dtype=torch.float16
    )
    chain = torch.ones(_NODES, _NODES, dtype=torch.bool, device=device).tril()
    lengths = torch.full((batch,), context, device=device)
    given = (q, keys, values, lengths, module.pack(chain.expand(batch, -1, -1)))
    return Case(
        f"tree_attention fp16 T={_NODES}",
        lambda: (module.tree_attention(*given),),
        lambda: (module.reference(*given),),
        bytes=2 * (2 * q.numel() + 2 * keys.numel()),
        operations=4.0 * q.numel() * keys.shape[2],
        tolerance=4e-3,
    )


def _acceptance(g: torch.Generator, batch: int, device: str) -> Iterator[Case]:
    """The draft is the target's own distribution mixed with another, so that some of it stands."""
    import torch

    from codegen.kernels import accept

    shape = (batch, _DEPTH + 1, _VOCABULARY)
    target = torch.softmax(torch.randn(*shape, generator=g, device=device), -1)
    other = torch.softmax(torch.randn(*shape, generator=g, device=device), -1)
    draft = ((target + other) / 2)[:, :_DEPTH].contiguous()
    tokens = draft.flatten(0, 1).multinomial(1, generator=g).view(batch, _DEPTH)
    uniforms = torch.rand(batch, _DEPTH, generator=g, device=device, dtype=torch.float64)
    ids = torch.arange(batch, device=device)
    chain = (tokens, target, draft, uniforms, ids, ids, ids)
    row = 4.0 * batch * _VOCABULARY
    yield Case(
        f"accept.chain K={_DEPTH}",
        lambda: tuple(accept.accept_chain(*chain)),
        lambda: tuple(accept.reference_chain(*chain)),
        bytes=2 * row,
    )
    # One level of siblings under the root, all drawn by one distribution.
    siblings = draft[:, 0].multinomial(_CHILDREN, generator=g)
    children = torch.full((batch, _CHILDREN + 1, _CHILDREN), -1, device=device)
    children[:, 0] = torch.arange(1, _CHILDREN + 1, device=device)
    tree = (children, siblings, target[:, : _CHILDREN + 1], draft[:, :1], uniforms[:, None])
    last = torch.rand(batch, generator=g, device=device, dtype=torch.float64)
    yield Case(
        f"accept.tree K={_CHILDREN}",
        lambda: tuple(accept.accept_tree(*tree, last)),
        lambda: tuple(accept.reference_tree(*tree, last)),
        bytes=2 * row,
    )


def _compaction(g: torch.Generator, batch: int, device: str) -> Case:
    import torch

    from codegen.kernels import states as kernel_states

    # Few slots: a move touches its own only.
    states = list(
        torch.randn(
            2 * _LAYERS, batch, _HEADS, 2 * _NODES, _DIM, generator=g, device=device,
            dtype=torch.float16,
        )
    )  # fmt: skip
    path = torch.tensor([[2, 5, 9, 13]] * batch, device=device)
    cursors = torch.full((batch,), 3, device=device)

    def after(move: Callable[..., None]) -> tuple[torch.Tensor, ...]:
        move(states, path, cursors)
        return (states[0][:, :, 4:8],)

    # Each move changes what the next one reads, so the comparison is on copies of the start.
    start = [tensor.clone() for tensor in states]

    def reference() -> tuple[torch.Tensor, ...]:
        kernel_states.reference_compact(start, path, cursors)
        return (start[0][:, :, 4:8],)

    moved = 2.0 * 2 * _LAYERS * path.numel() * _HEADS * _DIM * 2
    return Case("compaction fp16", lambda: after(kernel_states.compact), reference, bytes=moved)


def _draws(g: torch.Generator, batch: int, device: str) -> Case:
    import torch

    from codegen.kernels import logits as module

    log_probs = torch.log_softmax(
        torch.randn(batch, _VOCABULARY, generator=g, device=device), dim=-1
    )
    ids = torch.arange(batch, device=device)
    given = (log_probs, _CHILDREN, ids, ids, ids)
    return Case(
        f"gumbel_top_k k={_CHILDREN}",
        lambda: tuple(module.gumbel_top_k(*given)),
        lambda: tuple(module.reference_top_k(*given)),
        bytes=4.0 * log_probs.numel(),
        tolerance=1e-4,
    )


def _logits(g: torch.Generator, batch: int, device: str) -> Case:
    import torch

    from codegen.kernels import logits as module

    logits = torch.randn(batch, _NODES, _VOCABULARY, generator=g, device=device).bfloat16()
    chain = torch.ones(_NODES, _NODES, dtype=torch.bool, device=device).tril()
    masks = (1 << torch.arange(_NODES, device=device)) * chain
    given = (
        logits,
        torch.randint(_VOCABULARY, (batch, _NODES), generator=g, device=device),
        masks.sum(-1).expand(batch, -1).contiguous(),
        torch.randint(2, (batch, _VOCABULARY), generator=g, device=device, dtype=torch.int32),
        torch.randint(2, (batch, _VOCABULARY), generator=g, device=device).bool(),
        torch.tensor([[1.1, 0.1, 0.1, 0.8]] * batch, device=device),
        torch.full((batch, _NODES, _VOCABULARY // 32), -1, dtype=torch.int32, device=device),
        torch.full((batch, 1), 7, device=device),
    )
    moved = logits.numel() * (2 + 4 + 1 / 8) + 5 * batch * _VOCABULARY
    return Case(
        f"adjust_logits bf16 T={_NODES}",
        lambda: (module.adjust_logits(*given),),
        lambda: (module.reference_adjust(*given),),
        bytes=moved,
        tolerance=1e-4,
    )


def _rotation(g: torch.Generator, context: int, device: str) -> Case:
    import torch

    from codegen.kernels import states as kernel_states

    encoded = torch.randn(1, _HEADS, context, _DIM, generator=g, device=device).half()
    cells = torch.randperm(context, generator=g, device=device)
    angles = torch.randn(context, _DIM // 2, generator=g, device=device)
    given = (cells, angles.cos(), angles.sin(), False)
    outputs = [encoded.clone(), encoded.clone()]

    def turned(turn: Callable[..., None], states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        turn(encoded, states, *given)
        return (states,)

    return Case(
        "rotation fp16",
        lambda: turned(kernel_states.turn_slots, outputs[0]),
        lambda: turned(kernel_states.reference_turn, outputs[1]),
        bytes=2.0 * 2 * encoded.numel() + 2 * 4 * angles.numel(),
        tolerance=2e-3,
    )
