"""Completions whose text comes from a server that the user already runs.

Documents, windows, stop rules, filters, reuse of suggestions and turns stay those of the engine;
:class:`Upstream` takes the place of the model. :mod:`probe` finds out what the server offers,
:mod:`prompts` makes what it is sent, :mod:`client` speaks HTTP.
"""

from codegen.server.upstream.probe import Unreachable
from codegen.server.upstream.source import Upstream

__all__ = ["Unreachable", "Upstream"]
