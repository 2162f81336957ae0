"""Completions whose text comes from a server that the user already runs.

Documents, windows, stop rules, filters, reuse of suggestions and turns stay those of the engine;
:class:`Upstream` takes the place of the model, and so does :class:`LlamaUpstream`, a child process
that runs a GGUF file. :mod:`probe` finds out what the server offers, :mod:`prompts` makes what it
is sent, :mod:`client` speaks HTTP.
"""

from codegen.server.upstream.probe import Unreachable
from codegen.server.upstream.source import LlamaUpstream, Upstream

__all__ = ["LlamaUpstream", "Unreachable", "Upstream"]
