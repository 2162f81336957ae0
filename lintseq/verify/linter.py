"""The check ``pylint``: one linter for many texts.

It reports exactly the messages that LintSeq's reference code uses (Piterbarg, Pinto and Fergus,
ICLR 2025): all E and F, W0311 (bad indentation) and W0231 (a parent's ``__init__`` is not called)
of ``python -m pylint --disable=C,R --unsafe-load-any-extension=y --generated-members=cv2.*``. An
E0001 whose text names the line of a block's header is reported on that line.

The reference sets up a linter for each state. Here one linter is set up once, with only these
messages enabled, and work that cannot produce them is left out:

- A state's syntax tree is made from its text. pylint's token and raw checkers (W0311, pragmas, odd
  characters, encodings) run only on a state that may concern them; the tree shows whether the
  indentation is regular.
- pylint skips a visit if all its messages are disabled and it declares them. Visits that do not
  declare them, and parts of others, are removed here. :data:`VISITS` and :data:`PARTS` list the
  messages of each; a test compares them with pylint's source.
- Syntax trees of libraries are kept, and nothing else is
  (:mod:`codegen.lintseq.verify.astroid_memory`).

No file of the user is read or written: no pylintrc, plug-in, cache or crash report. Modules that a
state imports are parsed, and C extensions are imported, as in the reference.

This changes astroid for the whole process, and pylint inspects the process's live builtins and
streams, so the linter has a process of its own: :mod:`codegen.lintseq.verify.linter_process`.

Limits: pylint 4 and astroid 4, of which internals are used. A state may import another module than
its program would, if the module is in the program's own directory; the whole program then has the
same fault, which is excused.
"""

from __future__ import annotations

import gc
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import astroid
from astroid import nodes
from astroid.context import _invalidate_cache
from astroid.inference_tip import clear_inference_tip_cache
from astroid.interpreter.objectmodel import ObjectModel
from astroid.nodes._base_nodes import LookupMixIn
from pylint.checkers import BaseRawFileChecker, BaseTokenChecker
from pylint.checkers.clear_lru_cache import clear_lru_caches
from pylint.lint import Run
from pylint.reporters import CollectingReporter
from pylint.utils import ASTWalker, FileState

from codegen.lintseq.verify.astroid_memory import traces
from codegen.lintseq.verify.checks import Finding

Messages = tuple[str, ...]
_UNUSED: Messages = (
    "unused-import", "unused-wildcard-import", "unused-variable", "unused-argument",
    "possibly-unused-variable",
)  # fmt: skip
_ORDER: Messages = ("wrong-import-order", "ungrouped-imports", "wrong-import-position")

# Visits that pylint always makes, and the messages of each.
VISITS: Mapping[str, Messages] = {
    "BasicChecker.visit_classdef": ("dangerous-default-value",),
    "BasicChecker.visit_module": (),  # it counts
    "BasicChecker.visit_try": ("return-in-finally", "lost-exception"),
    "BasicChecker.leave_try": ("return-in-finally", "lost-exception"),
    "ImportsChecker.compute_first_non_import_node": _ORDER,
    "ImportsChecker.visit_functiondef": _ORDER,
    # These record names in comments and annotations as used.
    "VariablesChecker.leave_assign": _UNUSED,
    "VariablesChecker.leave_for": _UNUSED,
    "VariablesChecker.leave_with": _UNUSED,
    "VariablesChecker.visit_arguments": _UNUSED,
}

