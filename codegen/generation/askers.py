"""The one client of a process for each model that is asked, an endpoint or a local one."""

from __future__ import annotations

import os
from functools import cache

from codegen.generation.asking import Asker
from codegen.generation.endpoint_settings import Endpoint
from codegen.generation.local_model import LocalModel


def asker_of(model: Endpoint | LocalModel, cache_path: str = "", ledger_path: str = "") -> Asker:
    """The one client of this process for a model.

    Raises:
        CodegenError: if the key is not set, the model is not there or a file can't be used.
    """
    return _asker(model, cache_path, ledger_path, os.getpid())


@cache
def _asker(model: Endpoint | LocalModel, cache_path: str, ledger_path: str, _process: int) -> Asker:
    from codegen.generation.endpoint import EndpointClient
    from codegen.generation.ledger import Ledger
    from codegen.generation.local_model import LocalClient
    from codegen.generation.response_cache import ResponseCache

    answers = ResponseCache(cache_path) if cache_path else None
    ledger = Ledger(ledger_path) if ledger_path else None
    if isinstance(model, LocalModel):
        return LocalClient(model, answers, ledger)
    return EndpointClient(model, answers, ledger)
