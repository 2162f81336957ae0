"""A device that is not there: tensors on it are computed on the CPU, and what would cross between
it and the host is counted.

Operations between its tensors and others fail as a GPU's do. A copy each way is counted, and so is
what makes the host wait: a scalar that is read, indices by truth values, ``nonzero``. There may be
several such devices, whose tensors meet only in copies; these are counted too.
"""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
from accelerate import infer_auto_device_map
from accelerate.hooks import attach_align_device_hook_on_blocks, remove_hook_from_module
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map
from torch.utils.backend_registration import _DummyDeviceGuard

DEVICE = torch.device("privateuseone", 0)
SECOND = torch.device("privateuseone", 1)
# Where the device is named or entered PyTorch looks for these; operations never get so far.
if not hasattr(torch, "privateuseone"):
    _module = types.SimpleNamespace(
        _lazy_init=lambda: None, _is_in_bad_fork=lambda: False, manual_seed_all=lambda seed: None
    )
    torch._register_device_module("privateuseone", _module)  # type: ignore
    torch._C._acc.register_python_privateuseone_device_guard(_DummyDeviceGuard())  # type: ignore
_aten = torch.ops.aten
_WAITS = (
    _aten._local_scalar_dense, _aten.item, _aten.is_nonzero, _aten.nonzero, _aten.masked_select,
    _aten.equal, _aten.unique_dim, _aten._unique2,
)  # fmt: skip
_INDEXED = (_aten.index, _aten.index_put_, _aten.index_put)
_COPIES = (_aten.to, _aten._to_copy, _aten.copy_)
_PAIRED = (_aten._foreach_copy_,)  # copies pair by pair
_HOST = torch.device("cpu")
_WAYS = {(False, True): "up", (True, False): "down", (True, True): "across"}


class OnDevice(torch.Tensor):
    """A tensor of the device; ``held`` is the same on the CPU."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: torch.Tensor, device: torch.device = DEVICE) -> Any:
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, device=device,
        )  # fmt: skip
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # pyrefly: ignore[bad-override]
        raise RuntimeError(f"{func} on the device, outside of its block")


class _Lists(TorchFunctionMode):
    """Between lists and the device there is a copy, as with a GPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and "device" in kwargs:
            device = torch.device(kwargs.pop("device") or "cpu")
            return func(*args, **kwargs).to(device)
        if func is torch.Tensor.tolist:
            return func(args[0].cpu())
        if func is torch.Tensor.__getitem__ and isinstance(args[1], tuple):
            index = (torch.tensor(i).to(args[0].device) if type(i) is list else i for i in args[1])
            return func(args[0], tuple(index))
        return func(*args, **kwargs)


