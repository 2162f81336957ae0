"""The viewer in a real browser: accessible, inert whatever it shows, in step with a run."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlencode

import pytest

from codegen.benchmarks.tools import chromium
from codegen.server.guard import listen, make_server
from codegen.server.viewer import Library, make_app
from tests.server.viewer.test_pages import EVIL, TOKEN, home

pytestmark = pytest.mark.long


def axe() -> str:
    """axe-core: the file that ``AXE_CORE`` names, or the one of a Python package."""
    if named := os.environ.get("AXE_CORE"):
        return Path(named).read_text(encoding="utf-8")
    spec = find_spec("axe_core_python")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("axe-core is not installed (pip install axe-core-python, or AXE_CORE=FILE)")
    return Path(spec.submodule_search_locations[0], "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    if chromium.find() is None:
        pytest.skip("Chromium is not installed; the pages are not looked at")
    with chromium.browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


class Served:
    """A viewer on a free port with the addresses of its pages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        sock = listen("127.0.0.1", 0)
        self.port = sock.getsockname()[1]
        app = make_app(Library([folder]), TOKEN, self.port, frozenset())
        self.server = make_server(app)
        self.thread = threading.Thread(target=self.server.run, args=([sock],))
        self.thread.start()

    def address(self, path: str, **query: object) -> str:
        return f"http://127.0.0.1:{self.port}{path}?{urlencode(query, doseq=True)}"

    def pages(self) -> dict[str, str]:
        base, other = f"{self.folder}/runs/base", f"{self.folder}/runs/other"
        samples = {"name": base, "table": "samples"}
        rows = [json.dumps([base, "samples", n]) for n in ("0", "1")]
        texts = {"name": f"{self.folder}/data", "table": "texts"}
        rollouts = {"name": f"{self.folder}/training", "table": "rollouts"}
        return {
            "index": self.address("/"),
            "run": self.address("/run", name=base),
            "training": self.address("/run", name=f"{self.folder}/training"),
            "rows": self.address("/rows", **samples),
            "sample": self.address("/row", **samples, n="1"),
            "text": self.address("/row", **texts, n="0"),
            "preference": self.address("/row", **texts, n="1"),
            "rollout": self.address("/row", **rollouts, n="1"),
            "diff": self.address("/diff", row=rows),
            "compare": self.address("/compare", run=[base, other]),
            "missing": self.address("/run", name="none"),
        }


@pytest.fixture(scope="module", params=[EVIL, "plain"], ids=["hostile", "plain"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory,
    browser: chromium.Browser,
) -> Iterator[Served]:  # fmt: skip
    made = Served(home(tmp_path_factory.mktemp("home"), request.param))
    browser.open(made.address("/", token=TOKEN))
    yield made
    made.server.should_exit = True
    made.thread.join()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_are_accessible_and_fit(
    browser: chromium.Browser, served: Served, width: int, dark: bool
) -> None:
    script = axe()
    browser.look(width, dark=dark)
    faults: dict[str, list[str]] = {}
    for name, address in served.pages().items():
        browser.errors.clear()
        browser.requests.clear()
        browser.open(address)
        browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
        wide = browser.run("document.documentElement.scrollWidth")
        ours = f"http://127.0.0.1:{served.port}/"
        assert all(url.startswith((ours, "data:")) for url in browser.requests), name
        assert [e for e in browser.errors if "404" not in e or name != "missing"] == [], name
        browser.run(script + "; 0")
        faults[name] = [f"{wide} pixels wide"] if wide > width else []
        faults[name] += browser.run(
            "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map(v =>"
            "`${v.id}: ${v.nodes.slice(0, 3).map(n => n.html).join(' | ')}`))"
        )
    assert {name: found for name, found in faults.items() if found} == {}
    assert browser.dialogs == []


def test_the_keyboard_reaches_everything_and_moves_between_records(
    browser: chromium.Browser, served: Served
) -> None:
    browser.look(1280)
    browser.open(served.pages()["sample"])

    codes = {"Tab": 9, "ArrowRight": 39, "ArrowLeft": 37}

    def press(key: str) -> None:
        which = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        for kind in ("keyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, **which)

    browser.run(
        "window.REACHED = new Set(); addEventListener('focusin', e => REACHED.add(e.target))"
    )
    count = browser.run(
        "[...document.querySelectorAll('a[href],button,input,select,summary,[tabindex=\"0\"]')]"
        ".filter(e => e.checkVisibility() && !e.disabled).length"
    )
    for _ in range(count + 3):
        press("Tab")
    assert browser.run("REACHED.size") >= count
    browser.run("document.activeElement.blur()")
    press("ArrowRight")
    browser.wait("location.search.includes('n=2')")
    browser.wait("document.readyState === 'complete'")
    press("ArrowLeft")
    browser.wait("location.search.includes('n=1')")


def test_filters_apply_at_once_and_make_short_addresses(
    browser: chromium.Browser, served: Served
) -> None:
    browser.look(1280)
    browser.open(served.pages()["rows"])
    select = "[...document.querySelectorAll('select')].find(s => s.name.startsWith('f.'))"
    value = browser.run(f"{select}.options[1].value")
    browser.run(
        f"(() => {{ const s = {select}; s.selectedIndex = 1;"
        "s.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )
    browser.wait("location.search.includes('f.') && document.readyState === 'complete'")
    assert browser.run("[...new URLSearchParams(location.search).values()].every(Boolean)")
    assert browser.run(f"{select}.value") == value
    boxes = "document.querySelectorAll('tbody input[type=checkbox]')"
    browser.open(served.pages()["rows"])
    browser.run(f"{boxes}[0].click(); {boxes}[2].click();"
                "document.querySelector('.actions button').click()")  # fmt: skip
    browser.wait("location.pathname === '/diff' && document.readyState === 'complete'")
    assert browser.run("document.querySelectorAll('.del, .add').length") > 0


def test_steps_are_stepped_through_and_news_are_told(
    browser: chromium.Browser, served: Served
) -> None:
    browser.look(1280)
    browser.open(served.pages()["sample"])
    assert browser.run("document.querySelectorAll('.steps > li:not([hidden])').length") == 1
    browser.open(served.address("/rows", name=f"{served.folder}/training", table="rollouts"))
    news = "document.querySelector('.news')"
    assert browser.run(f"{news}.hidden") is True
    with (served.folder / "training" / "rollouts.jsonl").open("a") as file:
        file.write('{"step": 9, "problem_id": "p", "completion": "new", "rewards": {}}\n')
    browser.wait(f"!{news}.hidden")
    browser.run(f"{news}.querySelector('a').click()")
    browser.wait("document.body?.textContent.includes('Step 9')")
