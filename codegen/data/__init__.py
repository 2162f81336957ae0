"""Training data: sources of examples, data generators, and the engine that runs them.

>>> from codegen.data import make, open_source, run            # doctest: +SKIP
>>> run(make("lintseq", sequences=5), open_source("stdlib"), "out/lintseq")
"""

from codegen.data.engine import EngineOptions, RunProgress, is_finished, run
from codegen.data.executors import FailedItem, LocalExecutor, RayExecutor
from codegen.data.generators import Skip, TextGenerator, make
from codegen.data.manifest import (
    Manifest,
    Shard,
    load_manifest,
    read_data,
    read_rejects,
    read_texts,
)
from codegen.data.merge import merge
from codegen.data.sources import MemorySource, Rejected, Source, open_source

__all__ = [
    "EngineOptions", "LocalExecutor", "FailedItem", "Manifest", "MemorySource", "RayExecutor",
    "Rejected", "RunProgress", "Shard", "Skip", "Source", "TextGenerator", "is_finished",
    "load_manifest", "make", "merge", "open_source", "read_data", "read_rejects", "read_texts",
    "run",
]  # fmt: skip
