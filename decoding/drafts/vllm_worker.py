"""vLLM's worker for this platform, which gives :class:`DraftProposer` access to the requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codegen.decoding.drafts.vllm_proposer import DraftProposer

if TYPE_CHECKING:
    _Worker: Any = object
else:
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        from vllm.v1.worker.cpu_worker import CPUWorker as _Worker
    elif current_platform.is_xpu():
        from vllm.v1.worker.xpu_worker import XPUWorker as _Worker
    else:
        from vllm.v1.worker.gpu_worker import Worker as _Worker


class DraftWorker(_Worker):
    """vLLM worker (``worker_cls``); without a :class:`DraftProposer` it is the platform's own."""

    def init_device(self) -> None:
        """Creates the model runner and, with it, the proposer."""
        super().init_device()
        proposer = getattr(self.model_runner, "drafter", None)
        if isinstance(proposer, DraftProposer):
            proposer.bind(self.model_runner)
