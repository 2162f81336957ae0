"""The check ``pylint``: a linter that lives as long as the process.

The messages are exactly those that the reference code of LintSeq heeds (Piterbarg, Pinto and
Fergus, ICLR 2025): what ``python -m pylint --disable=C,R --unsafe-load-any-extension=y
--generated-members=cv2.*`` says of a file of its own, of which all E and F, W0311 (bad indentation)
and W0231 (a parent's ``__init__`` not called) are kept. An E0001 whose text names the line of a
block's header is put on that line.

The reference sets up a linter for each state. This one is set up once, enables those messages only,
and besides saves what can't bear on them:

- A state becomes a syntax tree straight from its text. pylint's token and raw checkers, of which
  W0311, pragmas, odd characters and encodings are what counts here, run only on a state that could
  have any of these; the tree tells whether the indentation is regular.
- Visits that serve disabled messages only, but that pylint makes all the same, are left out.
- A class's ancestors are walked once: see :mod:`codegen.lintseq.verify.ancestors`.
- Trees of library modules stay, and nothing else: see :mod:`codegen.lintseq.verify.traces`.

Nothing of the user's is read or written: no pylintrc, plug-in, cache or crash report. Installed
modules that a state imports are parsed, and those that are C extensions are imported, as in the
reference.

It changes astroid for its whole process, and sees what that process has put in the place of
builtins and streams, so it belongs in one of its own:
:mod:`codegen.lintseq.verify.linter_process`.

Limits: it holds for pylint 4 and astroid 4, some of whose internals it touches. A state imports
another module than its program would if that lies in the program's own directory: such imports are
faults of the whole program, and excused.
"""

from __future__ import annotations

import gc
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.errors import CodegenError
from codegen.lintseq.verify.ancestors import ancestors
from codegen.lintseq.verify.findings import Finding
from codegen.lintseq.verify.traces import traces
from codegen.lintseq.verify.trimming import Walker

if TYPE_CHECKING:
    from astroid import nodes

MODULE = "lintseq_state"  # the name that states have for pylint; in messages it is "state"
YOUNG_OBJECTS = 100_000  # since garbage was collected; a state of 100 lines makes some 10,000

_WARNINGS = frozenset({"W0231", "W0311"})

_HEADER_LINE = re.compile(r" on line (\d+)")
# Odd characters (tabs and form feeds among them), pragmas, a line that only continues, an encoding.
_UNUSUAL = re.compile(r"[^\n -~]|pylint|^ *\\$|\A(?:.*\n)? *#.*coding[:=]", re.MULTILINE)


class Linter:
    """pylint's parts, put together to lint one text after another.

    Raises:
        CodegenError: if pylint is not installed.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="lintseq-pylint-")
        self._set_up()

    def check(self, states: Sequence[str]) -> list[list[Finding]]:
        """The findings in each state, in pylint's order."""
        return [self._check(state) for state in states]

    def _set_up(self) -> None:
        try:
            import astroid
            from pylint.checkers import BaseRawFileChecker, BaseTokenChecker
            from pylint.lint import Run
            from pylint.reporters import CollectingReporter
            from pylint.utils import ASTWalker, FileState
        except ImportError as error:
            raise CodegenError(
                f"pylint, which checks the states, can't be imported ({error}).",
                "Run: pip install 'pylint>=4,<5'",
            ) from None
        self.manager = astroid.MANAGER
        self.traces = traces()
        self.ancestors = ancestors()
        self.reporter = CollectingReporter
        self.file_state = FileState
        folder = Path(self._folder.name)
        self.path = folder / f"{MODULE}.py"
        self.path.write_text("")
        settings = folder / "pylintrc"  # empty, and so that pylint does not look for the user's
        settings.write_text("")
        flags = [
            f"--rcfile={settings}",
            "--disable=all",
            f"--enable=E,F,{','.join(sorted(_WARNINGS))}",
            "--unsafe-load-any-extension=y",
            "--generated-members=cv2.*",
            "--reports=n",
            "--score=n",
            "--persistent=n",
        ]
        self.linter = Run([*flags, str(self.path)], CollectingReporter(), exit=False).linter
        checkers = self.linter.prepare_checkers()
        self.raw_checkers = [c for c in checkers if isinstance(c, BaseRawFileChecker)]
        self.token_checkers = [c for c in checkers if isinstance(c, BaseTokenChecker)]
        walker = ASTWalker(self.linter)
        self.clear_caches = _cache_clearers()
        for checker in checkers:
            checker.open()
            walker.add_checker(checker)
            if (graph := getattr(checker, "import_graph", None)) is not None:
                self.clear_caches.append(graph.clear)
        self.walker: Any = Walker(self.linter, walker)
        self.forget_all()

    def _check(self, state: str) -> list[Finding]:
        reporter = self.reporter()
        self.linter.set_reporter(reporter)
        self.linter.set_current_module(MODULE, str(self.path))
        crash = None
        try:
            self._lint(state)
        except Exception as error:  # noqa: BLE001 - whatever pylint can't take counts as F0002
            crash = Finding(1, "F0002", f"pylint failed: {type(error).__name__}")
        # A pragma can enable other messages too.
        findings = [
            _finding(m.msg_id, m.line, m.msg.replace(str(self.path), f"{MODULE}.py"))
            for m in reporter.messages
            if _counts(m.msg_id)
        ]
        if crash:  # checkers and trees are in the midst of something
            self._set_up()
            gc.collect()
            return [*findings, crash]
        self._take_back()
        return findings

    def _lint(self, state: str) -> None:
        linter = self.linter
        plain = _UNUSUAL.search(state) is None
        if not plain:
            self.path.write_text(state, encoding="utf-8", newline="\n")
        # pylint reads a file's encoding declaration, a text's it does not.
        module = linter.get_ast(str(self.path), MODULE, state if plain else None)
        if module is None:
            return  # and the reporter has an E0001
        linter.file_state = self.file_state(MODULE, linter.msgs_store, module)
        if plain and _is_regular(module, state.split("\n")):
            self.walker.walk(module)
        else:
            linter._ignore_file = False
            linter.check_astroid_module(module, self.walker, self.raw_checkers, self.token_checkers)

    def _take_back(self) -> None:
        """Forgets the state's tree, its traces in others, and all that was inferred with it."""
        self.manager.astroid_cache.pop(MODULE, None)
        self.traces.take_out(MODULE)
        self.forget_inferred()
        if gc.get_count()[0] > YOUNG_OBJECTS:
            gc.collect(0)

    def forget_inferred(self) -> None:
        """Empties the caches of what was inferred, which hold on to states' trees."""
        for clear in self.clear_caches:
            clear()
        self.ancestors.forget()

    def forget_all(self) -> None:
        """Empties all of astroid's and pylint's caches, the libraries' trees among them."""
        self.forget_inferred()
        self.traces.forget()
        self.manager.clear_cache()


