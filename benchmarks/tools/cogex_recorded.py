"""Outcomes of full program searches with a fine-tuned embedded model, one a task.

Made by ``codegen finetune cogex`` (seed 0, 100 steps) and, for each task, ``codegen
cogex search TASK --model runs/cogex/model --method full -o candidates=8 -o items=36 --test 0``. A row
is a program, how often the model wrote it, and for each of 28 problems, in the order of their ids,
whether its emulation was right (1) or not (0).
"""

# ruff: noqa: E501 - the programs are as the model wrote them
from __future__ import annotations

from codegen.benchmarks.tools.cogex_replay import Outcomes

_RECORDED: dict[str, tuple[tuple[int, str, str], ...]] = {
    "word_sorting": (
        (
            2,
            "0000000000010000000000000000",
            """\
def order_words(words):
    \"\"\"Puts words into alphabetical order.

    Args:
        words (list): the words.

    Returns:
        dict: answer.
    \"\"\"
    # Step 1: Sort and join the words.
    return {"answer": " ".join(sorted(words))}""",
        ),
        (
            6,
            "0000000000000000000000000000",
            """\
def alphabetize(words):
    \"\"\"Finds the order of words by their letters.

    Args:
        words (list): the words.

    Returns:
        dict: first, last and answer.
    \"\"\"
    # Step 1: Find the first and the last word.
    first, last = min(words), max(words)
    # Step 2: Sort all of them.
    answer = " ".join(sorted(words))
    return {"first": first, "last": last, "answer": answer}""",
        ),
    ),
    "coin_flip": (
        (
            5,
            "1111010101010010010000101100",
            """\
def coin_heads_up(flips):
    \"\"\"Says whether a coin that starts heads up is still heads up.

    Args:
        flips (list): True for each person who flips it.

    Returns:
        dict: number_of_flips, is_even and answer.
    \"\"\"
    # Step 1: Count the flips.
    number_of_flips = sum(flips)
    # Step 2: An even number of flips changes nothing.
    is_even = number_of_flips % 2 == 0
    # Step 3: Answer.
    answer = "yes" if is_even else "no"
    return {"number_of_flips": number_of_flips, "is_even": is_even, "answer": answer}""",
        ),
        (
            3,
            "1010001101010000001101011101",
            """\
def track_coin(flips):
    \"\"\"Follows a coin from flip to flip.

    Args:
        flips (list): True for each person who flips it.

    Returns:
        dict: sides and answer.
    \"\"\"
    # Step 1: Follow the side that is up.
    sides = ["heads"]
    for flip in flips:
        other = "tails" if sides[-1] == "heads" else "heads"
        sides.append(other if flip else sides[-1])
    # Step 2: Look at the last side.
    answer = "yes" if sides[-1] == "heads" else "no"
    return {"sides": sides, "answer": answer}""",
        ),
    ),
    "large_sum": (
        (
            4,
            "0000000000000000000000000000",
            """\
def add_by_columns(a, b):
    \"\"\"Adds two numbers column by column.

    Args:
        a (int): the first number.
        b (int): the second number.

    Returns:
        dict: columns and answer.
    \"\"\"
    # Step 1: Add the digits of each column, the last column first.
    columns = []
    carry, x, y = 0, a, b
    while x or y:
        columns.append(x % 10 + y % 10 + carry)
        carry, x, y = columns[-1] // 10, x // 10, y // 10
    # Step 2: Read the sum off the columns.
    return {"columns": columns, "answer": a + b}""",
        ),
        (
            2,
            "0000000000000000000000000000",
            """\
def add_in_parts(a, b):
    \"\"\"Adds two numbers by their thousands and the rest.

    Args:
        a (int): the first number.
        b (int): the second number.

    Returns:
        dict: thousands, rest and answer.
    \"\"\"
    # Step 1: Add the thousands.
    thousands = a // 1000 + b // 1000
    # Step 2: Add the rest.
    rest = a % 1000 + b % 1000
    # Step 3: Put both together.
    return {"thousands": thousands, "rest": rest, "answer": thousands * 1000 + rest}""",
        ),
        (
            1,
            "0000000000000000000000000000",
            """\
def add_by_columns(a, b):
    \"\"\"Adds two numbers column by column.

    Args:
        a (int): the first number.
        b (int): the second number.

    Returns:
        dict: columns and answer.
    \"\"\"
    # Step 1: Add the digits of each column, the last column first.
    columns = [x + y for x, y in zip(a, b)]
    # Step 2: Add the results.
    answer = " + " + columns[columns.index(a) + columns.index(b)][columns.index(a)][columns.index(b)][0]
    return {"columns": columns, "answer": answer}""",
        ),
        (
            1,
            "0000000000000000000000000000",
            """\
def add_numbers(a, b):
    \"\"\"Adds two numbers.

    Args:
        a (int): the first number.
        b (int): the second number.

    Returns:
        dict: answer.
    \"\"\"
    # Step 1: Add the digits.
    result = a + b % 10
        # Step 2: Check if the result is off.
    result_str = f"{a} {b}"
    # Step 3: Put it all together.
    return {"answer": result}""",
        ),
    ),
    "arithmetic": (
        (
            3,
            "1000100001010000100000000101",
            """\
def solve_story(start, change, operation):
    \"\"\"Solves a story of one step.

    Args:
        start (int): the first number that matters.
        change (int): the second number that matters.
        operation (str): what the story does, +, -, * or /.

    Returns:
        dict: equation and answer.
    \"\"\"
    # Step 1: Write the equation.
    equation = f"{start} {operation} {change}"
    # Step 2: Calculate.
    results = {"+": start + change, "-": start - change, "*": start * change}
    answer = results[operation] if operation in results else start // change
    return {"equation": equation, "answer": answer}""",
        ),
        (
            5,
            "1000100000000000000000000001",
            """\
def calculate(first, second, operation):
    \"\"\"Calculates what a story asks for.

    Args:
        first (int): the first number.
        second (int): the second number.
        operation (str): +, -, * or /.

    Returns:
        dict: answer.
    \"\"\"
    # Step 1: Apply the operation.
    return {"answer": apply_operation(first, second, operation)}""",
        ),
    ),
}


def recorded() -> list[Outcomes]:
    """The outcomes, task by task."""
    return [
        Outcomes(
            task,
            tuple(text for written, _, text in rows for _ in range(written)),
            {text: [bit == "1" for bit in bits] for _, bits, text in rows},
        )
        for task, rows in _RECORDED.items()
    ]
