"""A run directory that came from a stranger: nothing outside of it may be written, cut or sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_generators import Counter, Echo

from codegen.core.errors import CodegenError, InputError
from codegen.data import run
from codegen.data.manifest import Shard
from codegen.data.merge import merge


@pytest.mark.parametrize("name", ["rejects.jsonl", "kept.jsonl", "data-00000.jsonl"])
def test_a_merge_reads_through_no_link(tmp_path: Path, name: str) -> None:
    for index in range(2):
        shard = Shard(index, 2)
        run(Echo(), Counter(20), tmp_path / str(index), seed=5, workers=1, shard=shard)
    real = tmp_path / "elsewhere"
    (tmp_path / "1" / name).rename(real)
    (tmp_path / "1" / name).symlink_to(real)
    with pytest.raises(InputError, match="symbolic link"):
        merge([tmp_path / "0", tmp_path / "1"], tmp_path / "out")


@pytest.mark.parametrize("name", ["manifest.json", "data-00000.jsonl", "rejects.jsonl"])
def test_a_file_nested_too_deeply_is_one_line(tmp_path: Path, name: str, codegen: Any) -> None:
    run(Echo(), Counter(5), tmp_path / "data", seed=5, workers=1)
    (tmp_path / "data" / name).write_text("[" * 100_000 + "\n")
    for words in (("inspect",), ("merge", "--out", str(tmp_path / "out"))):
        code, _, told = codegen("data", words[0], tmp_path / "data", *words[1:])
        if name != "rejects.jsonl" or code:
            assert code == 1 and len(told.strip().splitlines()) == 1, told
            assert "bug in codegen" not in told


@pytest.mark.parametrize("name", ["kept.jsonl", "rejects.jsonl", "data-00000.jsonl"])
@pytest.mark.parametrize("line", ["{", "3", "{}", '{"input": "x"}', "[" * 3000, '{"input": 0}'])
def test_a_damaged_shard_is_one_line(tmp_path: Path, name: str, line: str) -> None:
    for index in range(2):
        run(Echo(), Counter(60), tmp_path / f"{index}", seed=5, workers=1, shard=Shard(index, 2))
    file = tmp_path / "0" / name
    file.write_text(line + "\n" + file.read_text().partition("\n")[2])
    with pytest.raises(CodegenError) as error:
        merge([tmp_path / "0", tmp_path / "1"], tmp_path / "out")
    assert "\n" not in str(error.value)
