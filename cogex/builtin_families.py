"""Families of problems that short real programs solve.

A family's programs are real functions of this package: a record has a function's source, and its
output is the function's result. The record omits the source of helpers in the module: they are
CoGEX's undefined helpers, but the answer is computed with them.

Problems are numbered and unlimited. They are divided into two splits without common inputs: one for
training, one for search and testing.
"""

from __future__ import annotations

import hashlib
import inspect
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import Literal

from codegen.cogex.record import CogexRecord
from codegen.core.errors import ConfigError, nearest

Half = Literal["train", "test"]
_TEST_IN = 4  # one in this many inputs is in the test split
_MOST_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class FamilyProblem:
    """A problem: its text, its answer, and the arguments of a program that solves it."""

    input: str
    answer: str
    args: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class ProblemFamily:
    """A kind of problem.

    Attributes:
        instructions: wordings of the task; a search uses the first.
        programs: ways to solve it, which take ``FamilyProblem.args`` and return intermediate
            results and finally ``answer``.
    """

    name: str
    instructions: tuple[str, ...]
    draw: Callable[[random.Random], FamilyProblem]
    programs: tuple[Callable[..., Mapping[str, object]], ...]

    def item(self, half: Half, number: int) -> FamilyProblem:
        """Returns problem ``number`` of a split."""
        rng = random.Random(f"{self.name}\x00{half}\x00{number}")
        for _ in range(_MOST_DRAWS):
            item = self.draw(rng)
            if half_of(item.input) == half:
                return item
        raise ValueError(f"{self.name} has no problems for {half}")

    def record(self, number: int) -> CogexRecord:
        """Returns training record ``number``, with a random wording and program."""
        item = self.item("train", number)
        rng = random.Random(f"{self.name}\x00record\x00{number}")
        return record_of(rng.choice(self.instructions), item, rng.choice(self.programs))


def record_of(
    instruction: str, item: FamilyProblem, program: Callable[..., Mapping[str, object]]
) -> CogexRecord:
    """Builds the record of a problem solved by a program."""
    return CogexRecord(
        instruction=instruction,
        input=item.input,
        program=source_of(program),
        call=call_of(program, item),
        output=program(*item.args),
    )


def call_of(program: Callable[..., object], item: FamilyProblem) -> str:
    """Returns the call that solves a problem."""
    return f"{program.__name__}({', '.join(map(repr, item.args))})"


@cache
def source_of(program: Callable[..., object]) -> str:
    """Returns the source of a function."""
    return inspect.getsource(program).strip("\n")


def half_of(input: str) -> Half:
    """Returns the split that an input belongs to, by a hash of its text."""
    digest = hashlib.blake2b(input.encode(), digest_size=4).digest()
    return "train" if int.from_bytes(digest, "big") % _TEST_IN else "test"


_WORDS = """
    acorn anchor apple arrow autumn bacon badge basin beach berry blanket bottle branch bread
    bridge bronze brush bucket button cabin camel candle canvas carbon carpet castle cedar chalk
    cherry circle clover cobalt copper coral cotton cradle cricket crystal cushion daisy dancer
    desert dinner donkey dragon eagle ember engine fabric falcon feather fiddle finger flame
    flute forest fossil fountain garden garlic ginger glacier goblet granite guitar hammer harbor
    hazel helmet honey hunter island ivory jacket jasmine jelly jungle kettle kitten ladder lagoon
    lantern lemon lettuce lily lizard locket magnet maple marble meadow melon mirror monkey
    mountain mustard napkin needle nickel nutmeg oasis ocean olive onion orange orchid otter
    oyster paddle palace panther paper pebble pencil pepper pickle pillow pirate planet plaster
    pocket pony poplar prairie pumpkin quartz quiver rabbit radish raven ribbon river rocket
    saddle saffron sailor salmon sandal satin scarf shadow shovel silver slipper spider spruce
    squash statue stone summer tablet temple thistle thunder ticket tiger timber tomato tulip
    tunnel turnip valley velvet violet walnut whale willow window winter wizard yogurt
    zebra"""
WORDS = tuple(_WORDS.split())

_NAMES = """
    Ada Amir Ana Ben Carla Chen Dana Dev Elif Emil Fatima Femi Gita Hana Hugo Ines Ivan Jamal
    Jana Kofi Lars Lena Luis Maya Mina Nadia Noor Olga Omar Petra Priya Ravi Rosa Sami Sven Tara
    Tomas Uma Vera Wei Yara Yusuf Zara Zoe"""
NAMES = tuple(_NAMES.split())

_THINGS = "apple book card coin cookie flower marble orange pencil shell sticker stamp"
THINGS = tuple(_THINGS.split())  # countable things with plurals in s


