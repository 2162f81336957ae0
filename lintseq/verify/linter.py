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
- Trees of library modules stay. Trees of states are dropped after each state, from astroid's caches
  too, and what a state wrote into a library's tree (``argparse.Namespace.x = 1``) is taken back: a
  verdict depends on its state alone. Python's cyclic garbage collector is kept from walking through
  the library's trees for every state.

Nothing of the user's is read or written: no pylintrc, plug-in, cache or crash report, and no module
from the current directory. Installed modules that a state imports are parsed, and those that are C
extensions are imported, as in the reference.

Limits: it holds for pylint 4 and astroid 4, some of whose internals it touches. A state imports
another module than its program would if that lies in the program's own directory: such imports are
faults of the whole program, and excused.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import os
import re
import sys
import tempfile
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.errors import CodegenError
from codegen.lintseq.verify.findings import Finding

if TYPE_CHECKING:
    from astroid import nodes

MODULE = "lintseq_state"  # the name that states have for pylint; in messages it is "state"
REMEMBERED = 50_000  # verdicts, of some 100 bytes each
MOST_LIBRARY_MODULES = 800  # trees that stay, of some 0.6 MB each
STATES_BETWEEN_SWEEPS = 50

_WARNINGS = frozenset({"W0231", "W0311"})

_HEADER_LINE = re.compile(r" on line (\d+)")
# Odd characters (tabs and form feeds among them), pragmas, a line that only continues, an encoding.
_UNUSUAL = re.compile(r"[^\n -~]|pylint|^ *\\$|\A(?:.*\n)? *#.*coding[:=]", re.MULTILINE)


_lock = threading.RLock()  # astroid's caches are the process's, whatever the number of linters


def shared_linter() -> Linter:
    """The linter of this process.

    Raises:
        CodegenError: if pylint is not installed.
    """
    with _lock:
        return _only_linter()


@cache
def _only_linter() -> Linter:
    return Linter()


