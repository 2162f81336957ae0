"""The code inside the sandbox: the zygote that forks jobs, programs' processes, tests' processes.

These modules are mounted into the sandbox and imported there as the package ``inner``, by a bare
interpreter (``-P -s -S -B``). They use only the standard library and, by relative imports, each
other; the driver imports :mod:`.wire` too.
"""


def words(text: str) -> frozenset[str]:
    """Splits a string into a set of words."""
    return frozenset(text.split())
