"""The compiled parts; everything else is declared in pyproject.toml.

The extensions are optional: without a compiler the package still installs and uses plain Python or
    PyTorch (`codegen doctor` says which). CODEGEN_REQUIRE_COMPILED=1 makes a failure to compile an
    error, for wheels. They use only the limited API, so one wheel serves all later versions of
    CPython.
"""

import os

from setuptools import Extension, setup


def extension(name: str, sources: list[str], headers: list[str]) -> Extension:
    """Returns the optional module ``name`` from files of its package, all in C++ or all in C."""
    folder = name.rpartition(".")[0].replace(".", "/")
    cpp = sources[0].endswith(".cpp")
    return Extension(
        name,
        sources=[f"{folder}/{source}" for source in sources],
        depends=[f"{folder}/{header}" for header in headers],
        language="c++" if cpp else "c",
        extra_compile_args=[
            "-std=c++17" if cpp else "-std=gnu11",
            "-O3",
            "-g0",
            "-fvisibility=hidden",
            "-ffp-contract=off",
            "-pthread",
        ],
        extra_link_args=["-pthread"],
        py_limited_api=True,
        optional=not os.environ.get("CODEGEN_REQUIRE_COMPILED"),
    )


setup(
    ext_modules=[
        extension("codegen.decoding.suffix._core", ["_core.cpp"], ["order.hpp"]),
        extension(
            "codegen.kernels.cpu._core",
            ["_core.cpp"],
            [
                "common.hpp",
                "avx2.hpp",
                "avx512_bf16.hpp",
                "avx512_vnni.hpp",
                "pass.hpp",
                "team.hpp",
            ],
        ),
        extension(
            "codegen.sandbox.isolation._launcher",
            ["_launcher.c", "_program.c"],
            ["_program.h"],
        ),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
