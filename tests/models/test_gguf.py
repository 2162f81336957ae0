"""GGUF headers against the library ``gguf``, and files that are not what they seem."""

from __future__ import annotations

import os
import random
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from codegen.core.errors import InputError, ModelError
from codegen.evals.tasks import STYLES, PromptStyle
from codegen.models import fingerprint_of, resolve
from codegen.models.gguf import FIM_TOKEN, all_parts, find_gguf, read_header


def write(path: Path, arch: str = "llama", **keys: Any) -> Path:
    """A GGUF file with two small tensors and keys of many types."""
    writer = GGUFWriter(path, arch)
    writer.add_uint32(f"{arch}.context_length", 77)
    writer.add_float64("a.double", 2.5)
    writer.add_bool("a.bool", True)
    writer.add_int8("a.small", -3)
    writer.add_uint64("a.large", 2**63)
    writer.add_array("a.texts", ["one", "zwei", "три"])
    writer.add_array("a.numbers", [1, 2, 3, 4])
    writer.add_array("tokenizer.ggml.tokens", ["a", "<fim_prefix>", "<|fim_middle|>", "prefix"])
    writer.add_string("tokenizer.chat_template", "{{ messages }} ü")
    for key, value in keys.items():
        writer.add_uint16(key.replace("_", "."), value)
    writer.add_tensor("first", np.zeros((4, 32), dtype=np.float32))
    writer.add_tensor("second", np.ones((8,), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def expected(path: Path) -> tuple[dict[str, Any], int]:
    """Keys and parameters as the library reads them."""
    reader = GGUFReader(path)
    keys: dict[str, Any] = {}
    for name, field in reader.fields.items():
        if not name.startswith("GGUF."):
            content = field.contents()
            keys[name] = len(content) if isinstance(content, list) else content
    return keys, sum(int(tensor.n_elements) for tensor in reader.tensors)


def test_headers_are_read_as_the_library_reads_them(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", a_short=7)
    header = read_header(path)
    assert (header.keys, header.parameters) == expected(path)
    assert header.tensor_types == {"F32": 128, "F16": 8}
    assert (header.architecture, header.context, header.shards) == ("llama", 77, 1)
    assert header.chat_template == "{{ messages }} ü"
    assert header.fim_tokens == ("<fim_prefix>", "<|fim_middle|>")


@pytest.mark.parametrize("style", [style for style in STYLES.values() if style.ask == "infill"])
def test_the_sentinels_of_all_prompt_styles_are_known(style: PromptStyle) -> None:
    sentinels = re.findall(r"<[^<>]+>|\[[A-Z]+\]", style.template)
    assert len(sentinels) >= 2 and all(FIM_TOKEN.fullmatch(token) for token in sentinels)


def test_a_real_header_is_read_as_the_library_reads_it(embedded_gguf: Path) -> None:
    header = read_header(embedded_gguf)
    assert (header.keys, header.parameters) == expected(embedded_gguf)
    assert header.parameters == 134_515_008 and header.context == 8192


def test_a_header_cut_anywhere_is_one_error(tmp_path: Path) -> None:
    whole = write(tmp_path / "m.gguf").read_bytes()
    end = whole.index(b"second") + len(b"second") + 4 + 8 + 4 + 8
    cut = tmp_path / "cut.gguf"
    for length in range(end):
        cut.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"not a GGUF file|corrupt"):
            read_header(cut)
    cut.write_bytes(whole[:end])
    assert read_header(cut).parameters == 136


def test_damage_is_read_or_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "m.gguf").read_bytes()
    rng, path, refused = random.Random(1), tmp_path / "x.gguf", 0
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
        path.write_bytes(data)
        try:
            read_header(path)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
    assert 300 < refused < 2000


@pytest.mark.parametrize("field", ["tensors", "keys"])
def test_absurd_counts_are_refused_at_once(tmp_path: Path, field: str) -> None:
    counts = (2**62, 1) if field == "tensors" else (1, 2**62)
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, *counts))
    with pytest.raises(InputError, match=f"declares 4,611,686,018,427,387,904 {field}"):
        read_header(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.gguf")  # opening it would wait forever
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "loop.gguf").symlink_to("loop.gguf")
    for name in ("fifo", "folder"):
        with pytest.raises(InputError, match="is not a regular file"):
            read_header(tmp_path / f"{name}.gguf")
    with pytest.raises((InputError, ModelError), match=r"loop\.gguf"):
        found = find_gguf(str(tmp_path / "loop.gguf"))
        assert found and read_header(found)
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(InputError, match="begins with b'hell'"):
        read_header(tmp_path / "text.gguf")


def test_names_of_files_and_directories(tmp_path: Path) -> None:
    one = write(tmp_path / "one.GGUF")
    (tmp_path / "link.gguf").symlink_to(one)
    assert find_gguf(str(one)) == one
    assert find_gguf(str(tmp_path / "link.gguf")) == tmp_path / "link.gguf"
    assert find_gguf("org/name") is None and find_gguf("embedded") is None
    with pytest.raises(ModelError, match=r"Cannot read none\.gguf: No such file"):
        find_gguf("none.gguf")
    with pytest.raises(ModelError, match=r"File name too long|Cannot read"):
        find_gguf("x" * 300 + ".gguf")
    with pytest.raises(ModelError, match="not a file name"):
        find_gguf("a\0b.gguf")
    with pytest.raises(ModelError, match="contains several GGUF files"):
        find_gguf(str(tmp_path))
    (tmp_path / "link.gguf").unlink()
    (tmp_path / "mmproj-f16.gguf").write_bytes(b"")
    assert find_gguf(str(tmp_path)) == one
    (tmp_path / "config.json").write_text("{}")
    assert find_gguf(str(tmp_path)) is None


def test_embedded_is_never_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "embedded").mkdir()
    write(tmp_path / "embedded" / "m.gguf")
    write(tmp_path / "n.gguf")
    monkeypatch.chdir(tmp_path)
    assert find_gguf("embedded") is None and find_gguf("") is None
    assert find_gguf("./embedded") == Path("embedded/m.gguf")


def test_a_model_in_parts_is_named_by_its_first(tmp_path: Path) -> None:
    names = [f"m-{i:05}-of-00003.gguf" for i in (1, 2, 3)]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    first = tmp_path / names[0]
    assert find_gguf(str(first)) == find_gguf(str(tmp_path)) == first
    assert [part.name for part in all_parts(first)] == names
    with pytest.raises(ModelError, match="not the first part of its model"):
        find_gguf(str(tmp_path / names[1]))
    before = fingerprint_of(str(first))
    (tmp_path / names[2]).write_bytes(b"other")
    assert fingerprint_of(str(first)) != before
    (tmp_path / names[2]).unlink()
    with pytest.raises(InputError, match=r"m-00003-of-00003\.gguf: No such file"):
        fingerprint_of(str(first))


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.gguf"), write(tmp_path / "two.gguf")
    assert fingerprint_of(str(one)) == fingerprint_of(str(two))
    write(two, a_short=1)
    assert fingerprint_of(str(one)) != fingerprint_of(str(two))


def test_where_the_original_weights_are_needed_a_gguf_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "one.gguf")
    with pytest.raises(ModelError, match=r"is a GGUF file, which llama\.cpp runs"):
        resolve(str(path))