# Parts of visits, and the messages of each.
PARTS: Mapping[str, Messages] = {
    "ClassChecker._check_bases_classes": ("abstract-method",),
    "ClassChecker._check_invalid_overridden_method": (
        "invalid-overridden-method",
        "overridden-final-method",
    ),
    "ClassChecker._check_property_with_parameters": ("property-with-parameters",),
    "ClassChecker._check_super_without_brackets": ("super-without-brackets",),
    "ClassChecker._check_typing_final": ("subclassed-final-class",),
    "ClassChecker._check_unused_private_attributes": ("unused-private-member",),
    "ClassChecker._check_unused_private_functions": ("unused-private-member",),
    "ClassChecker._check_unused_private_variables": ("unused-private-member",),
    "ClassChecker._check_useless_super_delegation": ("useless-parent-delegation",),
    "ImportsChecker._add_imported_module": ("import-self", "cyclic-import"),
    "ImportsChecker._check_import_as_rename": (
        "consider-using-from-import",
        "useless-import-alias",
    ),
    "ImportsChecker._check_position": ("wrong-import-position",),
    "ImportsChecker._check_preferred_module": ("preferred-module",),
    "ImportsChecker._check_reimport": ("reimported", "shadowed-import"),
    "ImportsChecker._check_same_line_imports": ("reimported",),
    "ImportsChecker._check_toplevel": ("import-outside-toplevel",),
    "ImportsChecker._check_wildcard_imports": ("wildcard-import",),
    "ImportsChecker._record_import": _ORDER,
    "ImportsChecker.check_deprecated_module": ("deprecated-module",),
    "MethodArgsChecker._check_missing_timeout": ("missing-timeout",),
    "StdlibChecker.check_deprecated_class_in_call": ("deprecated-class",),
    "StdlibChecker.check_deprecated_method": ("deprecated-method", "deprecated-argument"),
    "TypeChecker._check_argument_order": ("arguments-out-of-order",),
    "TypeChecker._check_dundername_is_string": ("non-str-assignment-to-dunder-name",),
    "VariablesChecker._check_globals": ("unused-variable",),
    "VariablesChecker._check_imports": ("unused-import", "unused-wildcard-import"),
    "VariablesChecker._loopvar_name": ("undefined-loop-variable",),
}

_OF_NAMED_CALLS = {"bad-reversed-sequence", "misplaced-format-function"}
_NAMED_CALLS = {"reversed", "format"}

Visit = Callable[[Any], object]


class Walker:
    """Visits the nodes of a tree as pylint's walker does, without work for disabled messages.

    It also replaces methods of the checkers by ones that do nothing.
    """

    def __init__(self, linter: Any, walker: Any) -> None:
        self.nbstatements = 0  # pylint reads it for its score
        self._is_enabled: Callable[[str], bool] = linter.is_message_enabled
        self._visits, self._leaves = (
            {
                kind: list(filter(None, map(self._trimmed, visits)))
                for kind, visits in events.items()
            }
            for events in (walker.visit_events, walker.leave_events)
        )
        self._events: dict[type, tuple[list[Visit], list[Visit]]] = {}
        for checker in linter.get_checkers():
            for place, messages in PARTS.items():
                name, _, part = place.partition(".")
                if type(checker).__name__ == name and self._is_idle(messages):
                    setattr(checker, part, _nothing)

    def walk(self, node: Any) -> None:
        """Visits a node and all below it."""
        kind = type(node)
        events = self._events.get(kind)
        if events is None:
            name = kind.__name__.lower()
            events = self._events[kind] = self._visits.get(name, []), self._leaves.get(name, [])
        visits, leaves = events
        for visit in visits:
            visit(node)
        for child in node.get_children():
            self.walk(child)
        for leave in leaves:
            leave(node)

    def _trimmed(self, visit: Visit) -> Visit | None:
        """A visit without its work for disabled messages; None if nothing is left."""
        place = f"{type(getattr(visit, '__self__', None)).__name__}.{visit.__name__}"
        messages = VISITS.get(place, getattr(visit, "checks_msgs", None))
        if messages is None:  # it may report anything
            return visit
        if self._is_idle(messages):
            return None
        enabled = set(filter(self._is_enabled, messages))
        if place == "BasicChecker.visit_call" and enabled <= _OF_NAMED_CALLS:
            # The visit first infers the callee, to find code after an exit (W0101).
            return lambda node: visit(node) if _called(node) in _NAMED_CALLS else None
        return visit

    def _is_idle(self, messages: Messages) -> bool:
        return not any(map(self._is_enabled, messages))


