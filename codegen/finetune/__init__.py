"""Fine-tuning: recipe -> dataset -> plan -> trainer -> run.

In reading order: ``recipe`` (the validated settings), ``run`` and ``result`` (a run's directory and
its files), ``model`` (loaded or new, with an adapter), ``rows``, ``encode`` and ``dataset`` (rows
to tokens and loss masks, and their cache), ``plan`` (the examples of each step), ``batches`` (rows
as tensors), ``trainer`` (transformers' Trainer over whole steps), ``losses`` and ``seqmatch``,
``attention`` (masks of packed rows). ``trl_runner`` and ``rollouts`` implement the objectives on
TRL. ``recipes/sft_loop.py`` is a flat script of the same steps.
"""

from codegen.finetune.recipe import Recipe, load_recipe, parse_recipe

__all__ = ["Recipe", "load_recipe", "parse_recipe"]
