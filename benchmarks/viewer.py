"""The viewer and the report at size: the index of a run, the time of a page, opening in Chromium.

What: a made-up scored run of HumanEval's problems whose programs are the reference solutions with
lines dropped and numbers changed, so that files and pages are as large as those of a model. Its
directory is indexed as ``codegen view`` does at its start (``index_s``, CPU seconds beside), then
pages are requested from the running server over loopback, each several times with a fresh search
text where the search is the point: ``page_PAGE_ms`` is the median of wall time, ``_worst`` the
longest. ``memory_mib`` is what the index added to the process.

Chromium, headless, with an empty profile: ``chromium_PAGE_ms`` is the time from the request to the
end of the page's load event, ``report_open_ms`` the same for the HTML file of ``codegen eval
report`` over ``report_samples`` samples, and ``report_sample_ms`` from a click on a problem to its
first sample. Null without Chromium.

Limits: wall time, so on a machine that is busy it is the neighbor's, too; the first opening of a
page in Chromium includes the start of its renderer and is left out.
"""

from __future__ import annotations

import contextlib
import json
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx2

from codegen.benchmarks.tools import chromium
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least
from codegen.benchmarks.tools.timing import measured, tree_rss_mib
from codegen.evals.report import ProblemSamples, SampleView, ScoredRun, write_report
from codegen.evals.score import ProblemScore, ReferenceGate, Score
from codegen.evals.statistics import Count, default_ks, estimate_pass_at_k
from codegen.evals.tasks import Problem, Task
from codegen.evals.tasks import load as load_task
from codegen.records import Sample, Status, Verdict, write_jsonl
from codegen.server.guard import listen, make_server
from codegen.server.viewer import Library, make_app

_STATUSES: Sequence[Status] = ("passed", "wrong", "wrong", "wrong", "error", "timeout")


