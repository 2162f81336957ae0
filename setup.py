"""The compiled parts; everything else is declared in pyproject.toml.

The extensions are optional: without a C++ compiler the package installs all the same, and plain
Python or PyTorch does the work (codegen.decoding.suffix.COMPILED and codegen.kernels.cpu.AVAILABLE
say which). They keep to the limited API, so one wheel serves all later versions of CPython.
"""

from setuptools import Extension, setup


def extension(name: str, depends: list[str]) -> Extension:
    """The optional module ``name`` from the file of its name."""
    source = name.removeprefix("codegen.").replace(".", "/") + ".cpp"
    return Extension(
        name,
        sources=[source],
        depends=depends,
        language="c++",
        extra_compile_args=[
            "-std=c++17",
            "-O3",
            "-g0",
            "-fvisibility=hidden",
            "-ffp-contract=off",
        ],
        py_limited_api=True,
        optional=True,
    )


setup(
    ext_modules=[
        extension("codegen.decoding.suffix._core", ["decoding/suffix/order.hpp"]),
        extension("codegen.kernels.cpu._core", ["kernels/cpu/few_rows.hpp"]),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
