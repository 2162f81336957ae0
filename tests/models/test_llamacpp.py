"""GGUF files in a llama.cpp child process: real servers, real deaths, damaged files."""

from __future__ import annotations

import json
import os
import shutil
import struct
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen.core.config import parse_config
from codegen.core.errors import CodegenError, ConfigError, MachineError, ModelError
from codegen.models import llamacpp
from codegen.models.llamacpp import LlamaOptions, LlamaServer, physical_cores

ONE = LlamaOptions(slots=1, context=512, threads=1)


def ask(server: LlamaServer, route: str, body: Any = None, key: str | None = None) -> Any:
    request = urllib.request.Request(
        server.url + route,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {server.api_key if key is None else key}"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def test_a_server_completes_and_wants_its_key(llama_server: LlamaServer) -> None:
    body = {"prompt": "def add(a, b):\n    return a +", "max_tokens": 2, "temperature": 0}
    assert ask(llama_server, "/health", key="")["status"] == "ok"
    assert ask(llama_server, "/v1/completions", body)["choices"][0]["text"].startswith(" b")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask(llama_server, "/v1/completions", body, key="another")


def test_options_reach_the_server(embedded_gguf: Path, running: Callable[..., LlamaServer]) -> None:
    server = running(embedded_gguf, LlamaOptions(slots=3, context=640, threads=1))
    props = ask(server, "/props")
    assert props["total_slots"] == 3 and props["default_generation_settings"]["n_ctx"] == 768
    assert ask(server, "/v1/models")["data"][0]["id"] == embedded_gguf.stem
    default = running(embedded_gguf, LlamaOptions(slots=1, threads=1))
    assert ask(default, "/props")["default_generation_settings"]["n_ctx"] == 4096


def test_the_file_with_fim_tokens_infills(
    fim_gguf: Path, running: Callable[..., LlamaServer]
) -> None:
    body = {"input_prefix": "def f(", "input_suffix": "\n", "n_predict": 3}
    answer = ask(running(fim_gguf, ONE), "/infill", body)
    assert answer["tokens_predicted"] == 3
    assert answer["tokens_evaluated"] >= 6  # three sentinels and the text


def test_the_key_and_the_port_are_nobody_elses(llama_server: LlamaServer) -> None:
    process = Path("/proc", str(llama_server.pid))
    key = llama_server.api_key.encode()
    assert len(key) >= 24
    assert key not in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    sockets = {str(fd.readlink()) for fd in (process / "fd").iterdir()}
    rows = [line.split() for line in (process / "net/tcp").read_text().splitlines()[1:]]
    rows += [line.split() for line in (process / "net/tcp6").read_text().splitlines()[1:]]
    listening = [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    port = int(llama_server.url.rpartition(":")[2])
    assert listening == [f"0100007F:{port:04X}"]  # 127.0.0.1 alone


# ------------------------------------------------------------------ ends


@pytest.fixture
def running() -> Iterator[Callable[..., LlamaServer]]:
    """Starts servers that end with the test."""
    servers: list[LlamaServer] = []

    def start(*arguments: Any, **more: Any) -> LlamaServer:
        servers.append(LlamaServer(*arguments, **more))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def test_a_fork_does_not_end_its_parents_server(
    embedded_gguf: Path, running: Callable[..., LlamaServer]
) -> None:
    server = running(embedded_gguf, ONE)
    pid = os.fork()
    if pid == 0:
        server.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert ask(server, "/health")["status"] == "ok"


def test_a_closed_server_is_gone_and_its_port_and_key_can_be_used_again(
    embedded_gguf: Path, running: Callable[..., LlamaServer]
) -> None:
    server = running(embedded_gguf, ONE)
    pid, port = server.pid, int(server.url.rpartition(":")[2])
    server.close()
    server.close()
    assert not Path(f"/proc/{pid}").exists()
    again = running(embedded_gguf, ONE, port=port, api_key=server.api_key)
    assert (again.url, again.api_key) == (server.url, server.api_key)
    assert ask(again, "/v1/models")["data"]


# ------------------------------------------------------------------ files of strangers


def changed(source: Path, path: Path, key: str, value: bytes) -> Path:
    """A copy of a GGUF file with another value, of the same length, of a key."""
    shutil.copyfile(source, path)
    with source.open("rb") as file:
        head = file.read(1 << 16)
    at = head.index(key.encode()) + len(key) + 4  # the value's type
    at += 8 if struct.unpack_from("<I", head, at - 4)[0] == 8 else 0  # a text's length
    with path.open("r+b") as file:
        file.seek(at)
        file.write(value)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CodegenError) as caught:
        LlamaServer(path, ONE)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def test_damaged_and_unknown_files_give_one_line(embedded_gguf: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(embedded_gguf.read_bytes()[:9_000_000])
    assert "not within the file bounds" in refusal(cut)
    other = changed(embedded_gguf, tmp_path / "other.gguf", "general.architecture", b"alpha")
    assert "unknown model architecture: 'alpha'" in refusal(other)
    # An assertion of llama.cpp fails, which ends the whole process.
    layers = changed(embedded_gguf, tmp_path / "layers.gguf", "llama.block_count", bytes(4))
    assert "llama.cpp was killed by SIGABRT (llama-model.cpp:" in refusal(layers)


def test_too_little_memory_names_the_remedy(
    embedded_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not tried for real: another process might pay for it.
    (tmp_path / "xllamacpp.py").write_text(
        "import sys\n"
        "class CommonParams:\n"
        "    def __getattr__(self, name):\n"
        "        return CommonParams()\n"
        "def Server(params):\n"
        "    sys.stderr.write('0.00.1 E llama_kv_cache: insufficient memory (attempted 9 GB)\\n')\n"
        "    raise RuntimeError\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ModelError, match=r"does not load: insufficient memory .*Lower -o engine"):
        LlamaServer(embedded_gguf, ONE)


def test_a_context_beyond_the_models_is_refused(embedded_gguf: Path) -> None:
    with pytest.raises(ConfigError, match=r"context is 8193; .* trained with 8192 tokens"):
        LlamaServer(embedded_gguf, LlamaOptions(context=8193))


def test_a_missing_binding_names_the_remedy(
    embedded_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llamacpp.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MachineError, match=r"pip install 'codegen-toolkit\[gguf\]'"):
        LlamaServer(embedded_gguf, ONE)


def test_a_binding_that_does_not_fit_gives_one_line(
    embedded_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xllamacpp.py").write_text("class CommonParams: pass\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ModelError, match="AttributeError: 'CommonParams' object has no attribute"):
        LlamaServer(embedded_gguf, ONE)


def test_options_out_of_range_name_the_option() -> None:
    with pytest.raises(ConfigError, match="slots"):
        parse_config(LlamaOptions, {"slots": 0}, "-o engine")
    with pytest.raises(ConfigError, match="Did you mean 'threads'"):
        parse_config(LlamaOptions, {"thread": 1}, "-o engine")


def test_threads_are_physical_cores() -> None:
    assert 1 <= physical_cores() <= len(os.sched_getaffinity(0))


def test_a_context_that_llama_cpp_would_enlarge_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"multiples of 256 tokens. Pass at least 256"):
        LlamaOptions(context=255)
    assert LlamaOptions(context=256).context == 256 and LlamaOptions().context == 0
