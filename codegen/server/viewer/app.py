"""The sources and pages of ``codegen view``: runs in some directories, and JSONL files.

Each page depends only on its URL, so links to it stay valid. Pages are read-only: all routes are
``GET``. The content security policy allows only scripts, styles and connections of this server.
"""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from codegen.core.errors import InputError
from codegen.core.records import Sample, from_dict
from codegen.evals.report import NamedScore, content
from codegen.evals.report.page import ASSETS as REPORT
from codegen.evals.report.page import as_text, templates
from codegen.evals.scoring import STATUSES, Score, read_score
from codegen.server import run_index
from codegen.server.completion.requests import ServerLimits
from codegen.server.http.security import Guard
from codegen.server.viewer import records
from codegen.server.viewer.tables import RecordTable, Selection, TableRow

_ASSETS = Path(__file__).parent / "assets"
_A_PAGE = 50  # rows per page
_LONGEST_SEARCH = 300
_FACET = "f."  # prefix of a facet's name in a URL
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


_FRESH_S = 2.0  # minimum age of the run list before a refresh, in seconds
_SHARE = 20  # minimum age, as a multiple of the last refresh's duration


@dataclass(slots=True)
class RunSource:
    """A run, or files outside runs, with their tables by name.

    ``name`` is the path from the command line; ``run`` is None for files.
    """

    name: str
    folder: Path
    run: run_index.Run | None
    tables: dict[str, RecordTable] = field(default_factory=dict)
    _score: tuple[float, Score | None] = (0.0, None)
    _programs: content.Programs | None = None

    @property
    def score(self) -> Score | None:
        """The run's score; None if missing or unreadable."""
        try:
            changed = (self.folder / "score.json").lstat().st_mtime
        except OSError:
            return None
        if changed != self._score[0]:
            try:
                self._score = changed, read_score(self.folder)
            except InputError:
                self._score = changed, None
        return self._score[1]

    def program_of(self, row: Mapping[str, Any]) -> str:
        """Returns the program that the task extracts from a sample; empty if unknown."""
        if self.score is None:
            return ""
        if self._programs is None:
            self._programs = content.Programs(self.score)
        try:
            return self._programs.of(from_dict(Sample, row))
        except InputError:
            return ""


class Library:
    """Runs and JSONL files to show, by name.

    Raises:
        InputError: if a path does not exist or has no data to show.
    """

    def __init__(self, places: Sequence[str | os.PathLike[str]]) -> None:
        self.places = [Path(place) for place in places]
        self._sources: dict[str, RunSource] = {}
        self._next = 0.0
        self._lock = threading.Lock()
        for place in self.places:
            if not place.exists():
                raise InputError(f"{place} not found.", "Pass a directory or a file.")
        if not self.sources():
            named = ", ".join(map(str, self.places))
            raise InputError(
                f"No dataset, run or JSONL file in {named}.",
                "Pass a directory that `codegen data`, `codegen eval` or `codegen finetune` wrote.",
            )

    def sources(self) -> dict[str, RunSource]:
        """Returns all current sources by name."""
        with self._lock:
            began = time.monotonic()
            if began >= self._next or not self._sources:
                self._sources = {s.name: s for s in self._found()}
                now = time.monotonic()
                self._next = now + max(_FRESH_S, _SHARE * (now - began))
            return self._sources

    def _found(self) -> Iterator[RunSource]:
        folders = [place for place in self.places if place.is_dir()]
        runs = run_index.find_runs(folders)
        for run in runs:
            yield self._source(run.name, run.folder, run, _tables_of_run(run))
        for place in self.places:
            name = os.path.normpath(place)
            files = [place] if place.is_file() else sorted(place.glob("*.jsonl"))
            if files and (place.is_file() or run_index.read_run(place) is None):
                yield self._source(name, place, None, _tables_of_files(files))

    def _source(
        self, name: str, folder: Path, run: run_index.Run | None, tables: Sequence[RecordTable]
    ) -> RunSource:
        name = records.as_value(name)
        source = self._sources.get(name) or RunSource(name, folder, run)
        source.run = run
        for table in tables:  # reuse existing indexes
            source.tables.setdefault(table.name, table)
        return source


