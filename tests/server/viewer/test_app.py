"""The viewer's pages: whatever the data holds, they are sound, inert and reachable; and guarded."""

from __future__ import annotations

import html
import json
import re
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from starlette.testclient import TestClient

from codegen.core.records import Segment, TrainingText, to_json
from codegen.lintseq import LintSeq
from codegen.server.viewer import Library, make_app

TOKEN = "a-token-of-the-tests"
EVIL = "<script>alert(1)</script>\"'&{{ 7 * 7 }}\x1b[31m\u202eevil\ud800</pre><img src=x>"
VOID = {"meta", "input", "br", "link", "circle", "rect", "line", "polygon", "polyline"}


class Checked(HTMLParser):
    """Checks that elements nest, and that scripts and handlers are ours."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []
        assert len(set(self.ids)) == len(self.ids)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        named = dict(attrs)
        assert tag not in ("img", "iframe", "object", "style")
        assert not any(name.startswith("on") or name == "style" for name in named)
        assert tag != "script" or named == {"src": "/script.js"}
        if tag not in VOID:
            self.open.append(tag)
        if "id" in named:
            self.ids.append(named["id"])
        if tag == "a":
            self.links.append(named["href"])

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def client(*places: Path, token: str | None = TOKEN) -> TestClient:
    app = make_app(Library(places), token, 80, frozenset())
    made = TestClient(app, base_url="http://127.0.0.1")
    if token:
        assert made.get(f"/?token={token}").status_code == 200
    return made


def lines(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def samples_of(text: str, count: int = 3) -> list[dict[str, Any]]:
    return [
        {"task": text, "problem_id": f"p{n % 2}{text}", "index": n // 2, "prompt": text,
         "completion": f"{text}\nreturn {n}\n", "finish_reason": "stop",
         "settings": {text: text}, "seed": 0, "prompt_tokens": 1, "completion_tokens": n + 1,
         "actions": f"<|diff|>@@ -0,0 +1 @@\n+{text}\n" if n else "", "meta": {"style": text}}
        for n in range(count)
    ]  # fmt: skip


def home(folder: Path, text: str) -> Path:
    """A directory with every kind of record, all texts of which are ``text``."""
    run = folder / "runs" / "base"
    rows = samples_of(text)
    lines(run / "samples.jsonl", rows)
    lines(run / "verdicts.jsonl", [
        {"problem_id": row["problem_id"], "index": row["index"], "status": "wrong",
         "trust": "in_sandbox", "cpu_s": 0.1, "message": text, "output": text} for row in rows
    ])  # fmt: skip
    settings = {"task": text, "model": text, "n": 1}
    (run / "run.json").write_text(json.dumps({"settings": settings}))
    other = folder / "runs" / "other"
    lines(other / "samples.partial.jsonl", rows[:1])
    (other / "run.json").write_text(json.dumps({"settings": {**settings, "n": 2}}))
    lines(other / "failed.jsonl", [{"problem_id": text, "index": 0, "reason": text}])
    data = folder / "data"
    segments = [{"text": text, "train": False}, {"text": f"<|diff|>{text}", "train": True}]
    row = {"id": text, "example_id": text, "generator": "lintseq", "segments": segments}
    lines(data / "data-00000.jsonl", [
        {**row, "meta": {text: text, "edits": 1}},
        {"id": text, "example_id": text, "generator": text, "prompt": text, "chosen": text,
         "rejected": f"{text}!", "meta": {}},
        {"id": text, "example_id": text, "generator": text, "prompt": text, "completion": text,
         "label": True, "meta": {}},
        {"id": text, "segments": [[text]]},  # of a wrong form
        {"messages": [{"role": text, "content": text}]},
        {text: {text: text}, "n": 1},
        text,
        None,
    ])  # fmt: skip
    lines(data / "rejects.jsonl", [
        {"id": text, "outcome": "skipped", "reason": text, "detail": text, "input": 0}
    ])  # fmt: skip
    manifest = {"run": {"generator": text, "source": {"spec": text}}, "texts": 8}
    (data / "manifest.json").write_text(json.dumps(manifest))
    training = folder / "training"
    lines(training / "rollouts.jsonl", [
        {"step": step, "problem_id": text, "index": 0, "completion": text, "program": text,
         "status": "passed", "trust": "isolated", "message": text, "reward": step / 3,
         "rewards": {text: [0.5, text]}, "solved": False, "suspects": [text], "tokens": 3,
         "finish_reason": "eos", "cpu_s": 0.1, "earlier": [[text, "wrong"]]}
        for step in (1, 2, 3)
    ])  # fmt: skip
    recipe = {"model": text, "objective": "grpo", "steps": 3, "learning_rate": 0.1}
    (training / "recipe.json").write_text(json.dumps(recipe))
    return folder


def crawl(made: TestClient) -> dict[str, str]:
    """All pages that links lead to: address -> text."""
    found: dict[str, str] = {}
    waiting = ["/"]
    while waiting:
        address = waiting.pop()
        if address in found or not address.startswith("/"):
            continue
        answer = made.get(address)
        assert answer.status_code == 200, address
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        found[address] = answer.text
        if answer.headers["content-type"].startswith("text/html"):
            waiting += Checked(answer.text).links
    return found


@pytest.mark.parametrize("text", [EVIL, "plain"])
def test_every_page_is_sound_and_shows_its_texts_as_texts(tmp_path: Path, text: str) -> None:
    made = client(home(tmp_path, text))
    found = crawl(made)
    kinds = {urlsplit(address).path for address in found}
    assert kinds == {"/", "/run", "/rows", "/row", "/raw"}
    tables = {dict(parse_qsl(urlsplit(a).query)).get("table") for a in found}
    assert tables >= {"samples", "failed", "texts", "rejects", "rollouts"}
    if text == EVIL:
        raw = {a: page for a, page in found.items() if urlsplit(a).path == "/raw"}
        pages = "".join(page for address, page in found.items() if address not in raw)
        assert "<script>alert" not in pages
        assert "{{ 7 * 7 }}\\u001b[31m\\u202eevil\\ud800</pre>" in html.unescape(pages)
        assert "\u202e" not in pages
        assert "\x1b" not in pages
        (failed,) = (page for address, page in raw.items() if "table=failed" in address)
        assert json.loads(failed)["row"]["reason"] == EVIL


def test_a_filter_finds_values_whatever_characters_are_in_them(tmp_path: Path) -> None:
    made = client(home(tmp_path, EVIL))
    base = f"{tmp_path}/runs/base"
    page = made.get("/rows", params={"name": base, "table": "samples"}).text
    select = page.split('name="f.problem"', 1)[1].split("</select>", 1)[0]
    offered = [html.unescape(v) for v in re.findall(r'<option value="([^"]+)"', select)]
    assert len(offered) == 2
    for value, count in zip(offered, (2, 1), strict=True):
        query = {"name": base, "table": "samples", "f.problem": value}
        found = made.get("/rows", params=query).text
        assert f"{count} row" in found.split('class="count"', 1)[1][:60]


def values(page: str, name: str) -> list[str]:
    return [html.unescape(v) for v in re.findall(rf'name="{name}" value="([^"]*)"', page)]


@pytest.mark.parametrize("text", [EVIL, "plain"])
def test_runs_are_compared(tmp_path: Path, text: str) -> None:
    made = client(home(tmp_path, text))
    base = f"{tmp_path}/runs/base"
    runs = values(made.get("/").text, "run")
    assert len(runs) == 4
    page = made.get("/compare", params={"run": [base, f"{tmp_path}/runs/other"]})
    assert page.status_code == 200
    Checked(page.text)
    assert re.search(r'<th scope="row"[^>]*>n</th><td>1</td><td>2</td>', page.text)
    assert made.get("/compare", params={"run": [base, base]}).status_code == 400
    assert made.get("/compare", params={"run": [base, "none"]}).status_code == 404


def test_only_what_was_given_can_be_reached(tmp_path: Path) -> None:
    secret = tmp_path / "secret" / "data-00000.jsonl"
    lines(secret, [{"id": "of_others", "text": "of_others"}])
    folder = home(tmp_path / "given", "plain")
    (folder / "data" / "data-00001.jsonl").symlink_to(secret)
    (folder / "linked").symlink_to(secret.parent)
    made = client(folder)
    assert "of_others" not in "".join(crawl(made).values())
    data = f"{folder}/data"
    for name, table in ((str(secret), ""), (f"{data}/../../secret", "texts"), ("/", "texts"),
                        (data, "../rejects"), (data, "data-00001.jsonl")):  # fmt: skip
        for path in ("/run", "/rows", "/row", "/raw"):
            query = {"name": name, "table": table, "n": "0"}
            is_there = path in ("/run",) and name == data
            assert made.get(path, params=query).status_code == (200 if is_there else 404)
    for query in ({"n": "99999"}, {"n": "x"}, {"page": "999"}, {"page": "-1"}, {"page": "x" * 99},
                  {"sort": "nothing"}, {"f.unknown": "x"}, {"q": "\x00" * 2000}):  # fmt: skip
        address = "/row" if "n" in query else "/rows"
        code = made.get(address, params={"name": data, "table": "texts", **query}).status_code
        assert code == (404 if "n" in query else 200)
    assert made.get("/../../etc/passwd").status_code == 404
    assert made.post("/", json={}).status_code == 405


def test_the_token_opens_the_pages_and_nothing_else_does(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", [{"text": "hidden"}])
    app = make_app(Library([tmp_path]), TOKEN, 8015, frozenset())
    made = TestClient(app, base_url="http://127.0.0.1:8015", follow_redirects=False)
    for address in ("/", "/style.css", "/?token=", "/?token=wrong"):
        answer = made.get(address)
        assert answer.status_code == 401
        assert "hidden" not in answer.text
    answer = made.get(f"/rows?name={tmp_path}&token={TOKEN}&table=a.jsonl")
    assert answer.status_code == 303
    assert TOKEN not in answer.headers["location"]
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    followed = made.get(answer.headers["location"])
    assert followed.status_code == 200
    assert "hidden" in followed.text
    assert TOKEN not in followed.text
    # A page elsewhere: by its own name for this address, or from its own origin.
    assert made.get("/", headers={"host": "evil.example"}).status_code == 421
    assert made.get("/", headers={"origin": "http://evil.example"}).status_code == 403
    other = TestClient(app, base_url="http://127.0.0.1:8015", cookies={"codegen-view-80": TOKEN})
    assert other.get("/").status_code == 401
    assert client(tmp_path, token=None).get("/").status_code == 200


@pytest.mark.slow
def test_the_command_prints_an_address_that_opens_and_stops_at_ctrl_c(tmp_path: Path) -> None:
    folder = home(tmp_path, "plain") / "runs" / "base"
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    command = [sys.executable, "-m", "codegen", "view", str(folder), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        said: list[str] = []
        while not (found := re.search(r"Open (\S+)", said[-1] if said else "")):
            said.append(process.stderr.readline())
            assert process.poll() is None, said
        answer = httpx.get(found[1], follow_redirects=False)
        assert answer.status_code == 303
        page = httpx.get(found[1].partition("?")[0], cookies=answer.cookies)
        assert str(folder) in page.text
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr.read().endswith("Stopped.\n")
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


def test_edit_sequences_are_shown_edit_by_edit(tmp_path: Path) -> None:
    import random

    from codegen.core.records import Example

    program = "import os\n\n\ndef f(x):\n    if x:\n        return os.sep\n    return None\n"
    (text, *_) = LintSeq().generate(Example("e", "Do it.", program), random.Random(0))
    lines(tmp_path / "texts.jsonl", [json.loads(to_json(text))])
    page = client(tmp_path).get("/row", params={"name": str(tmp_path), "table": "texts.jsonl",
                                                "n": "0"}).text  # fmt: skip
    states = re.findall(r'<pre class="code" tabindex="0">(.*?)</pre>', page, re.DOTALL)
    assert len(states) == text.meta["edits"] > 1
    lasts = re.findall(r'<span class="(\w+)">(.*?)</span>', states[-1], re.DOTALL)
    assert "\n".join(html.unescape(line) for _, line in lasts) + "\n" == program
    before: list[str] = []
    for state in states:  # what is marked as added is what the state before lacks
        found = re.findall(r'<span class="(\w+)">(.*?)</span>', state, re.DOTALL)
        assert [line for kind, line in found if kind == "keep"] == before
        before = [line for _, line in found]


def test_of_a_scored_sample_the_program_that_was_run_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codegen.evals.scoring import ProblemScore, Score
    from codegen.evals.tasks import load as load_task
    from codegen.evals.tasks.validate import ReferenceGate

    lines(
        tmp_path / "problems.jsonl",
        [{"id": "one", "prompt": "def f(x):\n", "entry_point": "f", "tests": "assert f(1) == 2"}],
    )
    monkeypatch.chdir(tmp_path)
    task = load_task("file:problems.jsonl")
    (problem,) = task.problems()
    run = tmp_path / "run"
    row = samples_of("text", 1)[0]
    answer = "Here it is:\n```python\ndef f(x):\n    return x + 1\n```\nDone."
    row |= {"task": task.name, "problem_id": problem.id, "completion": answer, "actions": "",
            "meta": {"style": "chat"}}  # fmt: skip
    lines(run / "samples.jsonl", [row])
    lines(run / "verdicts.jsonl", [{"problem_id": problem.id, "index": 0, "status": "passed"}])
    gate = ReferenceGate(0, 0)
    problems = (ProblemScore(problem.id, 1, 1),)
    score = Score(task.name, task.source, True, {}, {"passed": 1}, problems,
                  1, 1, 1, {}, {}, {}, gate)  # fmt: skip
    (run / "score.json").write_text(score.to_json())
    made = client(run)
    query = {"name": str(run), "table": "samples", "n": "0"}
    page = html.unescape(made.get("/row", params=query).text)
    assert "<summary>Program</summary>" in page
    assert '<span class="">def f(x):</span><span class="">    return x + 1</span></pre>' in page
    assert 'class="badge passed"' in page
    assert "What the model wrote" in page
    (tmp_path / "problems.jsonl").unlink()  # the answer can be read without the task
    page = client(run).get("/row", params=query).text
    assert "<summary>Program</summary>" not in page
    assert "return x + 1" in page


def test_next_edits_are_shown_as_changes(tmp_path: Path) -> None:
    from codegen.core.records import Change, Edit
    from codegen.edits.formats import FORMATS

    before = "def f(a):\n    return a\n\nprint(f(1))\n"
    edit = Edit("m", "main.py", before, (Change("main.py", 0, "def g(a):\n", "def f(a):\n"),),
                (0, 4), 3, before.replace("f(1)", "f(2)"))  # fmt: skip
    rows = []
    for name in ("blocks", "window", "hunks", "blocks-qwen"):
        form = FORMATS[name]
        segments = (Segment(form.prompt(edit), False), Segment(form.answer(edit), True))
        text = TrainingText(name, "m", "edits", segments, {"format": name, "category": "c"})
        rows.append(json.loads(to_json(text)))
    lines(tmp_path / "texts.jsonl", rows)
    made = client(tmp_path)
    for number in range(len(rows)):
        page = html.unescape(made.get("/row", params={
            "name": str(tmp_path), "table": "texts.jsonl", "n": str(number)}).text)  # fmt: skip
        assert '<span class="del">def g(a):</span><span class="add">def f(a):</span>' in page
        assert '<span class="del">print(f(1))</span><span class="add">print(f(2))</span>' in page
        assert '<span class="keep">    return a</span>' in page
