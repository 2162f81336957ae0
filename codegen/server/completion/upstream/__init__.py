"""Completions from a server that the user already runs.

:class:`Upstream` replaces the engine's model, and so does :class:`LlamaUpstream`, a child process
that runs a GGUF file. The engine still handles documents, windows, stop rules, filters and reuse of
suggestions. :mod:`probe` detects the server's features, :mod:`prompts` builds request bodies.
"""

from codegen.server.completion.upstream.probe import Unreachable
from codegen.server.completion.upstream.source import LlamaUpstream, Upstream

__all__ = ["LlamaUpstream", "Unreachable", "Upstream"]
