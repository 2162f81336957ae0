"""What pylint 4 does for disabled messages only, and how to have it left out.

pylint leaves out a visit that says so if all its messages are disabled. But visits that do not say
it, and parts of others, are made all the same: to find out whether an import is used, say. The
tables below tell the messages that each of them serves; one is left out if all of its are disabled.
A test compares the tables with pylint's source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Messages = tuple[str, ...]
_UNUSED: Messages = (
    "unused-import",
    "unused-wildcard-import",
    "unused-variable",
    "unused-argument",
)
_UNUSED += ("possibly-unused-variable",)
_ORDER: Messages = ("wrong-import-order", "ungrouped-imports", "wrong-import-position")

# Visits that pylint makes always.
VISITS: Mapping[str, Messages] = {
    "BasicChecker.visit_classdef": ("dangerous-default-value",),
    "BasicChecker.visit_module": (),  # it counts
    "BasicChecker.visit_try": ("return-in-finally", "lost-exception"),
    "BasicChecker.leave_try": ("return-in-finally", "lost-exception"),
    "ImportsChecker.compute_first_non_import_node": _ORDER,
    "ImportsChecker.visit_functiondef": _ORDER,
    # They note the names in comments and annotations: these count as used.
    "VariablesChecker.leave_assign": _UNUSED,
    "VariablesChecker.leave_for": _UNUSED,
    "VariablesChecker.leave_with": _UNUSED,
    "VariablesChecker.visit_arguments": _UNUSED,
}

# Parts of visits.
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
    """Visits the nodes of a tree as pylint's walker does, without what serves disabled messages.

    It changes the checkers too: some of their methods do nothing from now on.

    Args:
        linter: pylint's.
        walker: pylint's, with its checkers.
    """

    def __init__(self, linter: Any, walker: Any) -> None:
        self.nbstatements = 0  # pylint reads it, for a mark that nobody sees
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
        """A visit, without what it does for disabled messages; None if nothing is left."""
        place = f"{type(getattr(visit, '__self__', None)).__name__}.{visit.__name__}"
        messages = VISITS.get(place, getattr(visit, "checks_msgs", None))
        if messages is None:  # it may say anything
            return visit
        if self._is_idle(messages):
            return None
        enabled = set(filter(self._is_enabled, messages))
        if place == "BasicChecker.visit_call" and enabled <= _OF_NAMED_CALLS:
            # It first infers what is called, to find code after an exit (W0101).
            return lambda node: visit(node) if _called(node) in _NAMED_CALLS else None
        return visit

    def _is_idle(self, messages: Messages) -> bool:
        return not any(map(self._is_enabled, messages))


def _called(node: Any) -> str:
    return getattr(node.func, "attrname", None) or getattr(node.func, "name", "")


def _nothing(*_args: object, **_options: object) -> None:
    """Stands in for a method that has nothing to say."""
