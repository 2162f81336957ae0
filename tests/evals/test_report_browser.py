"""The report in a real browser: hostile text does nothing, samples can be read, all of it fits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen.evals.report import EditSteps, LossCurve, NamedScore
from codegen.evals.report import write_report as write
from codegen.evals.report.content import ProblemSamples, SampleView
from codegen.evals.scoring import ProblemScore, Score
from codegen.evals.statistics import Count, default_ks, estimate_pass_at_k
from codegen.evals.tasks.validate import ReferenceGate
from tests import chromium

pytestmark = pytest.mark.slow

# What would run or load something if it ever became markup or a URL.
HOSTILE = [
    "<script>window.HARM = 1; alert(1)</script>",
    '<img src=x onerror="window.HARM=1">',
    "<svg onload='window.HARM=1'><animate onbegin='window.HARM=1' attributeName=x dur=1s>",
    "</pre></details></script><script>fetch('http://127.0.0.1:9/leak')</script>",
    "<iframe src='http://127.0.0.1:9/f'></iframe><link rel=stylesheet href=http://127.0.0.1:9/c>",
    "<style>@import url(http://127.0.0.1:9/css);body{display:none}</style>",
    "javascript:window.HARM=1 <a href='javascript:window.HARM=1'>x</a>",
    "\"><b onmouseover=window.HARM=1>' onfocus='window.HARM=1' autofocus='",
    "${window.HARM=1} {{constructor.constructor('window.HARM=1')()}} `x`",
    "<!--<script>--><meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>]]>",
    "\u202eevil\u202c \x1b]8;;http://127.0.0.1:9/\x07x\x1b\\ \x00 \ud800 \u2028 </TITLE><script>",
]
ALL = "\n".join(HOSTILE)


def run_of(name: str, task: str, problems: dict[str, list[bool]], text: str) -> NamedScore:
    counts = [Count(len(p), sum(p)) for p in problems.values()]
    n = min(count.n for count in counts)
    estimates = {k: estimate_pass_at_k(counts, k) for k in default_ks(n)}
    passed = sum(count.c for count in counts)
    total = sum(count.n for count in counts)
    prompt = f'def f(x):\n    """{text}"""\n'
    views = {
        id_: ProblemSamples(
            prompt,
            [
                SampleView(
                    index=i,
                    status="passed" if good else "wrong",
                    message="" if good else f"AssertionError: {text}",
                    program=f"{prompt}    return {i}  # {text}\n",
                    answer=f"    return {i}  # {text}\n",
                    actions=text if i == 0 else "",
                    finish_reason="stop",
                    tokens=7,
                    output=text,
                )
                for i, good in enumerate(samples)
            ],
        )
        for id_, samples in problems.items()
    }
    score = Score(
        task=task,
        source="made up",
        complete=True,
        estimates={k: e for k, e in estimates.items() if e},
        statuses={"passed": passed, "wrong": total - passed},
        problems=tuple(ProblemScore(i, len(p), sum(p)) for i, p in problems.items()),
        problems_in_task=len(problems),
        samples=total,
        programs=total,
        settings={"model": name, text: text},
        sandbox={"backend": "fake"},
        versions={"codegen": "1"},
        reference=ReferenceGate(len(problems), len(problems), {}, {text: text}),
        notes=(text,),
    )
    return NamedScore(name, score, views)


PROBLEMS = {f"Task/{i}": [j < i % 7 for j in range(6)] for i in range(30)}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    if chromium.find() is None:
        pytest.skip("Chromium is not installed; the report is not looked at")
    with chromium.browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    problems = {ALL: [True, False]} | {text: [False, False] for text in HOSTILE} | PROBLEMS
    problems = {id_: (rows + rows)[:4] for id_, rows in problems.items()}
    runs = [run_of(ALL, "humaneval", problems, ALL), run_of("b", "humaneval", problems, ALL)]
    return write(
        runs,
        tmp_path_factory.mktemp("hostile") / "report.html",
        title=ALL,
        subtitle=ALL,
        losses=[LossCurve(ALL, [(1, 2.0), (2, 1.0)])],
        edit_steps=[EditSteps(ALL, ALL, [ALL, ALL + "\n" + ALL], "wrong")],
        notes=[ALL],
        versions={ALL: ALL},
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    better = {id_: sorted(rows, reverse=True) for id_, rows in PROBLEMS.items()}
    better = {i: [True, *rows[1:]] if int(i[5:]) % 3 else rows for i, rows in better.items()}
    runs = [run_of("base", "toy", PROBLEMS, "plain"), run_of("tuned", "toy", better, "plain")]
    return write(runs, tmp_path_factory.mktemp("page") / "report.html", title="A plain report")


OPEN_FIRST = "document.querySelector('tr[data-block] button.open-samples').click()"
OPENED = "document.querySelector('.viewer:not([hidden]) .code')"


def test_hostile_text_runs_nothing_and_asks_for_nothing(
    browser: chromium.Browser, hostile_page: Path
) -> None:
    browser.requests.clear()
    browser.look(1100)
    browser.open(hostile_page)
    count = browser.run("document.querySelectorAll('tr[data-block]').length")
    assert count == len({ALL, *HOSTILE}) + len(PROBLEMS)
    for number in range(len({ALL, *HOSTILE})):
        browser.run(f"document.querySelectorAll('tr[data-block] button')[{number}].click()")
        browser.wait(OPENED)
        browser.run("document.querySelectorAll('.viewer details').forEach(d => d.open = true)")
        browser.run("document.querySelector('.viewer .forward').click()")
        browser.run("document.querySelector('.viewer button').click()")
    browser.run(
        "for (const e of document.querySelectorAll('*'))"
        "for (const k of ['mouseover', 'focus', 'load']) e.dispatchEvent(new Event(k))"
    )
    assert browser.run("window.HARM") is None
    assert browser.dialogs == []
    assert browser.requests == [hostile_page.as_uri()]
    assert browser.errors == []
    scripts = "document.querySelectorAll('script:not([type])').length"
    assert browser.run(scripts) == 1
    for tag in ("iframe", "img", "link", "b", "animate", "meta[content^='0']", "base", "object"):
        assert browser.run(f"document.querySelectorAll({json.dumps(tag)}).length") == 0
    assert browser.run("document.querySelectorAll('[onload],[onerror],[onfocus]').length") == 0


def test_hostile_text_is_shown_as_it_is(browser: chromium.Browser, hostile_page: Path) -> None:
    browser.open(hostile_page)
    browser.run(OPEN_FIRST)
    browser.wait(OPENED)
    shown = browser.run("document.querySelector('.viewer').textContent")
    for text in HOSTILE[:-1]:
        assert text in shown
    for written in ("\\u202eevil", "\\u001b]8", "\\u0000", "\\ud800", "\\u2028"):
        assert written in shown
    assert "\u202e" not in browser.run("document.documentElement.textContent")


def test_samples_are_read_step_by_step_and_by_verdict(
    browser: chromium.Browser, page: Path
) -> None:
    browser.look(1100)
    browser.open(page)
    browser.run("document.querySelectorAll('tr[data-block]')[3].cells[1].click()")
    browser.wait(OPENED)

    def text(selector: str) -> Any:
        return browser.run(f"document.querySelector({json.dumps(selector)}).textContent")

    assert text(".viewer h4") == "Task/3"
    assert text(".viewer .where") == "1 of 6"
    assert text(".viewer .badge") == "passed"
    assert "return 0  # plain" in text(".viewer .code")
    assert "What it printed" in text(".viewer")
    browser.run("document.querySelector('.viewer .forward').click()")
    assert text(".viewer .where") == "2 of 6"
    assert "return 1  # plain" in text(".viewer .code")
    assert browser.run("document.activeElement.className") == "forward"
    browser.run(
        "(() => { const s = document.querySelectorAll('.viewer select')[1]; s.value = 'wrong';"
        "s.dispatchEvent(new Event('change')); })()"
    )
    assert (text(".viewer .where"), text(".viewer .badge")) == ("1 of 3", "wrong")
    assert "AssertionError: plain" in text(".viewer .message")
    key = "document.querySelector('.viewer h4').dispatchEvent(new KeyboardEvent('keydown', "
    browser.run(key + "{key: 'ArrowRight', bubbles: true}))")
    assert text(".viewer .where") == "2 of 3"
    browser.run(key + "{key: 'Escape', bubbles: true}))")
    assert browser.run("document.querySelector('.viewer').hidden") is True
    assert browser.run("document.activeElement.textContent") == "Task/3"
    assert browser.errors == []


SHOWN = (
    "[...document.querySelectorAll('.problems tbody tr')].filter(r => !r.hidden)"
    ".map(r => r.cells[0].textContent)"
)


def test_problems_are_sorted_and_searched(browser: chromium.Browser, page: Path) -> None:
    browser.open(page)
    every = browser.run(SHOWN)
    assert every == list(PROBLEMS)
    sort = "document.querySelectorAll('.problems thead button')[1].click()"
    browser.run(sort)
    rates = [sum(PROBLEMS[id_]) for id_ in browser.run(SHOWN)]
    assert rates == sorted(rates, reverse=True) != [sum(rows) for rows in PROBLEMS.values()]
    head = "document.querySelectorAll('.problems thead th')[1].getAttribute('aria-sort')"
    assert browser.run(head) == "descending"
    browser.run(sort)
    assert browser.run(head) == "ascending"
    # By name in the order of the task, not of the alphabet.
    browser.run("document.querySelectorAll('.problems thead button')[0].click()")
    assert browser.run(SHOWN) == every

    def search(wanted: str, deep: bool = False, which: str = "all") -> list[str]:
        browser.run(
            f"(() => {{ const t = document.querySelector('.tools'); const i = t.querySelectorAll("
            f"'input'); i[0].value = {json.dumps(wanted)}; i[1].checked = {json.dumps(deep)};"
            f"t.querySelector('select').value = {json.dumps(which)};"
            "i[1].dispatchEvent(new Event('change')); })()"
        )
        browser.wait("!document.querySelector('[aria-busy]')")
        return browser.run(SHOWN)

    assert search("task/1") == [id_ for id_ in every if id_.startswith("Task/1")]
    assert search("return 5") == []
    assert search("RETURN 5", deep=True) == every
    assert search("", which="none") == [
        id_ for id_ in every if not sum(PROBLEMS[id_]) and int(id_[5:]) % 3 == 0
    ]
    assert search("", which="every") == [id_ for id_, rows in PROBLEMS.items() if all(rows)]
    assert search("") == every


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1100, 390])
def test_it_fits_the_screen_and_can_be_read(
    browser: chromium.Browser, hostile_page: Path, page: Path, width: int, dark: bool
) -> None:
    browser.look(width, dark=dark)
    for file in (page, hostile_page):
        browser.open(file)
        browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
        browser.run(OPEN_FIRST)
        browser.wait(OPENED)
        assert browser.run("document.documentElement.scrollWidth") <= width
        colours = browser.run(
            "['color', 'backgroundColor'].map(name => getComputedStyle(document.body)[name])"
        )
        ink, paper = (sum(map(int, c[4:-1].split(",")[:3])) for c in colours)
        assert (ink > 600 and paper < 150) if dark else (ink < 150 and paper > 700)
    assert contrast_faults(browser) == []
    browser.run("document.querySelector('.note').style.color = 'rgb(128, 128, 128)'")
    faults = contrast_faults(browser)
    assert any("note" in fault for fault in faults) != dark  # the measure itself works


def contrast_faults(browser: chromium.Browser) -> list[str]:
    """Texts with less contrast than 4.5 to the nearest background of their own."""
    return browser.run(CONTRAST)


CONTRAST = """(() => {
  const parse = (c) => (c.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => {
    const part = (v) => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; };
    return .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
  };
  const behind = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color.length === 3 || color[3] > 0) layers.push(color);
      if (color.length === 3) break;
    }
    return layers.reverse().reduce((under, [r, g, b, a = 1]) =>
      [r, g, b].map((v, i) => v * a + under[i] * (1 - a)), [255, 255, 255]);
  };
  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim()) continue;
    if (element.closest("svg, script, [disabled], .skip")) continue;
    if (!element.checkVisibility?.({ checkOpacity: true })) continue;
    const one = light(parse(getComputedStyle(element).color)), other = light(behind(element));
    const contrast = (Math.max(one, other) + .05) / (Math.min(one, other) + .05);
    if (contrast < 4.5) found.add(`${element.tagName}.${element.className} ${contrast.toFixed(2)}`);
  }
  return [...found];
})()"""