# Word sorting (as in BIG-Bench Hard), last letters (Wei et al. 2022), letter counts.


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


def _draw_words(rng: random.Random) -> FamilyProblem:
    words = rng.sample(WORDS, rng.randint(3, 6))
    return FamilyProblem("List: " + " ".join(words), " ".join(sorted(words)), (words,))


def _draw_names(rng: random.Random) -> FamilyProblem:
    names = rng.sample(NAMES, rng.randint(2, 4))
    return FamilyProblem(" ".join(names), "".join(name[-1] for name in names), (" ".join(names),))


def _draw_letter(rng: random.Random) -> FamilyProblem:
    word = rng.choice(WORDS)
    letter = rng.choice(word)
    return FamilyProblem(f"word: {word}, letter: {letter}", str(word.count(letter)), (word, letter))


# Coin flips: whether a coin is still heads up after some people flip it (Wei et al. 2022).


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


def _draw_flips(rng: random.Random) -> FamilyProblem:
    names = rng.sample(NAMES, rng.randint(2, 4))
    flips = [rng.random() < 0.5 for _ in names]
    acts = [
        f"{name} {'flips' if flip else 'does not flip'} the coin."
        for name, flip in zip(names, flips, strict=True)
    ]
    text = " ".join(["A coin is heads up.", *acts, "Is the coin still heads up?"])
    return FamilyProblem(text, "no" if sum(flips) % 2 else "yes", (flips,))


# Large sums (as in STaR, Zelikman et al. 2022), comparisons, filters.


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


def _draw_sum(rng: random.Random) -> FamilyProblem:
    a, b = (rng.randrange(10 ** (rng.randint(3, 5) - 1), 10**5) for _ in range(2))
    return FamilyProblem(f"{a} + {b}", str(a + b), (a, b))


def _draw_numbers(rng: random.Random) -> list[int]:
    return rng.sample(range(1, 100), rng.randint(3, 6))


def _draw_largest(rng: random.Random) -> FamilyProblem:
    numbers = _draw_numbers(rng)
    return FamilyProblem(", ".join(map(str, numbers)), str(max(numbers)), (numbers,))


def _draw_even(rng: random.Random) -> FamilyProblem:
    numbers = _draw_numbers(rng)
    even = [number for number in numbers if number % 2 == 0]
    return FamilyProblem(", ".join(map(str, numbers)), " ".join(map(str, even)), (numbers,))


# Arithmetic in a short story with irrelevant facts (as in SVAMP).


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
    """Helper of ``calculate``; records omit its source."""
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


def _draw_story(rng: random.Random) -> FamilyProblem:
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
        name=name, other=other, many=rng.choice(THINGS) + "s", a=a, b=b, age=rng.randint(2, 15)
    )
    return FamilyProblem(text, str(apply_operation(a, b, operation)), (a, b, operation))


def date_after(start, days):
    """Finds the date some days later.

    Args:
        start (str): a date, YYYY-MM-DD.
        days (int): how many days later.

    Returns:
        dict: parts and answer.
    """
    # Step 1: Read year, month and day.
    parts = [int(part) for part in start.split("-")]
    # Step 2: Add the days.
    return {"parts": parts, "answer": add_days(parts, days)}


def weekday_after(day, days):
    """Finds the day of the week some days later.

    Args:
        day (str): a day of the week.
        days (int): how many days later.

    Returns:
        dict: left_over and answer.
    """
    # Step 1: Whole weeks change nothing.
    left_over = days % 7
    # Step 2: Go on by the days left over.
    week = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    return {"left_over": left_over, "answer": week[(week.index(day) + left_over) % 7]}


def add_days(parts, days):
    """Helper of ``date_after``; records omit its source."""
    return (date(*parts) + timedelta(days=days)).isoformat()


_WEEK = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def _draw_date(rng: random.Random) -> FamilyProblem:
    start = date(2000, 1, 1) + timedelta(days=rng.randrange(12_000))
    days = rng.randint(1, 40)
    text = f"start: {start.isoformat()}, days: {days}"
    later = (start + timedelta(days=days)).isoformat()
    return FamilyProblem(text, later, (start.isoformat(), days))


def _draw_weekday(rng: random.Random) -> FamilyProblem:
    day, days = rng.choice(_WEEK), rng.randint(2, 60)
    answer = _WEEK[(_WEEK.index(day) + days) % 7]
    return FamilyProblem(f"Today is {day}. {days} days pass.", answer, (day, days))


