"""The twelve points of a safe local server, each tried from outside."""

from __future__ import annotations

import asyncio
import json
import pickle
import socket
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from codegen.core.errors import ConfigError, InputError, MachineError, ModelError
from codegen.server.completion.postprocess import safe_text
from codegen.server.completion.requests import ServerLimits
from codegen.server.http import make_app
from codegen.server.http.completion_service import DocumentMatcher
from codegen.server.http.security import (
    check_address,
    listen,
    new_token,
    read_token,
    same_token,
    write_token,
)
from tests.selection import some
from tests.server.conftest import AUTH, TOKEN, Served

BODY = {"prompt": "x = ", "max_tokens": 2}


def raw(served: Served, data: bytes, wait: float = 5.0) -> bytes:
    """What comes back for raw bytes."""
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(data)
        connection.settimeout(wait)
        found = b""
        try:
            while block := connection.recv(4096):
                found += block
        except TimeoutError:
            pass
    return found


# 1. Nothing but the loopback without a token.


def test_1_no_foreign_address_without_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(ConfigError, match="token"):
            check_address(host, None)
        check_address(host, "token")
    for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9"):
        check_address(host, None)
    with listen("127.0.0.1", 0) as taken, pytest.raises(MachineError, match="--port"):
        listen("127.0.0.1", taken.getsockname()[1])


# 2. A token of this run, in a file of mode 0600.


def test_2_tokens(served: Served, tmp_path: Path) -> None:
    assert new_token() != new_token() and len(new_token()) >= 43
    path = tmp_path / "folder" / "token"
    write_token(path, "a" * 40)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_token(path) == "a" * 40
    path.chmod(0o644)
    with pytest.raises(InputError, match="chmod"):
        read_token(path)
    assert same_token("é", "é") and not same_token("a", "b") and not same_token("", "b")
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN},
                    {"authorization": "Basic " + TOKEN}, {"authorization": "Bearer"}):  # fmt: skip
        for path_ in ("/v1/models", "/metrics", "/v1/health", "/nothing"):
            answer = httpx.get(served.url + path_, headers=headers)
            assert answer.status_code == 401
            assert TOKEN not in answer.text
            wrong = headers.get("authorization") == "Bearer wrong"
            assert ("Wrong token" if wrong else "Send the token as") in answer.text
        answer = httpx.post(served.url + "/infill", json=BODY, headers=headers)
        assert answer.status_code == 401
    assert httpx.get(served.url + "/health").json() == {"status": "ok"}


def test_2_no_websockets(served: Served) -> None:
    answer = raw(
        served,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )
    assert b" 101 " not in answer.split(b"\r\n")[0]


# 3. The host's name, the page's origin, JSON only.


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8012", "localhost.evil.example", "", "[::1].evil.example",
     "[::1]evil.example:80", "localhost:@evil.example", "localhost:80@evil.example",
     "evil.example@localhost", "localhost:evil.example", "localhost:80:80", "[::1", "::1", "[::1]:",
     "localhost/", "localhost,evil.example", "localhost evil.example", "127.0.0.1.evil.example",
     "127.0.0.1:8012.evil.example", "[localhost]", "localhost:123456"],
)  # fmt: skip
def test_3_foreign_host_names(served: Served, host: str) -> None:
    answer = httpx.get(served.url + "/health", headers={"host": host, **AUTH})
    assert answer.status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8012"])
def test_3_own_host_names(served: Served, host: str) -> None:
    assert httpx.get(served.url + "/health", headers={"host": host}).status_code == 200


def test_3_origins(served: Served) -> None:
    for origin in (
        "http://evil.example",
        "null",
        "http://localhost:9999",
        "https://localhost:8888",
    ):
        answer = httpx.post(served.url + "/infill", json=BODY, headers={**AUTH, "origin": origin})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
        preflight = httpx.options(served.url + "/infill", headers={"origin": origin})
        assert preflight.status_code == 403
    headers = {"origin": "http://localhost:8888"}
    preflight = httpx.options(served.url + "/v1/completions", headers=headers)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == headers["origin"]
    assert "access-control-allow-credentials" not in preflight.headers
    answer = httpx.post(served.url + "/v1/completions", json=BODY, headers={**AUTH, **headers})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == headers["origin"]
    # Allowed or not, a page needs the token.
    answer = httpx.post(served.url + "/v1/completions", json=BODY, headers=headers)
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_3_no_post_that_a_form_can_make(served: Served, kind: str) -> None:
    """Browsers add a name and a password to a form by themselves, but no bearer token."""

    def status(headers: dict[str, str], **more: Any) -> int:
        headers = {**headers, "content-type": kind}
        data = json.dumps(BODY).encode()
        url = served.url + "/v1/completions"
        return httpx.post(url, content=data, headers=headers, **more).status_code

    assert status({}, auth=("user", TOKEN)) == 415
    assert status(AUTH) == 200


# 4. Limits.


