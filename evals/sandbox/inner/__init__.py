"""What runs inside the sandbox: the zygote that forks jobs, the job of the program, the job of the
tests.

These modules are mounted into the sandbox and imported there as the package ``inner``, by a bare
interpreter (``-P -s -S -B``). They use the standard library and each other by relative import,
nothing else; the driver imports :mod:`.wire` too.
"""
