"""Sandboxes as they are made for everybody, and as they are where there was no compiler."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from codegen.core.errors import SandboxError
from codegen.sandbox import Sandbox, launch
from codegen.sandbox.isolation import linux


@contextlib.contextmanager
def launching(way: str) -> Iterator[None]:
    """Has the sandboxes that start meanwhile launch programs by code that is ``compiled`` or in
    ``python``; see ``isolation/serving.py``.
    """
    if way == "compiled" and linux.launcher is None:
        pytest.skip("the compiled launcher is not built here")
    config = launch.zygote_settings

    def chosen(*arguments: object) -> dict[str, object]:
        return config(*arguments) | {"compiled": way == "compiled"}  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "zygote_settings", chosen)
        yield


@pytest.fixture(scope="module", params=["compiled", pytest.param("python", marks=pytest.mark.long)])
def launcher(request: pytest.FixtureRequest) -> Iterator[str]:
    """By what programs are launched in the sandboxes of a module."""
    with launching(request.param):
        yield request.param


@pytest.fixture(scope="module")
def sandbox(launcher: str) -> Iterator[Sandbox]:
    try:
        with Sandbox(workers=1) as opened:
            yield opened
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.fixture
def needs_a_sandbox() -> None:
    """Skips a test where no safe backend works."""
    try:
        _, zygote = launch.choose("auto")
    except SandboxError as error:
        pytest.skip(str(error))
    zygote.close()
