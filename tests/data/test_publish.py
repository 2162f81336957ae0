"""Parquet and the hub: the same rows, whole or nothing, and clear refusals."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import TOKEN, Hub, hub
from huggingface_hub import HfApi
from tiny_generators import Counter, Echo

from codegen.core.errors import InputError
from codegen.core.records import TrainingText, from_dict, write_jsonl
from codegen.data import EngineOptions, load_manifest, read_texts, run
from codegen.data.publish import export_parquet, push
from tests.data.test_output import outside

OPTIONS = EngineOptions(shard_bytes=4000)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    out = tmp_path / "made"
    run(Echo(), Counter(150), out, workers=1, options=OPTIONS)
    return out


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with hub() as state:
        yield state


def api(server: Hub, token: str = TOKEN) -> HfApi:
    return HfApi(server.endpoint, token=token)


# --- Parquet ---


def read_parquet(*files: Path) -> list[TrainingText]:
    import pyarrow.parquet as pq

    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    return [from_dict(TrainingText, {**row, "meta": json.loads(row["meta"])}, "") for row in rows]


def test_the_same_rows_in_the_same_order(made: Path) -> None:
    files = export_parquet(made)
    assert [path.name for path in files] == [
        path.with_suffix(".parquet").name for path in sorted(made.glob("data-*.jsonl"))
    ]
    assert len(files) > 2
    assert read_parquet(*files) == list(read_texts(made))
    assert read_parquet(files[0]) == list(read_texts(made / "data-00000.jsonl"))


def test_other_tools_read_it(made: Path, tmp_path: Path) -> None:
    import datasets
    import pyarrow.parquet as pq

    export_parquet(made, tmp_path / "out")
    loaded = datasets.load_dataset(
        "parquet", data_dir=str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache")
    )
    texts = list(read_texts(made))
    assert loaded["id"] == [text.id for text in texts]
    assert [json.loads(meta) for meta in loaded["meta"]] == [text.meta for text in texts]
    assert loaded[0]["segments"] == [segment._asdict() for segment in texts[0].segments]
    metadata = pq.read_metadata(tmp_path / "out" / "data-00000.parquet")
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    assert metadata.metadata[b"codegen.fingerprint"].decode() == load_manifest(made).fingerprint
    # The directory itself is still read as the JSON Lines, without the copies.
    whole = datasets.load_dataset(str(made), split="train", cache_dir=str(tmp_path / "cache"))
    assert whole.num_rows == len(texts)


def test_any_meta_and_any_text(made: Path, tmp_path: Path) -> None:
    texts = list(read_texts(made / "data-00000.jsonl"))
    odd = [
        replace(texts[0], meta={}),
        replace(texts[0], meta={"a": {"b": [1, None, 2.5]}, "é": "\ud800"}),
        replace(texts[0], meta={"a": "text"}, segments=()),
        replace(texts[0], id="日本\x00語"),
    ]
    rewrite(made, odd)
    assert read_parquet(*export_parquet(made)) == odd


def rewrite(made: Path, texts: list) -> None:
    """Puts other texts into a data directory, and mends its manifest."""
    for path in made.glob("data-*.jsonl"):
        path.unlink()
    write_jsonl(made / "data-00000.jsonl", texts)
    size = (made / "data-00000.jsonl").stat().st_size
    manifest = load_manifest(made)
    files = ({"name": "data-00000.jsonl", "bytes": size, "texts": len(texts)},)
    (made / "manifest.json").write_text(replace(manifest, files=files).to_json())


def test_half_a_surrogate_pair_is_refused_whole(made: Path) -> None:
    texts = list(read_texts(made / "data-00000.jsonl"))
    rewrite(made, [texts[0], replace(texts[1], id="half \ud800")])
    with pytest.raises(InputError, match="contains a lone surrogate"):
        export_parquet(made)
    assert not (made / "parquet").exists()
    assert not list(made.glob(".*partial"))


def test_an_export_replaces_the_one_before_and_nothing_else(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_parquet(made, out)
    shutil.copy(out / "data-00000.parquet", out / "data-00099.parquet")
    export_parquet(made, out)
    assert not (out / "data-00099.parquet").exists()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"contains 'notes.txt'"):
        export_parquet(made, out)
    assert (out / "notes.txt").read_text() == "mine"
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is not a directory"):
        export_parquet(made, tmp_path / "file")


def test_a_directory_without_texts(tmp_path: Path) -> None:
    run(Echo(), Counter(0), tmp_path / "made", workers=1)
    assert export_parquet(tmp_path / "made") == []


@pytest.mark.parametrize("action", ["export", "push"])
def test_what_is_not_whole_is_refused(made: Path, tmp_path: Path, action: str) -> None:
    def act(directory: Path) -> None:
        if action == "export":
            export_parquet(directory)
        else:
            push(directory, "hub:me/data")

    with pytest.raises(InputError, match="no finished data"):
        act(tmp_path / "nothing")
    shard = made / "data-00001.jsonl"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(InputError, match=r"data-00001\.jsonl differs from the manifest"):
        act(made)
    shard.unlink()
    with pytest.raises(InputError, match=r"data-00001\.jsonl differs from the manifest"):
        act(made)
    shard.write_bytes(whole)
    (made / "data-00077.jsonl").write_bytes(whole)
    with pytest.raises(InputError, match=r"data-00077\.jsonl does not belong"):
        act(made)
    (made / "data-00077.jsonl").unlink()
    (made / "manifest.json").unlink()
    (made / ".partial").mkdir()
    with pytest.raises(InputError, match="no finished data"):
        act(made)


# --- the hub ---


def test_push_uploads_what_belongs_to_it(made: Path, server: Hub) -> None:
    export_parquet(made)
    (made / "notes.txt").write_text("mine")
    url = push(made, "hub:me/data", api=api(server))
    assert url == f"{server.endpoint}/datasets/me/data"
    expected = {
        str(path.relative_to(made)): path.read_bytes()
        for path in made.rglob("*")
        if path.is_file() and path.name != "notes.txt"
    }
    assert server.files == expected
    assert server.private is False


def test_a_second_push_leaves_no_stale_data(made: Path, server: Hub, tmp_path: Path) -> None:
    push(made, "hub:me/data", api=api(server))
    server.files["notes.md"] = b"of the owner"
    stale = set(server.files)
    small = tmp_path / "small"
    run(Echo(), Counter(20), small, workers=1)
    push(small, "hub:me/data", api=api(server))
    assert "data-00001.jsonl" in stale and "data-00001.jsonl" not in server.files
    assert server.files["data-00000.jsonl"] == (small / "data-00000.jsonl").read_bytes()
    assert server.files["notes.md"] == b"of the owner"


def test_private_is_kept(made: Path, server: Hub) -> None:
    push(made, "hub:me/data", private=True, api=api(server))
    assert server.private is True
    push(made, "hub:me/data", private=True, api=api(server))
    server.private, server.files = False, {}
    with pytest.raises(InputError, match="exists and is public"):
        push(made, "hub:me/data", private=True, api=api(server))
    assert server.files == {}


@pytest.mark.parametrize("target", ["hub:data", "hub:a/b/c", "hub:a b/c", "hub:", "x"])
def test_names_that_cannot_be(made: Path, target: str) -> None:
    with pytest.raises(InputError, match="not of the form hub:org/name"):
        push(made, target)


def test_nothing_to_push(tmp_path: Path) -> None:
    run(Echo(), Counter(0), tmp_path / "made", workers=1)
    with pytest.raises(InputError, match="contains no rows"):
        push(tmp_path / "made", "hub:me/data")


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_may_not_write(made: Path, server: Hub, status: int) -> None:
    server.refuse = status
    with pytest.raises(InputError, match="no write access") as caught:
        push(made, "hub:me/data", api=api(server))
    assert TOKEN not in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.__suppress_context__
    server.refuse = 0
    with pytest.raises(InputError, match="no write access"):
        push(made, "hub:me/data", api=api(server, token="hf_other"))


def test_no_network(made: Path) -> None:
    with pytest.raises(InputError, match="Check the network"):
        push(made, "hub:me/data", api=HfApi("http://127.0.0.1:9", token=TOKEN))


def command(
    server: Hub, made: Path, tmp_path: Path, *options: str, token: str = TOKEN
) -> subprocess.CompletedProcess[str]:
    """``codegen data push`` in a process of its own, since the library reads its settings once."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    env |= {"HF_ENDPOINT": server.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": token}
    code = "from codegen.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "data", "push", str(made), "hub:me/data", *options],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_command(made: Path, server: Hub, tmp_path: Path) -> None:
    done = command(server, made, tmp_path, "--private", "--json")
    assert done.returncode == 0, done.stderr
    url = f"{server.endpoint}/datasets/me/data"
    assert json.loads(done.stdout) == {"ok": True, "url": url, "private": True}
    assert server.files["manifest.json"] == (made / "manifest.json").read_bytes()
    server.refuse = 403
    refused = command(server, made, tmp_path)
    assert refused.returncode == 1
    assert "no write access" in refused.stderr and "Traceback" not in refused.stderr
    without = command(server, made, tmp_path, token="")
    assert without.returncode == 1 and "No token for the hub is set" in without.stderr
    for output in (done, refused, without):
        assert TOKEN not in output.stdout + output.stderr


