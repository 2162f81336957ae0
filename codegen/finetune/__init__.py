"""Fine-tuning: typed recipes, the loss mask from segments, one trainer.

``recipe`` reads and checks the YAML; ``encode`` turns training texts into token ids and labels;
``plan`` fixes which examples each optimizer step sees; ``train`` runs transformers' Trainer on that
plan.
"""

from codegen.finetune.recipe import Recipe, load_recipe, parse_recipe
from codegen.finetune.sections import LoRA

__all__ = ["LoRA", "Recipe", "load_recipe", "parse_recipe"]