def run(
    quick: bool = False,
    *,
    seed: int = 0,
    samples: int = 100_000,
    report_samples: int = 200,
    repeats: int = 9,
    keep: str = "",
) -> Mapping[str, object]:
    """Measures.

    Args:
        quick: a tenth of the samples.
        seed: of the made-up samples.
        samples: of the run that is viewed.
        report_samples: of each problem in the report.
        repeats: requests of each page.
        keep: a directory to leave the made-up run and the report in.
    """
    at_least(1, samples=samples, report_samples=report_samples, repeats=repeats)
    if quick:
        samples, report_samples, repeats = samples // 10, report_samples // 10, 5
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "starlette", "uvicorn", "numpy")
    task = load_task("humaneval")
    with tempfile.TemporaryDirectory(prefix="codegen-viewer-") as temporary:
        folder = Path(keep or temporary)
        say("making a run and a report")
        home = folder / "run"
        each = -(-samples // len(task.problems()))
        count = _make_run(home, task, each, random.Random(seed))
        page = _make_report(folder, task, report_samples, random.Random(seed))
        say("index")
        library = Library([home])
        before = tree_rss_mib()
        with measured() as spent:
            for source in library.first():
                for table in source.tables.values():
                    table.refresh()
        report.set("index_s", spent.wall_s, n=count)
        report.set("index_cpu_s", spent.cpu_s, n=count)
        report.set("memory_mib", tree_rss_mib() - before)
        report.set("file_mb", (home / "samples.jsonl").stat().st_size / 1e6)
        say("pages")
        with _served(library) as address:
            _pages(report, address, str(home), repeats)
            _in_chromium(report, folder, address, str(home), page, repeats)
    return report.mapping()


# --- made-up samples --------------------------------------------------------------------------


def _programs(task: Task[Any], each: int, rng: random.Random) -> Iterator[tuple[Problem, int, str]]:
    for problem in task.problems():
        lines = task.reference(problem)[len(problem.prompt) :].splitlines(keepends=True)
        for index in range(each):
            kept = [line for line in lines if rng.random() < 0.9]
            kept.append(f"    # {rng.getrandbits(160):040x}\n")
            yield problem, index, "".join(kept)


def _make_run(folder: Path, task: Task[Any], each: int, rng: random.Random) -> int:
    settings = {"model": "made-up", "decoder": "plain", "max_new_tokens": 256,
                "temperature": 0.8, "top_p": 0.95, "seed": 0}  # fmt: skip
    verdicts: list[Verdict] = []

    def samples() -> Iterator[Sample]:
        for problem, index, text in _programs(task, each, rng):
            status = rng.choice(_STATUSES)
            message = "NameError: name 'x' is not defined" if status == "error" else ""
            seconds = round(rng.random() / 9, 4)
            verdicts.append(Verdict(problem.id, index, status, cpu_s=seconds, message=message))
            yield Sample(task.name, problem.id, index, problem.prompt, text, "eos", settings,
                         rng.getrandbits(60), 130, rng.randrange(20, 256))  # fmt: skip

    count = write_jsonl(folder / "samples.jsonl", samples())
    write_jsonl(folder / "verdicts.jsonl", verdicts)
    (folder / "run.json").write_text(json.dumps({"settings": {**settings, "task": task.name}}))
    (folder / "score.json").write_text(json.dumps(asdict(_score(task, verdicts))))
    return count


def _score(task: Task[Any], verdicts: Sequence[Verdict]) -> Score:
    passed: dict[str, list[bool]] = {}
    for verdict in verdicts:
        passed.setdefault(verdict.problem_id, []).append(verdict.passed)
    counts = [Count(len(p), sum(p)) for p in passed.values()]
    estimates = {k: estimate_pass_at_k(counts, k) for k in default_ks(counts[0].n)}
    statuses: list[Status] = [verdict.status for verdict in verdicts]
    return Score(
        task=task.name,
        source=task.source,
        complete=True,
        estimates={k: e for k, e in estimates.items() if e},
        statuses={status: statuses.count(status) for status in dict.fromkeys(statuses)},
        problems=[ProblemScore(id_, len(p), sum(p)) for id_, p in passed.items()],
        problems_in_task=len(passed),
        samples=len(verdicts),
        programs=len(verdicts),
        settings={"model": "made-up", "temperature": 0.8},
        sandbox={},
        versions={},
        reference=ReferenceGate(len(passed), len(passed)),
    )


def _make_report(folder: Path, task: Task[Any], each: int, rng: random.Random) -> Path:
    views: dict[str, list[SampleView]] = {}
    prompts = {problem.id: problem.prompt for problem in task.problems()}
    verdicts = []
    for problem, index, text in _programs(task, each, rng):
        status = rng.choice(_STATUSES)
        verdicts.append(Verdict(problem.id, index, status))
        program = problem.prompt + text
        views.setdefault(problem.id, []).append(SampleView(index, status, "", program, text))
    samples = {id_: ProblemSamples(prompts[id_], found) for id_, found in views.items()}
    scored = ScoredRun("made-up", _score(task, verdicts), samples)
    return write_report([scored], folder / "report.html")


# --- pages ------------------------------------------------------------------------------------


@contextlib.contextmanager
def _served(library: Library) -> Iterator[str]:
    """The address of the viewer on a free port, in a thread."""
    sock = listen("127.0.0.1", 0)
    port = sock.getsockname()[1]
    server = make_server(make_app(library, None, port, frozenset()))
    thread = threading.Thread(target=server.run, args=([sock],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def _addresses(home: str) -> dict[str, Callable[[int], tuple[str, dict[str, Any]]]]:
    """Page -> the path and query of its n-th request; no two are the same search."""
    table = {"name": home, "table": "samples"}
    reference = json.dumps([home, "samples", "1"])
    return {
        "index": lambda _: ("/", {}),
        "run": lambda _: ("/run", {"name": home}),
        "first": lambda _: ("/rows", table),
        "middle": lambda n: ("/rows", {**table, "page": 1000 + n}),
        "filtered": lambda n: (
            "/rows",
            {**table, "f.status": "error", "f.problem": f"HumanEval/{n}"},
        ),
        "sorted": lambda n: ("/rows", {**table, "sort": "-tokens", "page": n + 1}),
        "search_common": lambda n: ("/rows", {**table, "q": "return"[: 6 - n % 3], "page": n + 1}),
        "search_rare": lambda n: ("/rows", {**table, "q": f"# {n:02x}ab"}),
        "row": lambda n: ("/row", {**table, "n": 777 * n}),
        "diff": lambda n: ("/diff", {"row": [reference, json.dumps([home, "samples", str(n)])]}),
    }  # fmt: skip


def _pages(report: Report, address: str, home: str, repeats: int) -> None:
    with httpx2.Client(base_url=address, timeout=60) as client:
        for page, at in _addresses(home).items():
            times = []
            for number in range(repeats):
                path, query = at(number)
                began = time.perf_counter()
                client.get(path, params=query).raise_for_status()
                times.append(1000 * (time.perf_counter() - began))
            report.set(f"page_{page}_ms", statistics.median(times), n=repeats)
            report.set(f"page_{page}_worst_ms", max(times))


def _in_chromium(
    report: Report, folder: Path, address: str, home: str, page: Path, repeats: int
) -> None:
    report.set("report_mb", page.stat().st_size / 1e6)
    keys = ("chromium_first_ms", "chromium_row_ms", "report_open_ms", "report_sample_ms")
    if chromium.find() is None:
        report.figures |= dict.fromkeys(keys)
        report.install["Chromium"] = "apt install chromium"
        return
    say("Chromium")
    opened: dict[str, list[float]] = {key: [] for key in keys}
    at = _addresses(home)
    with chromium.browser(folder / "profile") as browser:
        browser.look(1280)
        browser.open(address + "/")  # starts the renderer
        for number in range(repeats):
            for key, name in (("chromium_first_ms", "first"), ("chromium_row_ms", "row")):
                path, query = at[name](number)
                opened[key].append(browser.open(str(httpx2.URL(address + path, params=query))))
            opened["report_open_ms"].append(browser.open(page))
            began = time.perf_counter()
            browser.run("document.querySelector('tr[data-block] button.open-samples').click()")
            browser.wait("document.querySelector('.viewer:not([hidden]) .code')")
            opened["report_sample_ms"].append(1000 * (time.perf_counter() - began))
    for key, times in opened.items():
        report.set(key, statistics.median(times), n=repeats)
        report.set(key.replace("_ms", "_worst_ms"), max(times))