def _tables_of_files(files: Sequence[Path]) -> list[RecordTable]:
    return [RecordTable(path.name, path.name, lambda path=path: [path]) for path in files]


def _tables_of_run(run: run_index.Run) -> list[RecordTable]:
    verdicts = {"samples": run.folder / "verdicts.jsonl"}
    return [
        RecordTable(
            name, title, functools.partial(_files, run.folder, patterns), verdicts.get(name)
        )
        for name, title, *patterns in _TABLES[run.kind]
    ]


def _files(folder: Path, patterns: Sequence[str]) -> Sequence[Path]:
    """Returns the files of the first matching pattern, in ``.partial`` for unfinished data runs."""
    if (folder / ".partial").is_dir() and not (folder / "manifest.json").exists():
        folder = folder / ".partial"
    found = ([p for p in sorted(folder.glob(name)) if p.is_file()] for name in patterns)
    return next(filter(None, found), [])


# Run kind -> tables: name, title, and glob patterns of the files.
_TABLES: Mapping[str, Sequence[tuple[str, ...]]] = {
    "data": [("texts", "Texts", "data-*.jsonl"), ("rejects", "Rejected examples", "rejects.jsonl")],
    "evaluation": [
        ("samples", "Samples", "scored.jsonl", "samples.jsonl", "samples.partial.jsonl"),
        ("failed", "Failed requests", "failed.jsonl"),
    ],
    "training": [("rollouts", "Training samples", "rollouts*.jsonl")],
    "search": [("log", "Programs and attempts", "log.jsonl")],
    "quickstart": [],
}


class PageNotFound(Exception):
    """The URL has no page."""


def make_app(library: Library, token: str | None, port: int, hosts: frozenset[str]) -> Guard:
    """Creates the application, without a socket.

    Args:
        token, hosts: see :class:`~codegen.server.http.security.Guard`.
        port: the server's port, needed because cookies of a host are shared by all its ports.
    """
    pages = {"/": index, "/run": run, "/rows": rows, "/row": row, "/compare": compare,
             "/raw": raw}  # fmt: skip
    routes = [
        Route(path, functools.partial(_answer, library, page), methods=["GET"])
        for path, page in pages.items()
    ]
    routes += [Route(f"/{name}", _asset) for name in ("style.css", "script.js")]
    app = Starlette(routes=routes, exception_handlers={404: _no_page, 405: _no_page})
    limits = ServerLimits(requests_per_s=1000.0, burst=2000)
    return Guard(app, token, hosts, limits=limits, cookie=f"codegen-view-{port}")


Page = Callable[[Library, QueryParams], Response]


async def _answer(library: Library, page: Page, request: Request) -> Response:
    """Renders a page in a thread, because a file may have to be indexed first."""
    try:
        response = await run_in_threadpool(page, library, request.query_params)
    except PageNotFound as error:
        response = _page("message.html", 404, title="Not found", message=str(error))
    except IndexError:  # the file was truncated between two reads
        message = "The file changed while it was read. Reload the page."
        response = _page("message.html", 409, title="Changed", message=message)
    response.headers.update(_HEADERS)
    return response


