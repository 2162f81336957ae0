"""Decoding without repetition: RPG (repetition penalty by grammar) and simpler rules beside it.

``structure`` follows a program token by token (``languages``: its tables; ``repetition``: what
repeats). ``grammar`` and ``reference`` are RPG's modes, ``baselines`` the other rules; ``options``
are their settings. Rules are made and applied by ``methods`` (our loop), ``processor``
(transformers) and ``vllm_processors``.

The names exported here import no tensor library; the modules do.
"""

from codegen.decoding.rpg.languages import LANGUAGES, find_language
from codegen.decoding.rpg.options import METHODS, MODES, Options, RpgOptions, read_options

__all__ = [
    "LANGUAGES",
    "METHODS",
    "MODES",
    "Options",
    "RpgOptions",
    "find_language",
    "read_options",
]
