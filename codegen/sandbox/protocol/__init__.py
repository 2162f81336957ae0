"""Code shared by both sides of a job: orders, values and test collection."""


def words(text: str) -> frozenset[str]:
    """Splits a string into a set of words."""
    return frozenset(text.split())
