"""The compiled part; everything else is declared in pyproject.toml.

The extension is optional: without a C++ compiler the package installs all the same, and plain
Python does the work (codegen.decoding.suffix.COMPILED says which). It keeps to the limited API, so
one wheel serves all later versions of CPython.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "codegen.decoding.suffix._core",
            sources=["decoding/suffix/_core.cpp"],
            depends=["decoding/suffix/order.hpp"],
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
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