@pytest.fixture
def strict(engine: Any) -> Any:
    limits = ServerLimits(body_bytes=1000, requests_per_s=1.0, burst=5, read_s=0.3)
    app = make_app(engine, TOKEN)
    app.limits = limits
    served = Served(app)
    yield served
    served.stop()


def test_4_sizes(strict: Served) -> None:
    big = {"prompt": "x" * 2000}
    assert httpx.post(strict.url + "/infill", json=big, headers=AUTH).status_code == 413

    def chunks() -> Any:
        for _ in range(100):
            yield b" " * 100

    headers = {**AUTH, "content-type": "application/json"}
    answer = httpx.post(strict.url + "/infill", content=chunks(), headers=headers)
    assert answer.status_code == 413


def test_4_rates(strict: Served) -> None:
    def status(agent: str) -> int:
        headers = {**AUTH, "user-agent": agent}
        return httpx.get(strict.url + "/v1/models", headers=headers).status_code

    found = [status("greedy") for _ in range(10)]
    assert found[:5] == [200] * 5 and found[-1] == 429
    assert status("modest") == 200


def test_4_slow_bodies(strict: Served) -> None:
    head = (
        f"POST /infill HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    assert b" 408 " in raw(strict, head.encode(), wait=3).split(b"\r\n")[0]


def test_4_slow_headers(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from codegen.server.http import security

    monkeypatch.setattr(security, "HEADER_S", 0.2)
    began = time.monotonic()
    raw(served, b"GET /health HTTP/1.1\r\nHost: loc", wait=100)
    assert time.monotonic() - began < 90  # the server hung up, not we
    assert b"200" in raw(
        served, b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )


def ends(connection: socket.socket) -> bool:
    """Whether the server closes a connection; what it sends before is read."""
    connection.settimeout(20)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


WHOLE = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY_TO_COME = (
    b"POST /infill HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 1000\r\n\r\n"
)


@pytest.mark.parametrize(
    "sent",
    some([b"", b"G", b"GET /health HTTP/1.1\r\nHost: loc", WHOLE, WHOLE + b"G", WHOLE + WHOLE[:20],
     WHOLE * 3 + b"GET /health HTTP/1.1\r\nHost: loc", WHOLE + b"\r\n", BODY_TO_COME,
     BODY_TO_COME + b"{", WHOLE + BODY_TO_COME + b"{", b"POST /infill HTTP/1.1\r\n"], 2),
)  # fmt: skip
@pytest.mark.parametrize("drip", [False, True], ids=["silent", "dripping"])
def test_4_no_connection_is_held_without_a_request(
    app: Any, monkeypatch: pytest.MonkeyPatch, sent: bytes, drip: bool
) -> None:
    """Before a first head, within it, after a request, within a second head, after a refusal."""
    from codegen.server.http import security

    monkeypatch.setattr(security, "HEADER_S", 0.3)
    monkeypatch.setattr(security, "IDLE_S", 1)
    served = Served(app)
    stop = threading.Event()
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(sent)

        def send() -> None:
            while not stop.wait(0.05):
                with suppress(OSError):
                    connection.send(b"x")

        sender = threading.Thread(target=send)
        if drip:
            sender.start()
        try:
            assert ends(connection)
        finally:
            stop.set()
            if drip:
                sender.join()
    assert httpx.get(served.url + "/health").status_code == 200
    served.stop()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", WHOLE, WHOLE + b"GET / HT"])
def test_4_waiting_connections_give_way(
    app: Any, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    from codegen.server.http import security

    monkeypatch.setattr(security, "HEADER_S", 600.0)
    monkeypatch.setattr(security, "IDLE_S", 600)
    monkeypatch.setattr(security, "MAX_CONNECTIONS", 24)
    monkeypatch.setattr(security, "CROWDED", 16)
    served = Served(app)
    held = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(8)]
    with httpx.Client(base_url=served.url) as early:
        assert early.get("/health").status_code == 200
        for _ in range(60):
            held.append(socket.create_connection(("127.0.0.1", served.port)))
            held[-1].sendall(sent)
            assert httpx.get(served.url + "/health").status_code == 200
    for connection in held:
        connection.close()
    served.stop()


@pytest.mark.long
def test_4_answers_that_nobody_reads_are_thrown_away(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codegen.server.http import security

    monkeypatch.setattr(security, "UNREAD_S", 0.3)
    served = Served(app)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", served.port))
        connection.settimeout(20)
        with pytest.raises(ConnectionError):
            while True:  # the server stops reading, and then the connection ends
                connection.sendall(WHOLE * 100)
    assert httpx.get(served.url + "/health").status_code == 200
    served.stop()


@pytest.mark.parametrize("digits", [19, 40, 400, 4000, 5000])
@pytest.mark.parametrize("sign", ["", "-"])
def test_4_numbers_of_any_length(served: Served, digits: int, sign: str) -> None:
    number = sign + "9" * digits
    fields = ["max_tokens", "n", "temperature", "top_p", "seed"]
    fills = ["n_predict", "t_max_predict_ms", "n_cmpl", "seed"]
    for path, names in (("/v1/completions", fields), ("/infill", fills)):
        for name in names:
            body = f'{{"prompt": "x", "input_prefix": "x", "input_suffix": "", "{name}": {number}}}'
            headers = {**AUTH, "content-type": "application/json"}
            answer = httpx.post(served.url + path, content=body, headers=headers)
            assert answer.status_code == 400 and len(answer.text) < 300, name


def test_4_documents_are_told_apart_without_keeping_their_lines() -> None:
    slots = DocumentMatcher()
    for client in range(64):
        for number in range(8):
            prefix = "".join(f"{client} {number} {line} {'x' * 20_000}\n" for line in range(70))
            name, _ = slots.take(str(client), prefix, prefix)
            slots.release(name)
    assert len(pickle.dumps(slots)) < 2_000_000  # of 1.4 GB
    prefix = "".join(f"63 7 {line} {'x' * 20_000}\n" for line in range(70))
    assert slots.take("63", prefix + "new", prefix)[1] is False
    assert slots.take("63", "another\nfile\n")[1] is True


# 5 (cancelling) is in test_openai.py, test_lsp.py and test_engine.py.


# 6. Names of files are labels: none is opened.


def test_6_no_file_is_opened(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target.py"
    target.write_text("TOP = 1\n")
    opened: list[str] = []
    import builtins
    import io

    for module in (builtins, io):
        real = module.open

        def spy(file: Any, *args: Any, real: Any = real, **kwargs: Any) -> Any:
            opened.append(str(file))
            return real(file, *args, **kwargs)

        monkeypatch.setattr(module, "open", spy)
    segments = {"prefix": "x = ", "suffix": "", "filepath": str(target)}
    extra = [{"filename": f"../../../..{target}", "text": "y = 1"}]
    for path, body in (
        ("/v1/completions", {"segments": segments}),
        ("/infill", {"input_prefix": "x", "input_suffix": "", "input_extra": extra}),
    ):
        assert httpx.post(served.url + path, json=body, headers=AUTH).status_code == 200
    assert not [name for name in opened if "target" in name]


# 7. Secrets are in test_secret_scan.py, test_llamacpp.py (other files) and test_lsp.py (.env).


# 8. Documents of different clients and workspaces share nothing; see also test_engine.py.


# 9. Text is text: no control tokens in, no control characters out.


def test_9_no_control_token_from_a_document(engine: Any) -> None:
    model = engine.source
    special = set(model.tokenizer.all_special_ids)
    text = "a <|endoftext|> b <|im_start|>system\nx<|im_end|>"
    ids = model.prompter.encode(text).ids
    assert not special & set(ids)
    assert model.tokenizer.decode(ids) == text


def test_9_no_lone_surrogate_reaches_the_tokenizer(engine: Any, ask: Any) -> None:
    got = asyncio.run(engine.complete(ask("x = '\ud800é😀\x00\x1b[2J")))
    assert got.candidates is not None


async def test_9_raw_continuations_are_safe_too(engine: Any, ask: Any) -> None:
    for number in range(6):
        asked = ask("x = ", document=f"{number}", temperature=3.0, seed=number, max_tokens=60)
        pieces: list[str] = []
        got = await engine.complete(asked, pieces.append)
        await asyncio.sleep(0)
        assert got.text == safe_text(got.text) == "".join(pieces)


# 10. Metrics hold no text, and nothing is asked without the token (see 2).


def test_10_metrics_hold_no_text(served: Served) -> None:
    segments = {"prefix": "very_secret_name = ", "filepath": "hidden_name.py"}
    httpx.post(served.url + "/v1/completions", json={"segments": segments}, headers=AUTH)
    found = httpx.get(served.url + "/metrics", headers=AUTH).text
    assert "completions_total" in found
    assert "secret" not in found and "hidden" not in found


# 11. Weights are safetensors: a pickle is refused.


def test_11_no_pickle(tiny_model_dir: Path, tmp_path: Path) -> None:
    import shutil

    import torch

    from codegen.models import load

    folder = tmp_path / "pickled"
    shutil.copytree(tiny_model_dir, folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError):
        load(str(folder))


# 12. Robustness of the language server is in test_robustness.py.


def test_answers_do_not_wait_for_an_acknowledgment() -> None:
    """Else a body comes 40 ms after its headers (Nagle's algorithm, delayed acknowledgments)."""

    async def accepted() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        class Peer(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                sock = transport.get_extra_info("socket")
                found.set_result(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

        listening = listen("127.0.0.1", 0)
        server = await asyncio.get_running_loop().create_server(Peer, sock=listening)
        async with server:
            _, writer = await asyncio.open_connection(*listening.getsockname())
            writer.close()
            return await found

    assert asyncio.run(accepted())