# Judgments about words by undefined helpers, which look them up in these tables.
_OPPOSITES = {
    "big": "small", "cold": "hot", "dark": "light", "early": "late", "empty": "full",
    "fast": "slow", "happy": "sad", "hard": "soft", "high": "low", "new": "old", "open": "closed",
    "quiet": "loud", "rich": "poor", "short": "long", "strong": "weak", "wet": "dry",
}  # fmt: skip
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
    """Helper of ``pluralize``; records omit its source."""
    return "es" if word.endswith(("s", "x", "ch", "sh")) else "s"


def look_up_opposite(word):
    """Helper of ``find_opposite``; records omit its source."""
    return _OPPOSITES.get(word) or next(a for a, b in _OPPOSITES.items() if b == word)


def find_praise(text):
    """Helper of ``classify_opinion``; records omit its source."""
    return [word for word in text.strip(".").split() if word in _PRAISE]


def find_blame(text):
    """Helper of ``classify_opinion``; records omit its source."""
    return [word for word in text.strip(".").split() if word in _BLAME]


def _draw_plural(rng: random.Random) -> FamilyProblem:
    more = ("box", "brush", "bus", "bench", "dish", "fox", "glass", "lunch", "peach", "table")
    word = rng.choice((*THINGS, *more))
    return FamilyProblem(word, word + choose_plural_ending(word), (word,))


def _draw_opposite(rng: random.Random) -> FamilyProblem:
    word = rng.choice((*_OPPOSITES, *_OPPOSITES.values()))
    return FamilyProblem(word, look_up_opposite(word), (word,))


def _draw_opinion(rng: random.Random) -> FamilyProblem:
    words, answer = rng.choice(((_PRAISE, "positive"), (_BLAME, "negative")))
    first, second = rng.sample(words, 2)
    text = f"{rng.choice(NAMES)} says the {rng.choice(_SUBJECTS)} was {first} and {second}."
    return FamilyProblem(text, answer, (text,))


FAMILIES: Mapping[str, ProblemFamily] = {
    family.name: family
    for family in (
        ProblemFamily(
            "word_sorting",
            (
                "Sort the following words alphabetically.",
                "Put these words into alphabetical order.",
                "Order the words from A to Z.",
            ),
            _draw_words,
            (sort_words, order_words, alphabetize),
        ),
        ProblemFamily(
            "last_letters",
            (
                "Take the last letters of the words and concatenate them.",
                "Join the last letter of each word.",
            ),
            _draw_names,
            (join_last_letters,),
        ),
        ProblemFamily(
            "letter_count",
            ("How often does the letter occur in the word?", "Count the letter in the word."),
            _draw_letter,
            (count_letter,),
        ),
        ProblemFamily(
            "coin_flip",
            (
                "Answer yes or no: is the coin still heads up?",
                "Follow the coin and say whether it is still heads up.",
            ),
            _draw_flips,
            (coin_heads_up, track_coin, is_still_heads),
        ),
        ProblemFamily(
            "large_sum",
            ("Add the two numbers.", "What is the sum?", "Calculate the sum of the numbers."),
            _draw_sum,
            (add_numbers, add_by_columns, add_in_parts),
        ),
        ProblemFamily(
            "largest",
            ("Find the largest number.", "Which number is the largest?"),
            _draw_largest,
            (find_largest,),
        ),
        ProblemFamily(
            "even_numbers",
            ("Keep only the even numbers.", "List the even numbers."),
            _draw_even,
            (keep_even,),
        ),
        ProblemFamily(
            "arithmetic",
            ("Answer the question with a number.", "Solve the word problem."),
            _draw_story,
            (solve_story, calculate),
        ),
        ProblemFamily(
            "date_after",
            ("Which date is it so many days later?", "Add the days to the date."),
            _draw_date,
            (date_after,),
        ),
        ProblemFamily(
            "weekday_after",
            ("Which day of the week is it then?", "Find the day of the week."),
            _draw_weekday,
            (weekday_after,),
        ),
        ProblemFamily(
            "plural",
            ("Write the plural of the word.", "Make the noun plural."),
            _draw_plural,
            (pluralize,),
        ),
        ProblemFamily(
            "opposite",
            ("Write the opposite of the word.", "What is the antonym?"),
            _draw_opposite,
            (find_opposite,),
        ),
        ProblemFamily(
            "opinion",
            ("Is the opinion positive or negative?", "Classify the sentiment of the text."),
            _draw_opinion,
            (classify_opinion,),
        ),
    )
}


def find_family(name: str) -> ProblemFamily:
    """Returns a family by name.

    Raises:
        ConfigError: for an unknown name.
    """
    if name not in FAMILIES:
        hint = f"{nearest(name, [*FAMILIES])} Choose from: {', '.join(FAMILIES)}."
        raise ConfigError(f"Unknown family of problems {name!r}.", hint.strip())
    return FAMILIES[name]
