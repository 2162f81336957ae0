"""The check ``pylint``: one linter for many states.

It reports exactly the messages that LintSeq's reference code uses (Piterbarg, Pinto and Fergus,
ICLR 2025): all E and F, W0311 (bad indentation) and W0231 (a parent's ``__init__`` is not called)
of ``python -m pylint --disable=C,R --unsafe-load-any-extension=y --generated-members=cv2.*``. An
E0001 whose text names the line of a block's header is reported on that line.

The reference sets up a linter for each state. Here one linter is set up once, with only these
messages enabled. Syntax trees of libraries are kept between states; changes that a state makes to
them are reverted.

No user files are read or written: no pylintrc, plugin, cache or crash report. Modules that a
state imports are parsed, and C extensions are imported, as in the reference.

This changes astroid for the whole process, and pylint inspects the process's live builtins and
streams, so the linter has its own process: :mod:`codegen.lintseq.verify.linter_process`.

Limits: uses internals of pylint 4 and astroid 4. A state may import a different module than its
program would, if the module is in the program's own directory; the whole program then has the same
error, which is ignored.
"""

from __future__ import annotations

import contextlib
import gc
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import astroid.constraint
from astroid.builder import AstroidBuilder
from astroid.context import _invalidate_cache
from astroid.inference_tip import clear_inference_tip_cache
from astroid.interpreter.objectmodel import ObjectModel
from astroid.nodes import ClassDef
from astroid.nodes._base_nodes import LookupMixIn
from pylint.checkers import BaseRawFileChecker, BaseTokenChecker
from pylint.checkers.clear_lru_cache import clear_lru_caches
from pylint.lint import Run
from pylint.reporters import CollectingReporter
from pylint.utils import ASTWalker, FileState

from codegen.lintseq.verify import LintMessage

_Table = dict[str, list[Any]]  # attributes by name, in a tree
MODULE = "lintseq_state"  # a state's name in pylint; messages show "state"
_YOUNG_OBJECTS = 100_000  # new objects per collection; a state of 100 lines has about 10,000
_WARNINGS = ("W0231", "W0311")
_HEADER_LINE = re.compile(r" on line (\d+)")
# Unusual characters (also tabs), pragmas, a line of only a backslash, an encoding declaration.
_UNUSUAL = re.compile(r"[^\n -~]|pylint|^ *\\$|\A(?:.*\n)? *#.*coding[:=]", re.MULTILINE)


