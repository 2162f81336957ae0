"""What both sides of a job share: orders, values, and how tests are collected."""


def words(text: str) -> frozenset[str]:
    """Splits a string into a set of words."""
    return frozenset(text.split())
