"""Former names of public modules still import, as the same objects."""

from __future__ import annotations

import importlib

import pytest

from codegen import MOVED


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *MOVED.items(),
        *{
            "codegen.evals.sandbox.jobs": "codegen.sandbox.jobs",
        }.items(),
    ],
)
def test_a_former_name_is_the_same_module(old: str, new: str) -> None:
    with pytest.warns(FutureWarning, match=f"{old} is now {new}."):
        module = importlib.import_module(old)
    assert module is importlib.import_module(new)
    assert module.__spec__ and module.__spec__.name == new


def test_a_submodule_that_never_was_is_not_found() -> None:
    with pytest.warns(FutureWarning), pytest.raises(ModuleNotFoundError, match=r"sandbox\.absent"):
        importlib.import_module("codegen.evals.sandbox.absent")