class Linter:
    """pylint, set up once to lint many texts."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="lintseq-pylint-")
        self._notes: list[tuple[_Table, Any]] = []
        _observe_assignments(self._notes)
        self._set_up()

    def check(self, states: Sequence[str]) -> list[list[LintMessage]]:
        """Returns the findings in each state, in pylint's order."""
        return [self._check(state) for state in states]

    def _set_up(self) -> None:
        self.path = Path(self._folder.name, f"{MODULE}.py")
        self.path.write_text("")
        settings = Path(self._folder.name, "pylintrc")  # keeps pylint from reading the user's
        settings.write_text("")
        flags = f"""
            --rcfile={settings} --disable=all --enable=E,F,{",".join(_WARNINGS)}
            --unsafe-load-any-extension=y --generated-members=cv2.* --reports=n --score=n
            --persistent=n {self.path}
        """
        self.linter = Run(flags.split(), CollectingReporter(), exit=False).linter
        checkers = self.linter.prepare_checkers()
        self._raw = [c for c in checkers if isinstance(c, BaseRawFileChecker)]
        self._token = [c for c in checkers if isinstance(c, BaseTokenChecker)]
        self._walker = ASTWalker(self.linter)
        cached: list[Any] = [LookupMixIn.lookup, ObjectModel.attributes]
        cached.append(ClassDef._metaclass_lookup_attribute)
        self._clear: list[Callable[[], object]] = [
            _invalidate_cache,
            # only in astroid 4.4 and later
            getattr(astroid.constraint, "clear_preceding_guards_cache", list),
            clear_inference_tip_cache,
            clear_lru_caches,
            *(function.cache_clear for function in cached),
        ]
        for checker in checkers:
            checker.open()
            self._walker.add_checker(checker)
            if (graph := getattr(checker, "import_graph", None)) is not None:
                self._clear.append(graph.clear)
        self._forget_inferred()
        self._notes.clear()
        astroid.MANAGER.clear_cache()

    def _check(self, state: str) -> list[LintMessage]:
        reporter = CollectingReporter()
        self.linter.set_reporter(reporter)
        self.linter.set_current_module(MODULE, str(self.path))
        crash = []
        try:
            self._lint(state)
        except Exception as error:  # noqa: BLE001 - a crash of pylint counts as F0002
            crash = [LintMessage(1, "F0002", f"pylint failed: {type(error).__name__}")]
        findings = [
            _finding(m.msg_id, m.line, m.msg.replace(str(self.path), f"{MODULE}.py"))
            for m in reporter.messages
            if m.msg_id[0] in "EF" or m.msg_id in _WARNINGS  # a pragma can enable more
        ]
        if crash:  # checkers and trees may be half done
            self._set_up()
        else:
            self._take_back()
        return findings + crash

    def _lint(self, state: str) -> None:
        linter = self.linter
        plain = _UNUSUAL.search(state) is None
        if not plain:
            self.path.write_text(state, encoding="utf-8", newline="\n")
        # pylint checks the encoding declaration of files, but not of strings.
        module = linter.get_ast(str(self.path), MODULE, state if plain else None)
        if module is None:
            return  # reported as E0001
        linter.file_state = FileState(MODULE, linter.msgs_store, module)
        linter._ignore_file = False
        if plain and _is_regular([module.doc_node, *module.body], 0, state.split("\n")):
            self._walker.walk(module)  # the token and raw checkers would find nothing
        else:
            linter.check_astroid_module(module, self._walker, self._raw, self._token)

    def _take_back(self) -> None:
        """Drops the state's tree, its notes in other trees, and everything inferred from it."""
        astroid.MANAGER.astroid_cache.pop(MODULE, None)
        for table, node in self._notes:
            _take_out(table, node)
        self._notes.clear()
        self._forget_inferred()
        if gc.get_count()[0] > _YOUNG_OBJECTS:
            gc.collect(0)

    def _forget_inferred(self) -> None:
        for clear in self._clear:
            clear()


def _is_regular(block: Sequence[Any], depth: int, lines: Sequence[str]) -> bool:
    """Returns True if each block is indented by four spaces more than the one around it (W0311)."""
    for node in filter(None, block):
        line = lines[int(node.lineno) - 1]
        indent = len(line) - len(line.lstrip(" "))
        # A statement after a colon has no indentation; a match has two levels of blocks at once.
        if node.col_offset <= indent != 4 * depth or hasattr(node, "cases"):
            return False
        if not node.is_statement:  # a docstring
            continue
        for name in ("body", "orelse", "finalbody", "handlers"):
            inner = getattr(node, name, None) or []
            is_elif = name == "orelse" and inner and inner[0].col_offset == node.col_offset
            if name == "body":
                inner = [getattr(node, "doc_node", None), *inner]
            if not _is_regular(inner, depth + (name != "handlers" and not is_elif), lines):
                return False
    return True


def _observe_assignments(notes: list[tuple[_Table, Any]]) -> None:
    """Collects a state's assignments to attributes that astroid notes in the trees of libraries.

    Notes of a library in another library's tree are removed at once: the tree stays, and they would
    affect states that do not load the first library.
    """
    builder: Any = AstroidBuilder
    note = getattr(builder.delayed_assattr, "__wrapped__", builder.delayed_assattr)

    def noting(self: Any, target: Any) -> None:
        note(self, target)
        module = target.root()
        with contextlib.suppress(astroid.InferenceError):
            for owner in target.expr.infer():
                if not hasattr(owner, "root") or owner.root() is module:
                    continue
                for kind in ("instance_attrs", "locals"):  # an instance shares its class's tables
                    table = getattr(owner, kind, None)
                    if table and target in table.get(target.attrname, ()):
                        if module.name == MODULE:
                            notes.append((table, target))
                        else:
                            _take_out(table, target)

    noting.__wrapped__ = note  # type: ignore[attr-defined]
    builder.delayed_assattr = noting


def _take_out(table: _Table, node: Any) -> None:
    values = table.get(node.attrname, [])
    if node in values:
        values.remove(node)
        if not values:  # astroid reads the first of each list
            del table[node.attrname]


def _finding(rule: str, line: int, message: str) -> LintMessage:
    if rule == "E0001" and (header := _HEADER_LINE.search(message)):
        line = int(header[1])
    return LintMessage(line, rule, message.replace(MODULE, "state"))
