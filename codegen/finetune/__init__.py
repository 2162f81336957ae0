"""Fine-tuning: recipe -> dataset -> plan -> trainer -> run.

In reading order: ``recipe`` (the validated settings), ``lifecycle`` (a run in its directory),
``sft`` (the stages, with transformers' Trainer over whole steps), ``dataset`` and ``encode`` (rows
to tokens and loss masks, and their cache), ``batch_plan`` (the examples of each step),
``trainable`` (the model, loaded or new, with an adapter), ``batches`` (rows as tensors with masks),
``losses``. ``trl_runner`` implements the objectives on TRL, ``estimate`` computes the resources of
a run.
``recipes/sft_loop.py`` is a flat script of the same steps.
"""

from codegen.finetune.recipe import Recipe, load_recipe, parse_recipe

__all__ = ["Recipe", "load_recipe", "parse_recipe"]
