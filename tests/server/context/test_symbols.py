"""Definitions and imports of Python, JavaScript, TypeScript, and of any text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.server.context.symbols import Import, read

PYTHON = '''
import os.path, json as js
from . import utils
from ..shop.cart import Cart as Basket, total
from app import *

LIMIT: int = 3
names = {"a": 1}

@decorated
def load(path, *, strict=True) -> dict:
    """Loads it.

    More.
    """
    a = 1
    b = 2
    c = 3
    return a

class Client(Base):
    """A client."""

    url: str
    _retries = 3

    def __init__(self, url):
        self.url = url
        self.a = 1

    async def get(self, path: str) -> bytes:
        """Gets."""
        def inner():
            pass
        return b""

def lazy():
    from .late import thing
    return thing
def broken(
'''


def test_python() -> None:
    defined, imports = read(PYTHON, "python")
    found = {(one.owner, one.name): one.text for one in defined}
    assert list(found) == [
        ("", "LIMIT"), ("", "names"), ("", "load"), ("", "Client"), ("Client", "url"),
        ("Client", "_retries"), ("Client", "__init__"), ("Client", "get"), ("", "lazy"),
    ] or list(found)[:-1] == [key for key in found if key != ("", "broken")]  # fmt: skip
    assert found["", "LIMIT"] == "LIMIT: int = 3"
    load = 'def load(path, *, strict=True) -> dict:\n    """Loads it."""'
    assert found["", "load"] == load
    client = found["", "Client"].split("\n")
    assert client[:2] == ["class Client(Base):", '    """A client."""']
    assert "    url: str" in client
    assert any("def __init__(self, url)" in line for line in client)
    assert "        self.url = url" not in client
    assert found["Client", "get"].startswith("class Client:\n    async def get(self, path: str)")
    assert set(imports) == {
        Import("os", "", "os.path"), Import("js", "", "json"), Import("utils", "utils", "."),
        Import("Basket", "Cart", "..shop.cart"), Import("total", "total", "..shop.cart"),
        Import("thing", "thing", ".late"),
    }  # fmt: skip


TYPESCRIPT = """
import fs from "fs";
import { Cart as Basket, total } from "./shop/cart";
import * as util from "../util.js";
export const LIMIT = 3;
export interface Shop { name: string; open(at: Date): boolean }
export default class Client extends Base {
  private url: string = "";
  constructor(url: string) { super(); this.url = url; this.a = 1; }
  async get<T>(path: string): Promise<T> {
    const a = 1;
    const b = 2;
    const c = 3;
    const d = 4;
    const e = 5;
    const f = 6;
    return load(path);
  }
}
export function load(path: string): string { return path; }
export type Id = string | number;
"""


@pytest.mark.parametrize("language", ["typescript", "typescriptreact", "javascript"])
def test_javascript_and_typescript(language: str) -> None:
    if language == "javascript":
        pytest.importorskip("tree_sitter_javascript")
    else:
        pytest.importorskip("tree_sitter_typescript")
    text = TYPESCRIPT
    if language == "javascript":
        text = re.sub(
            r"(?m)^export (interface|type) .*|(?<=[\w)]): \w+(<T>)?|<T>|private ", "", text
        )
    defined, imports = read(text, language)
    found = {(one.owner, one.name): one.text for one in defined}
    assert {("", "LIMIT"), ("", "Client"), ("", "load"), ("Client", "get")} <= set(found)
    assert found["", "load"].startswith("export function load(path")
    if language != "javascript":
        assert {("", "Shop"), ("", "Id"), ("Client", "url")} <= set(found)
        get = found["Client", "get"]
        assert get == "class Client:\n  async get<T>(path: string): Promise<T> ..."
    assert set(imports) == {
        Import("fs", "", "fs"), Import("Basket", "Cart", "./shop/cart"),
        Import("total", "total", "./shop/cart"), Import("util", "", "../util.js"),
    }  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_text_is_read(data: st.DataObject) -> None:
    """Text cut and joined anywhere, with other characters in it."""
    text = data.draw(st.sampled_from([PYTHON, TYPESCRIPT]))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(at, len(text)))
        text = text[:at] + data.draw(st.text(max_size=4)) + text[end:]
    for language in ("python", "typescript", "javascript", "cobol"):
        defined, imports = read(text, language)
        assert all(one.name and one.text for one in defined)
        assert all(one.name for one in imports)