class Linter:
    """A persistent pylint. Calls from several threads wait for one another."""

    def __init__(self) -> None:
        self._verdicts: OrderedDict[bytes, list[Finding]] = OrderedDict()
        self._folder = tempfile.TemporaryDirectory(prefix="lintseq-pylint-")
        with _lock, _surroundings():
            self._core = _Core(Path(self._folder.name))

    def check(self, states: Sequence[str]) -> list[list[Finding]]:
        """The findings in each state, in pylint's order."""
        with _lock, _surroundings(), _young_garbage_only() as collect:
            try:
                return [self._verdict(state, collect) for state in states]
            except BaseException:  # a time limit, say: the trees at hand are half-built
                self._core.forget_all()
                raise

    def _verdict(self, state: str, collect: Callable[[], object]) -> list[Finding]:
        key = hashlib.blake2b(state.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        found = self._verdicts.get(key)
        if found is not None:
            self._verdicts.move_to_end(key)
            return found
        found = self._verdicts[key] = self._core.check(state)
        if len(self._verdicts) > REMEMBERED:
            self._verdicts.popitem(last=False)
        if self._core.states % STATES_BETWEEN_SWEEPS == 0:
            self._core.sweep()
            collect()
        return found


class _Core:
    """pylint's parts, put together to lint one text after another."""

    def __init__(self, folder: Path) -> None:
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
        self.reporter = CollectingReporter
        self.file_state = FileState
        self.states = 0
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
        self.walker = ASTWalker(self.linter)
        for checker in checkers:
            checker.open()
            self.walker.add_checker(checker)
        _leave_out_useless_visits(self.linter, self.walker)
        self.written: list[Any] = []  # the state's assignments to attributes
        self.walker.visit_events["assignattr"].append(self.written.append)
        self.forget_all()

    def check(self, state: str) -> list[Finding]:
        """The findings in one state."""
        self.states += 1
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
        self._take_back()
        return [*findings, crash] if crash else findings

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
        """Forgets the state's tree, and removes its assignments from other modules' trees."""
        module = self.manager.astroid_cache.pop(MODULE, None)
        for target in self.written:
            _remove_elsewhere(target, module)
        self.written.clear()

    def sweep(self) -> None:
        """Lets go of states' trees, and of the libraries' if there are too many."""
        if len(self.manager.astroid_cache) > MOST_LIBRARY_MODULES:
            self.forget_all()
            gc.collect()
        else:
            self.forget_states()

    def forget_states(self) -> None:
        """Empties the caches that hold on to states' trees."""
        from astroid.context import _invalidate_cache
        from astroid.inference_tip import clear_inference_tip_cache
        from astroid.interpreter.objectmodel import ObjectModel
        from astroid.nodes import ClassDef
        from astroid.nodes._base_nodes import LookupMixIn
        from pylint.checkers.clear_lru_cache import clear_lru_caches

        _invalidate_cache()
        clear_inference_tip_cache()
        clear_lru_caches()
        for function in (
            LookupMixIn.lookup,
            ObjectModel.attributes,
            ClassDef._metaclass_lookup_attribute,
        ):
            function.cache_clear()  # type: ignore[attr-defined]
        for checker in self.linter.get_checkers():
            graph = getattr(checker, "import_graph", None)
            if graph is not None:
                graph.clear()

    def forget_all(self) -> None:
        """Empties all of astroid's and pylint's caches, the libraries' trees among them."""
        self.written.clear()
        self.forget_states()
        self.manager.clear_cache()


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


def _leave_out_useless_visits(linter: Any, walker: Any) -> None:
    """Drops work of pylint 4 that serves disabled messages only."""
    for events in (walker.visit_events, walker.leave_events):
        for kind, visits in events.items():
            kept = [_trimmed(linter, visit) for visit in visits]
            events[kind] = [visit for visit in kept if visit is not None]
    for checker in linter.get_checkers():
        if hasattr(checker, "_loopvar_name") and not linter.is_message_enabled("W0631"):
            checker._loopvar_name = _nothing


def _trimmed(linter: Any, visit: Callable[[Any], None]) -> Callable[[Any], None] | None:
    """A visit, without what it does for disabled messages; None if nothing is left."""
    names: Sequence[str] = getattr(visit, "checks_msgs", ())
    enabled = {name for name in names if linter.is_message_enabled(name)}
    if names and not enabled:
        return None
    place = f"{type(getattr(visit, '__self__', None)).__name__}.{visit.__name__}"
    if place == "BasicChecker.visit_call" and enabled <= _OF_NAMED_CALLS:
        # It first infers what is called, to find code after an exit (W0101).
        return lambda node: visit(node) if _called(node) in _NAMED_CALLS else None
    return visit


_OF_NAMED_CALLS = {"bad-reversed-sequence", "misplaced-format-function"}
_NAMED_CALLS = {"reversed", "format"}


def _called(node: Any) -> str:
    return getattr(node.func, "attrname", None) or getattr(node.func, "name", "")


def _nothing(_node: Any) -> None:
    """Stands in for a visit that has nothing to say."""


def _remove_elsewhere(target: Any, module: nodes.Module | None) -> None:
    """Removes an assignment to an attribute from what astroid noted in other modules' trees."""
    from astroid.exceptions import AstroidError

    owners = []
    try:
        for inferred in target.expr.infer():
            owners += [inferred, getattr(inferred, "_proxied", None)]
    except (AstroidError, RecursionError, StopIteration):
        pass  # what can't be inferred now could not when it was noted
    for owner in owners:
        if not hasattr(owner, "root") or owner.root() is module:
            continue
        for name in ("instance_attrs", "locals"):
            table = getattr(owner, name, None)
            noted = table.get(target.attrname) if isinstance(table, dict) else None
            if isinstance(table, dict) and isinstance(noted, list) and target in noted:
                noted.remove(target)
                if not noted:  # astroid takes the first of each
                    del table[target.attrname]


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """What pylint runs in: silent, and with a module path that does not know the directory."""
    path = list(sys.path)
    here = os.path.realpath(os.curdir)
    sys.path[:] = [entry for entry in path if os.path.realpath(entry or os.curdir) != here]
    try:
        with (
            contextlib.redirect_stderr(io.StringIO()),
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.path[:] = path


@contextlib.contextmanager
def _young_garbage_only() -> Iterator[Callable[[], object]]:
    """Without garbage collection but by calls of the function that is given: only of young objects.

    Left to itself, Python walks through all library trees again and again: a third of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield lambda: gc.collect(0)
    finally:
        if was_enabled:
            gc.enable()
