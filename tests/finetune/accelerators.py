"""``codegen`` as a process of a launch that accelerate knows on accelerators alone.

It shards weights and shares rows there only, torch on CPUs as well (gloo). Told that its processes
hold accelerators, accelerate goes the way that it goes on GPUs.
"""

import os
import runpy
from typing import Any

from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

_init = PartialState.__init__


def _init_as_if_with_accelerators(self: PartialState, *args: Any, **kwargs: Any) -> None:
    _init(self, *args, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


if __name__ == "__main__":
    PartialState.__init__ = _init_as_if_with_accelerators  # type: ignore[method-assign]
    try:
        runpy.run_module("codegen", run_name="__main__", alter_sys=True)
    finally:
        expected = DistributedType.FSDP if "ACCELERATE_USE_FSDP" in os.environ else "MULTI_GPU"
        assert AcceleratorState._shared_state.get("distributed_type", expected) == expected