class CountedDevice(TorchDispatchMode):
    """Within its block :data:`DEVICE` is there.

    Attributes:
        crossings: how often something came ``up``, ``down`` or ``across`` from another device, or
            made the host ``wait``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.crossings: Counter[str] = Counter()
        self._lists = _Lists()

    def __enter__(self) -> Self:
        self._lists.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:  # pyrefly: ignore[bad-override]
        super().__exit__(*error)
        self._lists.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        names = (argument.name for argument in func._schema.arguments)
        given: dict[str, Any] = dict(zip(names, args, strict=False)) | dict(kwargs or {})
        tensors = [t for t in tree_iter(given) if isinstance(t, torch.Tensor)]
        ours = [t for t in tensors if isinstance(t, OnDevice)]
        others = [t for t in tensors if t.dim() and not isinstance(t, OnDevice)]
        if given.get("device") is not None:
            target = torch.device(given["device"])
        else:
            target = ours[0].device if ours else _HOST
        if not ours and target.type != DEVICE.type:
            return func(*args, **(kwargs or {}))
        if func.overloadpacket in _COPIES:
            source = given["src"] if "src" in given else given["self"]
            target = given["self"].device if "src" in given else target
            if source.device != target:
                sides = source.device.type == DEVICE.type, target.type == DEVICE.type
                self.crossings[_WAYS[sides]] += 1
        elif len({t.device for t in ours}) > 1 and func.overloadpacket not in _PAIRED:
            raise RuntimeError(f"{func}: tensors of two devices")
        elif others and func.overloadpacket in _INDEXED:
            self.crossings["up"] += len(others)
        elif ours and others:
            raise RuntimeError(f"{func}: tensors of the host and of the device")
        elif func.overloadpacket in _WAITS or _by_truth(func, given):
            self.crossings["wait"] += 1
        if given.get("device") is not None:
            given["device"] = _HOST
        held = tree_map(lambda t: t.held if isinstance(t, OnDevice) else t, given)
        first = next(iter(given.values()), None)
        if func.overloadpacket is _aten.histc:  # of whole numbers too, unlike on a CPU
            found = func(**held | {"self": held["self"].float()}).to(held["self"].dtype)
        else:
            found = func(**held)
        if isinstance(first, OnDevice) and found is first.held and target == first.device:
            return first  # in place, or nothing to do
        if target.type != DEVICE.type:
            return found
        return tree_map(lambda t: OnDevice(t, target) if isinstance(t, torch.Tensor) else t, found)


def _by_truth(func: Any, given: dict[str, Any]) -> bool:
    if func.overloadpacket not in _INDEXED:
        return False
    kinds = [t.dtype for t in given["indices"] if t is not None]
    return torch.bool in kinds or torch.uint8 in kinds


@contextmanager
def moved(
    *models: torch.nn.Module, device_of: Callable[[str], torch.device] = lambda name: DEVICE
) -> Iterator[None]:
    """Models on the device, within the block of a :class:`CountedDevice`.

    Args:
        models: the models.
        device_of: the device of a parameter or buffer, by its name.
    """
    tables: list[tuple[str, dict[str, Any]]] = [
        (prefix + "." if prefix else "", table)
        for model in models
        for prefix, module in model.named_modules()
        for table in (module._parameters, module._buffers)
    ]
    before = [dict(table) for _, table in tables]
    known: dict[object, OnDevice] = {}
    for prefix, table in tables:
        for name, tensor in table.items():
            if tensor is not None:
                device = device_of(prefix + name)
                made = OnDevice(tensor.detach(), device)
                table[name] = known.setdefault((id(tensor), device), made)
    try:
        yield
    finally:
        for (_, table), kept in zip(tables, before, strict=True):
            table.update(kept)


@contextmanager
def spread(*models: Any) -> Iterator[None]:
    """Models over two devices as ``device_map`` spreads them: accelerate decides which part is
    where, and its hooks send there what a part is given.
    """
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(_spread(model))
        yield


@contextmanager
def _spread(model: Any) -> Iterator[None]:
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    whole: Any = list(model._no_split_modules or ())
    places: dict[str, torch.device] = {}
    for share in (0.5, 0.9, 0.998):  # accelerate keeps room for the largest layer on the first
        memory: Any = {0: int(share * size), 1: 2 * size}
        numbers: Any = infer_auto_device_map(model, memory, no_split_module_classes=whole)
        places = {part: (DEVICE, SECOND)[int(number)] for part, number in numbers.items()}
        if any(part[-1:].isdigit() for part in places):
            break  # it divides the layers
    assert len(set(places.values())) == 2

    def device_of(name: str) -> torch.device:
        parts = (place for part, place in places.items() if f"{name}.".startswith(f"{part}."))
        return next(parts, DEVICE)  # buffers are in no part

    with moved(model, device_of=device_of):
        attach_align_device_hook_on_blocks(
            model, {"": DEVICE, **places}, dict.fromkeys(places, False),
            skip_keys=model._skip_keys_device_placement,
        )  # fmt: skip
        model.hf_device_map = places
        try:
            yield
        finally:
            remove_hook_from_module(model, recurse=True)
            del model.hf_device_map


PLACES = {"one device": moved, "two devices": spread}


def watched(strategy: Any, device: CountedDevice) -> list[Counter[str]]:
    """What crosses in each round of a strategy, as it decodes: of the rounds before and behind
    which the batch has the same rows.
    """
    rounds: list[Counter[str]] = []
    before: list[tuple[Counter[str], list[int]]] = []
    propose = strategy.propose

    def proposing(batch: Any) -> Any:
        before.append((Counter(device.crossings), list(batch.numbers)))
        if [rows for _, rows in before[-3:]] == [before[-1][1]] * 3:
            rounds.append(before[-1][0] - before[-2][0])
        return propose(batch)

    strategy.propose = proposing
    return rounds