def _cache_clearers() -> list[Callable[[], object]]:
    """What empties the caches that hold nodes."""
    from astroid.context import _invalidate_cache
    from astroid.inference_tip import clear_inference_tip_cache
    from astroid.interpreter.objectmodel import ObjectModel
    from astroid.nodes import ClassDef
    from astroid.nodes._base_nodes import LookupMixIn
    from pylint.checkers.clear_lru_cache import clear_lru_caches

    functions: list[Any] = [
        LookupMixIn.lookup,
        ObjectModel.attributes,
        ClassDef._metaclass_lookup_attribute,
    ]
    clearers = [function.cache_clear for function in functions]
    return [_invalidate_cache, clear_inference_tip_cache, clear_lru_caches, *clearers]


def _counts(rule: str) -> bool:
    return rule[0] in "EF" or rule in _WARNINGS


def _finding(rule: str, line: int, message: str) -> Finding:
    if rule == "E0001" and (header := _HEADER_LINE.search(message)):
        line = int(header[1])
    return Finding(line, rule, message.replace(MODULE, "state"))


def _is_regular(module: nodes.Module, lines: Sequence[str]) -> bool:
    """Whether each block is indented by four spaces more than the one around it.

    All statements of a block stand in the same column, or the program would not parse, so the first
    says it for all. One behind a colon has no indentation of its own. False if in doubt.
    """
    blocks: list[tuple[Any, int]] = [(module, 0)]
    while blocks:
        owner, depth = blocks.pop()
        body: list[Any] = owner.body
        first = getattr(owner, "doc_node", None) or (body[0] if body else None)
        if first is not None and not _is_at(first, depth, lines):
            return False
        for statement in body:
            if not hasattr(statement, "body") and not hasattr(statement, "cases"):
                continue
            if hasattr(statement, "cases"):  # match: two levels at once
                return False
            blocks.append((statement, depth + 1))
            blocks += [(handler, depth + 1) for handler in getattr(statement, "handlers", ())]
            for name in ("orelse", "finalbody"):
                more = getattr(statement, name, None)
                if more:
                    same = name == "orelse" and statement.col_offset == more[0].col_offset
                    # "elif" stands in the column of its "if".
                    blocks.append((_Block(more), depth if same else depth + 1))
    return True


class _Block:
    """An ``else`` or ``finally``, seen as what owns its statements."""

    def __init__(self, body: list[Any]) -> None:
        self.body = body


def _is_at(statement: Any, depth: int, lines: Sequence[str]) -> bool:
    number: int = statement.lineno - 1
    line = lines[number]
    indentation = len(line) - len(line.lstrip(" "))
    return statement.col_offset > indentation or indentation == 4 * depth
