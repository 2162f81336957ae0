"""Dates: days later, days between, weekdays."""

from __future__ import annotations

import random
from datetime import date, timedelta

from codegen.cogex.families.base import Family, Item


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
    """What ``date_after`` calls without defining it."""
    return (date(*parts) + timedelta(days=days)).isoformat()


_WEEK = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def _draw_date(rng: random.Random) -> Item:
    start = date(2000, 1, 1) + timedelta(days=rng.randrange(12_000))
    days = rng.randint(1, 40)
    text = f"start: {start.isoformat()}, days: {days}"
    later = (start + timedelta(days=days)).isoformat()
    return Item(text, later, (start.isoformat(), days))


def _draw_weekday(rng: random.Random) -> Item:
    day, days = rng.choice(_WEEK), rng.randint(2, 60)
    answer = _WEEK[(_WEEK.index(day) + days) % 7]
    return Item(f"Today is {day}. {days} days pass.", answer, (day, days))


FAMILIES = (
    Family(
        "date_after",
        ("Which date is it so many days later?", "Add the days to the date."),
        _draw_date,
        (date_after,),
    ),
    Family(
        "weekday_after",
        ("Which day of the week is it then?", "Find the day of the week."),
        _draw_weekday,
        (weekday_after,),
    ),
)
