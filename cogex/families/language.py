"""Judgements about words that a helper makes: the programs call what nobody defines.

The helpers are small tables here; a model has to know what they stand for.
"""

from __future__ import annotations

import random

from codegen.cogex.families.base import Family, Item
from codegen.cogex.families.vocabulary import NAMES, THINGS

_OPPOSITES = {
    "big": "small",
    "cold": "hot",
    "dark": "light",
    "early": "late",
    "empty": "full",
    "fast": "slow",
    "happy": "sad",
    "hard": "soft",
    "high": "low",
    "new": "old",
    "open": "closed",
    "quiet": "loud",
    "rich": "poor",
    "short": "long",
    "strong": "weak",
    "wet": "dry",
}
_PRAISE = ("delightful", "excellent", "great", "lovely", "moving", "superb", "wonderful")
_BLAME = ("awful", "boring", "dull", "poor", "terrible", "tedious", "weak")
_SUBJECTS = ("film", "book", "meal", "concert", "play", "hotel", "song", "game")


def pluralize(word):
    """Makes the plural of a noun.

    Args:
        word (str): the noun.

    Returns:
        dict: ending and answer.
    """
    # Step 1: Choose the ending.
    ending = choose_plural_ending(word)
    # Step 2: Put it behind the word.
    return {"ending": ending, "answer": word + ending}


def find_opposite(word):
    """Finds the opposite of an adjective.

    Args:
        word (str): the adjective.

    Returns:
        dict: answer.
    """
    # Step 1: Look the opposite up.
    return {"answer": look_up_opposite(word)}


def classify_opinion(text):
    """Says whether an opinion is positive or negative.

    Args:
        text (str): the opinion.

    Returns:
        dict: good, bad and answer.
    """
    # Step 1: Find the words of praise and of blame.
    good = find_praise(text)
    bad = find_blame(text)
    # Step 2: Compare their numbers.
    answer = "positive" if len(good) > len(bad) else "negative"
    return {"good": good, "bad": bad, "answer": answer}


def choose_plural_ending(word):
    """What ``pluralize`` calls without defining it."""
    return "es" if word.endswith(("s", "x", "ch", "sh")) else "s"


def look_up_opposite(word):
    """What ``find_opposite`` calls without defining it."""
    return _OPPOSITES.get(word) or next(a for a, b in _OPPOSITES.items() if b == word)


def find_praise(text):
    """What ``classify_opinion`` calls without defining it."""
    return [word for word in text.strip(".").split() if word in _PRAISE]


def find_blame(text):
    """What ``classify_opinion`` calls without defining it."""
    return [word for word in text.strip(".").split() if word in _BLAME]


def _draw_plural(rng: random.Random) -> Item:
    more = ("box", "brush", "bus", "bench", "dish", "fox", "glass", "lunch", "peach", "table")
    word = rng.choice((*(one for one, _ in THINGS), *more))
    return Item(word, word + choose_plural_ending(word), (word,))


def _draw_opposite(rng: random.Random) -> Item:
    word = rng.choice((*_OPPOSITES, *_OPPOSITES.values()))
    return Item(word, look_up_opposite(word), (word,))


def _draw_opinion(rng: random.Random) -> Item:
    words, answer = rng.choice(((_PRAISE, "positive"), (_BLAME, "negative")))
    first, second = rng.sample(words, 2)
    text = f"{rng.choice(NAMES)} says the {rng.choice(_SUBJECTS)} was {first} and {second}."
    return Item(text, answer, (text,))


FAMILIES = (
    Family(
        "plural",
        ("Write the plural of the word.", "Make the noun plural."),
        _draw_plural,
        (pluralize,),
    ),
    Family(
        "opposite",
        ("Write the opposite of the word.", "What is the antonym?"),
        _draw_opposite,
        (find_opposite,),
    ),
    Family(
        "opinion",
        ("Is the opinion positive or negative?", "Classify the sentiment of the text."),
        _draw_opinion,
        (classify_opinion,),
    ),
)
