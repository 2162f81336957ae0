"""Large sums (as in STaR, Zelikman et al. 2022), comparisons, filters."""

from __future__ import annotations

import random

from codegen.cogex.families.base import Family, Item


def add_numbers(a, b):
    """Adds two numbers.

    Args:
        a (int): the first number.
        b (int): the second number.

    Returns:
        dict: answer.
    """
    # Step 1: Add the numbers.
    return {"answer": a + b}


def add_by_columns(a, b):
    """Adds two numbers column by column.

    Args:
        a (int): the first number.
        b (int): the second number.

    Returns:
        dict: columns and answer.
    """
    # Step 1: Add the digits of each column, the last column first.
    columns = []
    carry, x, y = 0, a, b
    while x or y:
        columns.append(x % 10 + y % 10 + carry)
        carry, x, y = columns[-1] // 10, x // 10, y // 10
    # Step 2: Read the sum off the columns.
    return {"columns": columns, "answer": a + b}


def add_in_parts(a, b):
    """Adds two numbers by their thousands and the rest.

    Args:
        a (int): the first number.
        b (int): the second number.

    Returns:
        dict: thousands, rest and answer.
    """
    # Step 1: Add the thousands.
    thousands = a // 1000 + b // 1000
    # Step 2: Add the rest.
    rest = a % 1000 + b % 1000
    # Step 3: Put both together.
    return {"thousands": thousands, "rest": rest, "answer": thousands * 1000 + rest}


def find_largest(numbers):
    """Finds the largest number.

    Args:
        numbers (list): the numbers.

    Returns:
        dict: ordered and answer.
    """
    # Step 1: Order the numbers, the largest first.
    ordered = sorted(numbers, reverse=True)
    # Step 2: Take the first.
    return {"ordered": ordered, "answer": ordered[0]}


def keep_even(numbers):
    """Keeps the even numbers.

    Args:
        numbers (list): the numbers.

    Returns:
        dict: is_even and answer.
    """
    # Step 1: Look at each number.
    is_even = [number % 2 == 0 for number in numbers]
    # Step 2: Keep those that are even.
    answer = [number for number in numbers if number % 2 == 0]
    return {"is_even": is_even, "answer": answer}


def _draw_sum(rng: random.Random) -> Item:
    a, b = (rng.randrange(10 ** (rng.randint(3, 5) - 1), 10**5) for _ in range(2))
    return Item(f"{a} + {b}", str(a + b), (a, b))


def _draw_numbers(rng: random.Random) -> list[int]:
    return rng.sample(range(1, 100), rng.randint(3, 6))


def _draw_largest(rng: random.Random) -> Item:
    numbers = _draw_numbers(rng)
    return Item(", ".join(map(str, numbers)), str(max(numbers)), (numbers,))


def _draw_even(rng: random.Random) -> Item:
    numbers = _draw_numbers(rng)
    even = [number for number in numbers if number % 2 == 0]
    return Item(", ".join(map(str, numbers)), " ".join(map(str, even)), (numbers,))


FAMILIES = (
    Family(
        "large_sum",
        ("Add the two numbers.", "What is the sum?", "Calculate the sum of the numbers."),
        _draw_sum,
        (add_numbers, add_by_columns, add_in_parts),
    ),
    Family(
        "largest",
        ("Find the largest number.", "Which number is the largest?"),
        _draw_largest,
        (find_largest,),
    ),
    Family(
        "even_numbers",
        ("Keep only the even numbers.", "List the even numbers."),
        _draw_even,
        (keep_even,),
    ),
)
