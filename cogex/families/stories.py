"""Arithmetic in a short story, one or two steps, with facts that don't matter (as in SVAMP)."""

from __future__ import annotations

import random

from codegen.cogex.families.base import Family, Item
from codegen.cogex.families.vocabulary import NAMES, THINGS


def solve_story(start, change, operation):
    """Solves a story of one step.

    Args:
        start (int): the first number that matters.
        change (int): the second number that matters.
        operation (str): what the story does, +, -, * or /.

    Returns:
        dict: equation and answer.
    """
    # Step 1: Write the equation.
    equation = f"{start} {operation} {change}"
    # Step 2: Calculate.
    results = {"+": start + change, "-": start - change, "*": start * change}
    answer = results[operation] if operation in results else start // change
    return {"equation": equation, "answer": answer}


def calculate(first, second, operation):
    """Calculates what a story asks for.

    Args:
        first (int): the first number.
        second (int): the second number.
        operation (str): +, -, * or /.

    Returns:
        dict: answer.
    """
    # Step 1: Apply the operation.
    return {"answer": apply_operation(first, second, operation)}


def apply_operation(first, second, operation):
    """What ``calculate`` calls without defining it."""
    return solve_story(first, second, operation)["answer"]


# A story, and the operation on its numbers a and b.
_STORIES = (
    ("{name} has {a} {many} and buys {b} more. How many {many} does {name} have now?", "+"),
    ("{name} had {a} {many} and gave {b} to {other}. How many {many} are left?", "-"),
    ("{name} has {a} {many}, {other} has {b}. How many more does {name} have?", "-"),
    ("Each of {a} boxes holds {b} {many}. How many {many} are there?", "*"),
    ("One of the {many} costs {a} dollars. How much do {b} {many} cost?", "*"),
    ("{name} shares {a} {many} among {b} friends. How many does each get?", "/"),
)
_BESIDE = ("", "", "{other} is {age} years old. ", "{other} has {age} sisters and brothers. ")


def _draw(rng: random.Random) -> Item:
    story, operation = rng.choice(_STORIES)
    a, b = rng.randint(5, 60), rng.randint(2, 40)
    if operation == "-":
        a += b
    elif operation != "+":
        a = rng.randint(2, 9)
        if operation == "/":
            a, b = a * b, a
    name, other = rng.sample(NAMES, 2)
    text = (rng.choice(_BESIDE) + story).format(
        name=name, other=other, many=rng.choice(THINGS)[1], a=a, b=b, age=rng.randint(2, 15)
    )
    return Item(text, str(apply_operation(a, b, operation)), (a, b, operation))


FAMILIES = (
    Family(
        "arithmetic",
        ("Answer the question with a number.", "Solve the word problem."),
        _draw,
        (solve_story, calculate),
    ),
)
