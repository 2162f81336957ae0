"""Fine-tuning: recipe -> dataset -> plan -> trainer -> run.

In reading order: ``recipe`` (the settings, checked), ``run`` and ``result`` (what happens to a
directory, and what it holds), ``model`` (loaded or new, with an adapter), ``dataset`` (texts to
tokens and loss masks), ``plan`` (which examples each step sees), ``batches`` (rows as tensors),
``trainer`` (transformers' Trainer over whole steps), ``losses``, ``attention`` (the masks of packed
rows); ``seqmatch``, ``infilling`` are one method each. ``recipes/sft_loop.py`` is a flat script of
the same steps, to copy and change.
"""

from codegen.finetune.recipe import Recipe, load_recipe, parse_recipe

__all__ = ["Recipe", "load_recipe", "parse_recipe"]
