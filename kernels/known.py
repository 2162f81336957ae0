"""What is known about a GPU: which kernels agreed with PyTorch, and the fastest block sizes.

Stored in the cache directory, in one file per kind of device and version of Triton, PyTorch and the
kernels, so that later processes neither compare nor tune again. A damaged file is ignored, and
nothing is stored if the file cannot be written.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from codegen.paths import cache_folder
from codegen.records import write_atomic

KERNELS = (
    *("tree_attention", "accept_greedy", "accept_tree", "compact", "turn_slots"),
    *("gumbel_top_k", "penalize"),
)
_NUMBERS = {"BLOCK_M", "BLOCK_N", "num_warps", "num_stages"}


@dataclass
class Known:
    """What is known about one kind of device.

    Attributes:
        path: the file; None for a device that is not a GPU.
        device: its name.
        proved: kernels, with dtypes and shapes, whose results agreed with PyTorch's.
        settings: block sizes, warps and stages, by kernel and shape.
    """

    path: Path | None
    device: str
    proved: set[str] = field(default_factory=set)
    settings: dict[str, dict[str, int]] = field(default_factory=dict)

    def save(self) -> None:
        """Writes the file, including what other processes wrote meanwhile."""
        if self.path is None:
            return
        other = _read(self.path, self.device)
        self.proved |= other.proved
        self.settings = {**other.settings, **self.settings}
        row = {**asdict(self), "proved": sorted(self.proved), "path": None}
        with suppress(OSError):
            write_atomic(self.path, json.dumps(row, indent=1) + "\n")


@functools.cache
def known(device: torch.device) -> Known:
    """What is known about a device."""
    if device.type != "cuda":
        return Known(None, device.type)
    name = torch.cuda.get_device_name(device)
    return _read(_path(name), name)


def _path(name: str) -> Path:
    """The file for devices of this name."""
    import triton

    sources = sorted(Path(__file__).parent.glob("gpu/*.py"))
    made = hashlib.sha256(b"".join(path.read_bytes() for path in sources))
    made.update(f"{triton.__version__} {torch.__version__}".encode())
    plain = re.sub(r"\W+", "-", name)[:60]
    return cache_folder() / "kernels" / f"{plain}-{made.hexdigest()[:16]}.json"


def _read(path: Path, device: str) -> Known:
    found = Known(path, device)
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        found.proved = {str(name) for name in row["proved"]}
        for name, numbers in row["settings"].items():
            if set(numbers) == _NUMBERS and all(type(n) is int and n > 0 for n in numbers.values()):
                found.settings[str(name)] = numbers
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Known(path, device)
    return found
