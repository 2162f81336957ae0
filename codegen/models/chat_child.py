"""The process that renders chat templates; started by :mod:`codegen.models.chat`."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from codegen.templates import serve


def _main() -> None:
    # The packages' own modules take seconds to import, and are not needed for this one of theirs.
    for name in ("transformers", "transformers.utils"):
        spec = find_spec(name)
        assert spec and spec.submodule_search_locations
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = list(spec.submodule_search_locations)
        sys.modules[name].__spec__ = spec
    from transformers.utils.chat_template_utils import render_jinja_template

    def render(template: str, arguments: dict[str, Any]) -> str:
        (text,), marks = render_jinja_template(chat_template=template, **arguments)
        return json.dumps((text, marks[0])) if marks else text

    serve(render)


if __name__ == "__main__":
    _main()
