"""Decoding without repetition: RPG (repetition penalty by grammar) and simpler rules beside it.

``structure`` follows a program token by token, with the tables of ``languages``, and ``repetition``
finds what repeats. ``grammar`` and ``reference`` are RPG's modes, ``rules`` has the other rules;
``options`` has their settings. ``methods`` (our loop), ``processor`` (transformers) and
``vllm_processors`` make and apply rules.

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
