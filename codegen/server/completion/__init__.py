"""The completion engine: prompts, the queue, the model's worker, and the suggestion's text."""
