"""Outcomes of full program searches with a fine-tuned embedded model, one a task.

Made by ``codegen finetune recipes/cogex.yaml`` (seed 0, 100 steps) and, for each task, ``codegen
cogex search TASK --model runs/cogex/model --method full --candidates 8 --items 36 --test 0``. A row
is a program, how often the model wrote it, and for each of 28 problems, in the order of their ids,
whether its emulation was right (1) or not (0).
"""

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
