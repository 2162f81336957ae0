"""Chat templates: what transformers renders, within bounds of time and memory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from codegen.core.errors import ModelError
from codegen.models import load_tokenizer
from codegen.models.chat import chat_prompt, marked_stretches, render
from tests.models.test_config_checks import change, no_pickles  # noqa: F401 - also guards these tests


@pytest.fixture
def folder(tiny_model_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "model"))


TURNS = [
    {"role": "system", "content": "Be brief.", "name": None},
    {"role": "user", "content": "<b>2 + 2 = \u00e9?"},
    {"role": "assistant", "content": "4", "reasoning_content": "easy"},
]


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 'a' * 10 ** 11 }}",
        "{% set n = namespace(x='a' * 999) %}"
        "{% for i in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
        "{{ messages | tojson(indent=10 ** 9) }}",
        "{{ '%099999999999d' % 1 }}",
        "{{ 'x' * 10 ** 7 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{{ ''.__class__.__mro__ }}",
        "{% include '/etc/passwd' %}",
        "{{ 1 / 0 }}",
        "{{ 1 + 'a' }}",
        "{{ messages[9].content }}",
        "{% for %}",
        "{{ raise_exception('two\nlines') }}",
        [{"name": "x", "template": "no default"}],
        5,
    ],
    ids=lambda template: str(template)[:40],
)
def test_a_chat_template_is_bounded_in_time_and_memory(folder: Path, template: Any) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    change(folder, "tokenizer_config.json", chat_template=template)
    with pytest.raises(ModelError, match="chat template rejects") as caught:
        chat_prompt(load_tokenizer(str(folder)), "hello")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}\n  {%- if loop.first %}{{ bos_token }}{% endif %}\n"
        "[{{ m.role }}] {{ m.content | trim }}{{ m.reasoning_content }}{{ m.thinking }}"
        "{{ m.name is defined }}\n{% endfor %}"
        "{% if add_generation_prompt %}go{% endif %}{{ mood }}",
        "{{ messages | tojson }}{{ tools | tojson(indent=2) if tools }}",
        "{% for m in messages %}{% if m.role == 'user' %}{% continue %}{% endif %}"
        "{% generation %}{{ m.content }}\n{% endgeneration %}{% endfor %}",
    ],
)
@pytest.mark.parametrize("tools", [[], [{"type": "function", "function": {"name": "\u00e9<"}}]])
def test_a_chat_template_gives_what_transformers_renders(
    folder: Path, template: str, tools: list[Any]
) -> None:
    tokenizer = load_tokenizer(str(folder))
    tokenizer.chat_template = template
    for opens in (False, True):
        expected = tokenizer.apply_chat_template(
            TURNS, tools=tools or None, tokenize=False, add_generation_prompt=opens, mood=0.5
        )
        found = render(tokenizer, TURNS, opens=opens, tools=tools, variables={"mood": 0.5})
        assert found == expected


def test_marked_parts_of_a_chat_are_those_of_transformers(folder: Path) -> None:
    tokenizer = load_tokenizer(str(folder))
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {% generation %}{{ m.content }}{% endgeneration %}\n"
        "{% endfor %}"
    )
    text = render(tokenizer, TURNS, opens=False)
    marked = [text[start:stop] for start, stop in marked_stretches(tokenizer, TURNS, [], {})]
    assert marked == [turn["content"] for turn in TURNS]