async def _no_page(_: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return _page("message.html", status, title="Not found", message="Page not found.")


async def _asset(request: Request) -> Response:
    """Serves the report's styles and scripts, followed by the viewer's."""
    name = request.url.path[1:]
    ours = {"style.css": ("report.css", "viewer.css"), "script.js": ("report.js", "viewer.js")}
    folders = (REPORT, _ASSETS)
    parts = [
        (folder / file).read_text(encoding="utf-8")
        for folder, file in zip(folders, ours[name], strict=True)
    ]
    kind = "text/css" if name == "style.css" else "text/javascript"
    return PlainTextResponse("\n".join(parts), media_type=kind, headers=_HEADERS)


def _page(name: str, status: int = 200, **values: object) -> Response:
    own = {
        "url": url,
        "size": run_index.shown_size,
        "when": run_index.shown_time,
        "number": _number,
    }
    found = templates(as_text, _ASSETS).get_template(name, globals={**own, "FACET": _FACET})
    return HTMLResponse(found.render(values).encode(), status)


def url(path: str, *pairs: tuple[str, object], **given: object) -> str:
    """Returns the URL of a page; empty parameters are omitted."""
    query = [(key, str(value)) for key, value in [*given.items(), *pairs] if value not in ("", 1)]
    return path + ("?" + urlencode(query, errors="surrogatepass") if query else "")


@dataclass(frozen=True, slots=True)
class TableQuery:
    """The part of a table that a URL selects."""

    source: RunSource
    table: RecordTable
    wanted: Selection
    page: int = 1

    def link(self, path: str = "/rows", *, page: int = 1, **change: Any) -> str:
        """Returns the URL of this selection with changes applied."""
        wanted = replace(self.wanted, **{k: v for k, v in change.items() if k in _SELECTION})
        more = {k: v for k, v in change.items() if k not in _SELECTION}
        return url(
            path,
            *((_FACET + name, value) for name, value in wanted.filters),
            name=self.source.name,
            table=self.table.name,
            q=wanted.text,
            sort=wanted.sort,
            page=page,
            **more,
        )

    def only(self, name: str, value: str) -> str:
        """Returns the URL of this table's rows with one facet value."""
        return self.link(filters=((name, records.as_value(value)),), text="", sort="")


_SELECTION = ("filters", "text", "sort")


def _source(library: Library, name: str) -> RunSource:
    found = library.sources().get(name)
    if found is None:
        raise PageNotFound(f"Unknown run or file {name!r}.")
    return found


def _table(source: RunSource, name: str) -> RecordTable:
    if name not in source.tables:
        raise PageNotFound(f"{source.name} has no table {name!r}.")
    source.tables[name].refresh()
    return source.tables[name]


def _place(library: Library, query: QueryParams) -> TableQuery:
    source = _source(library, query.get("name", ""))
    table = _table(source, query.get("table", ""))
    filters = tuple(
        (key.removeprefix(_FACET), value)
        for key, value in query.multi_items()
        if key.startswith(_FACET) and value
    )
    text = query.get("q", "").replace("\r\n", "\n")[:_LONGEST_SEARCH]
    page = query.get("page", "1")
    number = int(page) if page.isascii() and page.isdecimal() and len(page) < 9 else 1
    return TableQuery(
        source, table, Selection(filters, text, query.get("sort", "")), max(1, number)
    )


def _numbered(place: TableQuery, key: str) -> tuple[int, TableRow]:
    """Returns the number and contents of the row that a link refers to."""
    number = place.table.number_of(key)
    if number is None:
        raise PageNotFound(f"{place.source.name} has no row {key!r}.")
    return number, place.table.rows([number])[0]


def index(library: Library, _: QueryParams) -> Response:
    """Renders the list of runs and files."""
    sources = list(library.sources().values())
    return _page(
        "index.html",
        title="Runs and data",
        sources=sources,
        places=[str(place) for place in library.places],
    )


def run(library: Library, query: QueryParams) -> Response:
    """Renders one run: its kind, results, settings and tables."""
    source = _source(library, query.get("name", ""))
    tables = [_table(source, name) for name in source.tables]
    score = source.score
    others = [s for s in library.sources().values() if s.run and s is not source]
    return _page(
        "run.html",
        title=source.name,
        source=source,
        tables=[TableQuery(source, table, Selection()) for table in tables if len(table)],
        score=score,
        scored=[NamedScore(source.name, score)] if score else [],
        seen=[s for s in STATUSES if score and score.statuses.get(s)],
        settings=run_index.settings_of(source.run) if source.run else {},
        inner=[s for s in others if s.name.startswith(source.name + "/")],
        others=others,
    )


def rows(library: Library, query: QueryParams) -> Response:
    """Renders the selected rows of a table, fifty per page."""
    place = _place(library, query)
    chosen = place.table.select(place.wanted)
    pages = max(1, -(-len(chosen) // _A_PAGE))
    page = min(place.page, pages)
    shown = place.table.rows([int(n) for n in chosen[_A_PAGE * (page - 1) : _A_PAGE * page]])
    facets = place.table.facets()
    numbers = place.table.numbers()
    filters = dict(place.wanted.filters)
    shown_in_label = ("problem", "step")
    names = [name for name in facets if name not in (*filters, *shown_in_label)]
    names = sorted(names, key=lambda name: name != "status")[:4]
    return _page(
        "rows.html",
        title=f"{place.table.title} of {place.source.name}",
        place=place,
        filters=filters,
        facets=facets,
        names=names,
        numbers=numbers[:4],
        sorts=numbers,
        lines=[_line(place, one, names, numbers[:4]) for one in shown],
        found=len(chosen),
        page=page,
        pages=pages,
        size_of_page=_A_PAGE,
    )


def _line(
    place: TableQuery, one: TableRow, names: Sequence[str], numbers: Sequence[str]
) -> dict[str, object]:
    facts = records.facts_of(one.value)
    judged = records.facts_of(one.verdict)
    facets, known = {**judged.facets, **facts.facets}, {**judged.numbers, **facts.numbers}
    return {
        "link": place.link("/row", page=place.page, n=one.key),
        "label": facts.label or f"Row {one.line + 1}",
        "facets": [facets.get(name, "") for name in names],
        "numbers": [known.get(name) for name in numbers],
        "preview": records.preview_of(one.value),
    }


def row(library: Library, query: QueryParams) -> Response:
    """Renders one row, with links to its neighbors in the selection."""
    place = _place(library, query)
    number, one = _numbered(place, query.get("n", ""))
    chosen = place.table.select(place.wanted)
    (at,) = (chosen == number).nonzero()
    position = int(at[0]) if len(at) else None
    near = {"before": "", "after": ""}
    for name, step in (("before", -1), ("after", 1)):
        to = -1 if position is None else position + step
        if 0 <= to < len(chosen):
            (other,) = place.table.rows([int(chosen[to])])
            near[name] = place.link("/row", n=other.key, page=to // _A_PAGE + 1)
    shown = _shown(place.source, one)
    return _page(
        "row.html",
        title=shown.label or f"Row {one.line + 1}",
        place=place,
        row=one,
        shown=shown,
        near=near,
        position=position,
        found=len(chosen),
        back=place.link(page=1 if position is None else position // _A_PAGE + 1),
        raw=url("/raw", name=place.source.name, table=place.table.name, n=one.key),
    )


def _shown(source: RunSource, one: TableRow) -> records.RecordPage:
    program = source.program_of(one.value) if records.kind_of(one.value) == "sample" else ""
    return records.show(one.value, one.verdict, program)


def raw(library: Library, query: QueryParams) -> Response:
    """Returns one row as JSON."""
    _, one = _numbered(_place(library, query), query.get("n", ""))
    content = {"row": one.value, **({"verdict": one.verdict} if one.verdict else {})}
    return Response(json.dumps(content), media_type="application/json")  # as ASCII, with escapes


def compare(library: Library, query: QueryParams) -> Response:
    """Renders two runs: their results, and the settings that differ."""
    named = query.getlist("run")
    if len(named) != 2 or named[0] == named[1]:
        message = f"{len(set(named))} runs are selected; select two to compare them."
        return _page("message.html", 400, title="Compare two runs", message=message)
    sources = [_source(library, name) for name in named]
    runs = [source.run for source in sources]
    if None in runs:
        raise PageNotFound("Files have no settings to compare; compare their rows.")
    first, second = (one for one in runs if one)
    return _page(
        "compare.html",
        title="Comparison of two runs",
        sources=sources,
        settings=run_index.differing(first, second),
        numbers=[(n, [one.numbers.get(n) for one in (first, second)])
                 for n in dict.fromkeys([*first.numbers, *second.numbers])],
    )  # fmt: skip


def _number(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return (
        records.shown_seconds(value)
        if name == records.CPU_S
        else run_index.shown_number(name, value)
    )
