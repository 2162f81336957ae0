"""Word sorting (as in BIG-Bench Hard), last letters (Wei et al. 2022), letter counts."""

from __future__ import annotations

import random

from codegen.cogex.families.base import Family, Item
from codegen.cogex.families.vocabulary import NAMES, WORDS


def sort_words(words):
    """Sorts words alphabetically.

    Args:
        words (list): the words.

    Returns:
        dict: first_letters, sorted_words and answer.
    """
    # Step 1: Take the first letters.
    first_letters = [word[0] for word in words]
    # Step 2: Sort the words.
    sorted_words = sorted(words)
    # Step 3: Join them.
    answer = " ".join(sorted_words)
    return {"first_letters": first_letters, "sorted_words": sorted_words, "answer": answer}


def order_words(words):
    """Puts words into alphabetical order.

    Args:
        words (list): the words.

    Returns:
        dict: answer.
    """
    # Step 1: Sort and join the words.
    return {"answer": " ".join(sorted(words))}


def alphabetize(words):
    """Finds the order of words by their letters.

    Args:
        words (list): the words.

    Returns:
        dict: first, last and answer.
    """
    # Step 1: Find the first and the last word.
    first, last = min(words), max(words)
    # Step 2: Sort all of them.
    answer = " ".join(sorted(words))
    return {"first": first, "last": last, "answer": answer}


def join_last_letters(name):
    """Concatenates the last letters of words.

    Args:
        name (str): words with spaces between them.

    Returns:
        dict: letters and answer.
    """
    # Step 1: Take the last letter of each word.
    letters = [word[-1] for word in name.split()]
    # Step 2: Join them.
    answer = "".join(letters)
    return {"letters": letters, "answer": answer}


def count_letter(word, letter):
    """Counts a letter in a word.

    Args:
        word (str): the word.
        letter (str): what is counted.

    Returns:
        dict: positions and answer.
    """
    # Step 1: Find the places of the letter.
    positions = [place for place, sign in enumerate(word) if sign == letter]
    # Step 2: Count them.
    return {"positions": positions, "answer": len(positions)}


def _draw_words(rng: random.Random) -> Item:
    words = rng.sample(WORDS, rng.randint(3, 6))
    return Item("List: " + " ".join(words), " ".join(sorted(words)), (words,))


def _draw_names(rng: random.Random) -> Item:
    names = rng.sample(NAMES, rng.randint(2, 4))
    return Item(" ".join(names), "".join(name[-1] for name in names), (" ".join(names),))


def _draw_letter(rng: random.Random) -> Item:
    word = rng.choice(WORDS)
    letter = rng.choice(word)
    return Item(f"word: {word}, letter: {letter}", str(word.count(letter)), (word, letter))


FAMILIES = (
    Family(
        "word_sorting",
        (
            "Sort the following words alphabetically.",
            "Put these words into alphabetical order.",
            "Order the words from A to Z.",
        ),
        _draw_words,
        (sort_words, order_words, alphabetize),
    ),
    Family(
        "last_letters",
        (
            "Take the last letters of the words and concatenate them.",
            "Join the last letter of each word.",
        ),
        _draw_names,
        (join_last_letters,),
    ),
    Family(
        "letter_count",
        ("How often does the letter occur in the word?", "Count the letter in the word."),
        _draw_letter,
        (count_letter,),
    ),
)
