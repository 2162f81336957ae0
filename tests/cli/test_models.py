"""``codegen models``: names for servers, and what is in a GGUF file."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.test_clients import KEY, Codegen, own_folders  # noqa: F401 - in folders of its own


def test_names_are_listed_replaced_and_removed(codegen: Codegen) -> None:
    add = ("models", "add", "a", "--url", "http://h/v1")
    assert codegen(*add)[0] == 0
    code, _, err = codegen(*add)
    assert code == 2 and "--replace" in err
    assert codegen(*add, "--model", "other", "--replace")[0] == 0
    code, out, _ = codegen("models", "list")
    assert code == 0 and out.endswith("a: other at http://h/v1\n")
    assert json.loads(codegen("models", "list", "--json")[1])["models"][0]["model"] == "other"
    assert codegen("models", "remove", "a")[0] == 0
    code, _, err = codegen("models", "remove", "a")
    assert code == 2 and "Unknown endpoint 'a'" in err
    code, _, err = codegen("models", "add", "b", "--url", "http://h", "--api-key-env", KEY)
    assert code == 2 and "looks like an API key" in err and KEY not in err
    assert "No named endpoints" in codegen("models", "list")[1]


def test_show_says_what_is_in_a_file(codegen: Codegen, fim_gguf: Path, tmp_path: Path) -> None:
    code, out, _ = codegen("models", "show", fim_gguf, "--json")
    row = json.loads(out)
    assert code == 0 and row["bytes"] == fim_gguf.stat().st_size
    assert (row["architecture"], row["parameters"], row["context"]) == ("llama", 134_515_008, 8192)
    assert row["fim_tokens"] == ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
    assert row["weights"]["Q4_1"] > 0.7 and row["chat_template"] and row["parts"] == 1
    code, out, _ = codegen("models", "show", fim_gguf)
    assert code == 0 and "79% Q4_1, 21% Q8_0" in out and "chat template  yes" in out
    part = tmp_path / "m-00001-of-00002.gguf"
    part.symlink_to(fim_gguf)
    for name, what in ((part, "part m-00002-of-00002.gguf is missing"), (tmp_path / "x", "not a")):
        code, _, err = codegen("models", "show", name)
        assert code == 1 and what in err