def _called(node: Any) -> str:
    return getattr(node.func, "attrname", None) or getattr(node.func, "name", "")


def _nothing(*_args: object, **_options: object) -> None:
    """Replaces a method whose messages are disabled."""


MODULE = "lintseq_state"  # a state's name in pylint; messages show "state"
YOUNG_OBJECTS = 100_000  # before a collection; a state of 100 lines makes about 10,000

_WARNINGS = frozenset({"W0231", "W0311"})

_HEADER_LINE = re.compile(r" on line (\d+)")
# Odd characters (tabs and form feeds among them), pragmas, a line that only continues, an encoding.
_UNUSUAL = re.compile(r"[^\n -~]|pylint|^ *\\$|\A(?:.*\n)? *#.*coding[:=]", re.MULTILINE)


class Linter:
    """pylint, set up once to lint one text after another."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="lintseq-pylint-")
        self._set_up()

    def check(self, states: Sequence[str]) -> list[list[Finding]]:
        """The findings in each state, in pylint's order."""
        return [self._check(state) for state in states]

    def _set_up(self) -> None:
        self.manager = astroid.MANAGER
        self.traces = traces()
        folder = Path(self._folder.name)
        self.path = folder / f"{MODULE}.py"
        self.path.write_text("")
        settings = folder / "pylintrc"  # empty, so that pylint does not look for the user's
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
        reporter = CollectingReporter()
        self.linter.set_reporter(reporter)
        self.linter.set_current_module(MODULE, str(self.path))
        crash = None
        try:
            self._lint(state)
        except Exception as error:  # noqa: BLE001 - a crash of pylint counts as F0002
            crash = Finding(1, "F0002", f"pylint failed: {type(error).__name__}")
        # A pragma can enable other messages too.
        findings = [
            _finding(m.msg_id, m.line, m.msg.replace(str(self.path), f"{MODULE}.py"))
            for m in reporter.messages
            if _counts(m.msg_id)
        ]
        if crash:  # checkers and trees may be half done
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
        # pylint reads the encoding declaration of a file, but not of a text.
        module = linter.get_ast(str(self.path), MODULE, state if plain else None)
        if module is None:
            return  # the reporter has an E0001
        linter.file_state = FileState(MODULE, linter.msgs_store, module)
        if plain and _is_regular(module, state.split("\n")):
            self.walker.walk(module)
        else:
            linter._ignore_file = False
            linter.check_astroid_module(module, self.walker, self.raw_checkers, self.token_checkers)

    def _take_back(self) -> None:
        """Drops the state's tree, its notes in other trees, and everything inferred from it."""
        self.manager.astroid_cache.pop(MODULE, None)
        self.traces.take_out(MODULE)
        self.forget_inferred()
        if gc.get_count()[0] > YOUNG_OBJECTS:
            gc.collect(0)

    def forget_inferred(self) -> None:
        """Empties the caches of inferred values, which keep states' trees alive."""
        for clear in self.clear_caches:
            clear()

    def forget_all(self) -> None:
        """Empties all caches of astroid and pylint, the libraries' trees included."""
        self.forget_inferred()
        self.traces.forget()
        self.manager.clear_cache()


def _cache_clearers() -> list[Callable[[], object]]:
    """The functions that empty the caches that hold nodes."""
    functions: list[Any] = [
        LookupMixIn.lookup,
        ObjectModel.attributes,
        nodes.ClassDef._metaclass_lookup_attribute,
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

    The first statement of a block decides: the others are in the same column, or the program would
    not parse. A statement after a colon has no indentation of its own. False if in doubt.
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
                    is_elif = name == "orelse" and statement.col_offset == more[0].col_offset
                    blocks.append((SimpleNamespace(body=more), depth + (not is_elif)))
    return True


def _is_at(statement: Any, depth: int, lines: Sequence[str]) -> bool:
    number: int = statement.lineno - 1
    line = lines[number]
    indentation = len(line) - len(line.lstrip(" "))
    return statement.col_offset > indentation or indentation == 4 * depth
