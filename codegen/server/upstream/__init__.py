"""Completions by a server that the user already runs.

:class:`Upstream` takes the place of the model in the engine, and so does :class:`LlamaUpstream`, a
child process that runs a GGUF file. Documents, windows, stop rules, filters and reuse of
suggestions stay the engine's. :mod:`probe` finds out what the server offers, :mod:`prompts` makes
request bodies.
"""

from codegen.server.upstream.probe import Unreachable
from codegen.server.upstream.source import LlamaUpstream, Upstream

__all__ = ["LlamaUpstream", "Unreachable", "Upstream"]