@pytest.mark.parametrize("name", ["README.md", "card.md", "rejects.jsonl", "data-00000.jsonl",
                                  "parquet/data-00000.parquet", "parquet"])  # fmt: skip
def test_what_links_point_at_is_not_uploaded(tmp_path: Path, name: str) -> None:
    secret, out = outside(tmp_path), tmp_path / "out"
    run(Echo(), Counter(20), out, seed=5, workers=1)
    place = out / name
    place.parent.mkdir(exist_ok=True)
    content = place.read_bytes() if place.is_file() else b"x"
    place.unlink(missing_ok=True)
    secret.write_bytes(content)
    place.symlink_to(secret.parent if name == "parquet" else secret)
    with pytest.raises(InputError, match="symbolic link"):
        push(out, "hub:me/data", api=object())  # type: ignore[arg-type]


def test_an_export_goes_through_no_link(tmp_path: Path) -> None:
    secret, out = outside(tmp_path), tmp_path / "out"
    run(Echo(), Counter(20), out, seed=5, workers=1)
    (secret.parent / "data-00000.parquet").write_text("theirs")
    secret.unlink()
    (out / "parquet").symlink_to(secret.parent)
    with pytest.raises(InputError, match="symbolic link"):
        export_parquet(out)
    assert (secret.parent / "data-00000.parquet").read_text() == "theirs"
