"""Examples, and a model that does what UniCode's prompts ask."""

from __future__ import annotations

import random
from typing import Any

from openai_server import Reply, completion

from codegen.core.records import Example, TrainingText
from codegen.methods.unicoder import UniCode
from codegen.methods.unicoder.generator import block

PROGRAM = "def f(x):\n    if x > 0:\n        x = x + 1\n    return x\n"


def example(i: int = 0, **fields: Any) -> Example:
    program = PROGRAM.replace("1", str(i + 1))
    texts: dict[str, Any] = {"id": f"e{i}", "instruction": f"Do {i}.", "program": program}
    return Example(**texts | fields)


def texts_of(generator: UniCode, item: Example, seed: int = 0) -> list[TrainingText]:
    return list(generator.generate(item, random.Random(seed)))


def write(body: dict[str, Any]) -> Reply:
    """A model that does what each prompt asks."""
    prompt = body["messages"][0]["content"]
    if "Answer with the grade alone" in prompt:
        return completion("2" if "Do 3." in prompt else "5")
    if "Write exactly two sections" in prompt:
        return completion("[Problem]\nInvent.\n[Solution]\n```python\nx = 1\n```")
    task = prompt.rsplit("Task:\n", 1)[1].split("\n", 1)[0]
    if "Add comments" in prompt:
        code = block(prompt.split("Universal code:\n", 1)[1])
        first, _, rest = code.partition("\n")
        return completion(f"```unicode\n// What {task} needs.\n{first}\n{rest}\n```")
    return completion(f"Here:\n```unicode\n// {task}\nFUNCTION f(x) {{\n}}\n```")
