"""Coin flips: is a coin still heads up after some people flip it (Wei et al. 2022)?"""

from __future__ import annotations

import random

from codegen.cogex.families.base import Family, Item
from codegen.cogex.families.vocabulary import NAMES


def coin_heads_up(flips):
    """Says whether a coin that starts heads up is still heads up.

    Args:
        flips (list): True for each person who flips it.

    Returns:
        dict: number_of_flips, is_even and answer.
    """
    # Step 1: Count the flips.
    number_of_flips = sum(flips)
    # Step 2: An even number of flips changes nothing.
    is_even = number_of_flips % 2 == 0
    # Step 3: Answer.
    answer = "yes" if is_even else "no"
    return {"number_of_flips": number_of_flips, "is_even": is_even, "answer": answer}


def track_coin(flips):
    """Follows a coin from flip to flip.

    Args:
        flips (list): True for each person who flips it.

    Returns:
        dict: sides and answer.
    """
    # Step 1: Follow the side that is up.
    sides = ["heads"]
    for flip in flips:
        other = "tails" if sides[-1] == "heads" else "heads"
        sides.append(other if flip else sides[-1])
    # Step 2: Look at the last side.
    answer = "yes" if sides[-1] == "heads" else "no"
    return {"sides": sides, "answer": answer}


def is_still_heads(flips):
    """Says whether a coin shows heads in the end.

    Args:
        flips (list): True for each person who flips it.

    Returns:
        dict: answer.
    """
    # Step 1: Look whether the number of flips is even.
    return {"answer": "no" if sum(flips) % 2 else "yes"}


def _draw(rng: random.Random) -> Item:
    names = rng.sample(NAMES, rng.randint(2, 4))
    flips = [rng.random() < 0.5 for _ in names]
    acts = [
        f"{name} {'flips' if flip else 'does not flip'} the coin."
        for name, flip in zip(names, flips, strict=True)
    ]
    text = " ".join(["A coin is heads up.", *acts, "Is the coin still heads up?"])
    return Item(text, "no" if sum(flips) % 2 else "yes", (flips,))


FAMILIES = (
    Family(
        "coin_flip",
        (
            "Answer yes or no: is the coin still heads up?",
            "Follow the coin and say whether it is still heads up.",
        ),
        _draw,
        (coin_heads_up, track_coin, is_still_heads),
    ),
)
