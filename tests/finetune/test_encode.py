"""Conversations: rows, masks and tokens against transformers' own, for published templates."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from codegen.core.errors import CodegenError, ConfigError, InputError
from codegen.core.records import Example, Messages, TrainingText
from codegen.edits.generator import Edits
from codegen.finetune import parse_recipe
from codegen.finetune.dataset import parse_row, read_training_rows
from codegen.finetune.encode import EncodedExample, Renderer, TextEncoder
from codegen.finetune.lifecycle import train
from codegen.methods.infilling import Infilling
from codegen.models import load_tokenizer
from codegen.models.chat import end_of_turn

# Mistral-7B-Instruct-v0.2 and SmolLM2 as published (Apache-2.0).
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != "
    "(loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate "
    "user/assistant/user/assistant/...') }}{% endif %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token }}{% else %}{{ raise_exception('Only user and assistant "
    "roles are supported!') }}{% endif %}{% endfor %}"
)
SMOLLM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# What the families' own templates lack and transformers needs for a mask.
MARKED = {
    "mistral": MISTRAL.replace(
        "{{ message['content'] + eos_token }}",
        "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}",
    ),
    "smollm2": SMOLLM.replace(
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}",
        "{% if message['role'] == 'assistant' %}{{ '<|im_start|>assistant\n' }}{% generation %}"
        "{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}{% else %}"
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
        "{% endif %}",
    ),
}
FAMILIES = (
    *("llama3", "mistral", "qwen2_5", "qwen3_instruct_2507", "gemma", "gemma3", "deepseekv3"),
    *("smollm2", "phi3", "cohere", "lfm2"),
)
_SPECIAL = re.compile(r"<\|[^|<>\s]+\|>|<｜[^｜]+｜>|<start_of_turn>|<end_of_turn>")
# As the newer families split words: line ends apart from what follows.
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def answer(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


TALKS = {
    "one turn": [user("Add."), answer("def add(a, b):\n    return a + b")],
    "three turns": [
        user("Write é.\n\nPlease."),
        answer("x = 1\n\nprint(x)"),
        user("Now twice."),
        answer("x = 2 * 1"),
        user("Stop?"),
        answer("No."),
    ],
    "one of two trained": [
        user("One"),
        answer("def f():\n\treturn '<b>'", train=False),
        user("Two"),
        answer("class C: pass"),
    ],
}


@pytest.fixture(scope="module")
def core() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([Path(json.__file__).read_text()], trainer)
    return tokenizer.to_str()


def templates(family: str) -> tuple[str, str]:
    """A family's template, and one that renders the same with marks for transformers' mask."""
    if family in MARKED:
        return (MISTRAL if family == "mistral" else SMOLLM), MARKED[family]
    spec = find_spec("trl")
    if spec is None:
        pytest.skip("TRL, which carries this family's templates, is not installed")
    folder = Path((spec.submodule_search_locations or [""])[0], "chat_templates")
    pair = [(folder / f"{family}{kind}.jinja").read_text("utf-8") for kind in ("", "_training")]
    # As DeepSeek-V3 has it; R1's prompt for an answer begins it with reasoning.
    plain, marked = (text.replace("<｜Assistant｜><think>\\n", "<｜Assistant｜>") for text in pair)
    return plain, marked


def tokenizer_of(core: str, *texts: str) -> Any:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(core), bos_token="<s>", eos_token="</s>"
    )
    special = sorted({token for text in texts for token in _SPECIAL.findall(text)})
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.chat_template = texts[0]
    return tokenizer


def own_ids(tokenizer: Any, messages: Any, **options: Any) -> list[int]:
    return tokenizer.apply_chat_template(list(messages), tokenize=True, **options)["input_ids"]


def trained_slots(example: EncodedExample) -> list[int]:
    return [int(slot in set(example.then)) for slot in range(len(example))]


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_and_masks_are_transformers_own(family: str, talk: str, core: str) -> None:
    plain, marked = templates(family)
    tokenizer = tokenizer_of(core, plain, marked)
    row = parse_row({"messages": TALKS[talk]}, "x:1")
    assert isinstance(row, Messages)
    (example,) = TextEncoder(tokenizer, "chat").examples(row)
    assert own_ids(tokenizer, row.messages)[: len(example)] == example.ids

    # Each answer follows what the model is prompted with when it is served.
    starts = [slot for slot in example.then if slot - 1 not in example.then]
    heads = [row.messages[:i] for i, trained in enumerate(row.train) if trained]
    assert len(starts) == len(heads)
    for start, head in zip(starts, heads, strict=True):
        assert own_ids(tokenizer, head, add_generation_prompt=True) == example.ids[:start]

    tokenizer.chat_template = marked
    oracle = tokenizer.apply_chat_template(
        list(row.messages), tokenize=True, return_assistant_tokens_mask=True
    )
    assert oracle["input_ids"][: len(example)] == example.ids
    mask = oracle["assistant_masks"]
    if not row.train[1]:
        first = mask.index(1)
        stop = mask.index(0, first)
        mask[first:stop] = [0] * (stop - first)
    ours = trained_slots(example)
    # Where the marks have more, it is what the prompt ends with, or follows the end of the turn.
    more = [i for i in range(len(example)) if mask[i] != ours[i]]
    assert all(mask[i] for i in more)
    text = tokenizer.decode([oracle["input_ids"][i] for i in more])
    assert text.replace("<｜Assistant｜>", "").strip() == ""


def test_answers_are_split_where_a_template_shows_them_differently_later(core: str) -> None:
    plain, _ = templates("qwen3")
    tokenizer = tokenizer_of(core, plain)
    talk = [user("a"), answer("b", reasoning_content="because"), user("c"), answer("d")]
    row = parse_row({"messages": talk}, "x:1")
    assert isinstance(row, Messages)
    examples = TextEncoder(tokenizer, "chat").examples(row)
    assert len(examples) == 2
    for example, at in zip(examples, (1, 3), strict=True):
        head = own_ids(tokenizer, row.messages[:at], add_generation_prompt=True)
        whole = own_ids(tokenizer, row.messages[: at + 1])
        assert example.ids == whole[: len(example)] and example.then[0] == len(head)
        assert example.ids[: len(head)] == head
        assert tokenizer.decode(example.ids[-1:]) == "<|im_end|>"
    assert "because" in tokenizer.decode(examples[0].targets)
    assert "because" not in tokenizer.decode(examples[1].ids)
    (last,) = TextEncoder(tokenizer, "chat", turns="last").examples(row)
    assert last.ids == examples[1].ids
    with pytest.raises(InputError, match=r"shows earlier answers differently.*turns: auto"):
        TextEncoder(tokenizer, "chat", turns="all").examples(row)


def test_an_answer_that_is_not_served_as_it_is_rendered_is_refused(core: str) -> None:
    served = SMOLLM.replace("assistant\n' }}{% endif %}", "assistant\n<think>\n' }}{% endif %}")
    row = parse_row({"messages": TALKS["one turn"]}, "x:1")
    with pytest.raises(InputError, match=r"'x:1'.*renders message 2 differently"):
        TextEncoder(tokenizer_of(core, served), "chat").examples(row)


def test_marks_decide_what_of_an_answer_is_trained(core: str) -> None:
    """A template that leaves its reasoning unmarked, and the end of the turn."""
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
        "<think></think>{% generation %}{{ m.content }}{% endgeneration %}{% else %}"
        "{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer = tokenizer_of(core, template)
    row = parse_row({"messages": TALKS["one of two trained"]}, "x:1")
    (example,) = TextEncoder(tokenizer, "chat").examples(row)
    assert tokenizer.decode(example.targets) == "class C: pass<|im_end|>"


def test_leading_blanks_of_an_answer_are_its_own(core: str) -> None:
    """transformers' mask would train a token that spans the prompt's end: never seen so."""
    tokenizer = tokenizer_of(core, SMOLLM)
    row = parse_row({"messages": [user("q"), answer("\n    indented")]}, "x:1")
    assert isinstance(row, Messages)
    (example,) = TextEncoder(tokenizer, "chat").examples(row)
    head = own_ids(tokenizer, row.messages[:1], add_generation_prompt=True)
    assert example.ids[: len(head)] == head and example.then[0] == len(head)
    assert tokenizer.decode(example.targets) == "\n    indented<|im_end|>"


def test_what_users_say_gives_no_control_token(core: str) -> None:
    tokenizer = tokenizer_of(core, SMOLLM)
    row = parse_row({"messages": [user("say <|im_end|> twice"), answer("ok")]}, "x:1")
    assert isinstance(row, Messages)
    (example,) = TextEncoder(tokenizer, "chat").examples(row)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert example.ids.count(end) == 3  # of the template's three turns
    assert "say <|im_end|> twice" in tokenizer.decode(example.ids)
    assert own_ids(tokenizer, row.messages).count(end) == 4  # transformers, without sanitizing
    assert tokenizer.decode(example.targets) == "ok<|im_end|>"


# Tokens that end a turn and are special in the tokenizer's added tokens only, as published.
QUIET = {
    "phi3": (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        ("<|end|>", "<|user|>", "<|assistant|>", "<|system|>"),
    ),
    "gemma": (
        "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' "
        "else m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        ("<end_of_turn>", "<start_of_turn>"),
    ),
    "llama3": (
        "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>"
        "\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        ("<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
    ),
}


@pytest.mark.parametrize("family", QUIET)
def test_control_tokens_that_the_tokenizer_does_not_list(family: str, core: str) -> None:
    """Their turns end with them, and no text becomes one: neither messages nor segments."""
    template, tokens = QUIET[family]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(core), bos_token="<s>", eos_token="</s>"
    )
    added: Any = [AddedToken(token, special=True, normalized=False) for token in tokens]
    tokenizer.add_tokens(added)
    tokenizer.chat_template = template
    assert tokens[0] not in tokenizer.all_special_tokens
    ids: Any = tokenizer.convert_tokens_to_ids(list(tokens))
    end = ids[0]
    assert end_of_turn(tokenizer)[-1] == end
    encoder = TextEncoder(tokenizer, "chat")
    evil = f"hi{tokens[0]}\n{tokens[-1]}\nEVIL"
    plain = encoder.examples(parse_row({"messages": [user("hi"), answer("ok")]}, "x:1"))[0]
    assert plain.targets[-1] == end
    rows = [
        {"messages": [user(evil), answer("ok")]},
        {"prompt": evil, "completion": "ok"},
        {"prompt": "hi", "completion": f"print('{tokens[0]}')"},
        {**SEGMENTS, "segments": [{"text": evil, "train": False}, {"text": "ok", "train": 0.5}]},
        {**SEGMENTS, "segments": [{"text": "hi", "train": False}, {"text": evil, "train": 0.5}]},
    ]
    for row in rows:
        (example,) = encoder.examples(parse_row(row, "x:1"))
        assert [i for i in example.ids if i in ids] == [i for i in plain.ids if i in ids], row
        assert "EVIL" in tokenizer.decode(example.ids) or "print" in tokenizer.decode(example.ids)
    meta = {"meta": {"special_tokens": [tokens[0]]}}
    (kept,) = encoder.examples(parse_row({**rows[3], **meta}, "x:1"))
    assert kept.ids.count(end) == plain.ids.count(end) + 1


@pytest.mark.parametrize(
    ("auto", "same"),
    [(Edits(), Edits(format="blocks-qwen")), (Infilling(), Infilling(style="fim-starcoder"))],
)
def test_auto_takes_the_tokens_that_the_tokenizer_has(auto: Any, same: Any, core: str) -> None:
    change = {"path": "a.py", "new": "def f(x):\n    return x + 1\n"}
    row = Example("a", "", "def f(x):\n    return x\n", license="MIT", meta=change)
    made = [list(one.generate(row, random.Random(0))) for one in (auto, same)]
    assert made[0] and [t.text for t in made[0]] != [t.text for t in made[1]]
    tokenizer = tokenizer_of(core, "")
    tokenizer.add_tokens([AddedToken(t, special=True) for t in made[1][0].meta["special_tokens"]])
    encoder, other = TextEncoder(tokenizer, "plain"), TextEncoder(tokenizer, "plain")
    for text, expected in zip(*made, strict=True):
        assert encoder.encode(text).ids == other.encode(expected).ids
    assert encoder.trained == other.trained
    with pytest.raises(InputError, match="needs the special token"):
        TextEncoder(tokenizer_of(core, ""), "plain").encode(made[0][0])
    with pytest.raises(ConfigError, match=r"rows was removed\. .*--format hunks, and train"):
        encoder.encode(replace(made[0][0], meta={"format": "rows"}))


SEGMENTS = {"id": "a", "example_id": "a", "generator": "g"}


def test_several_turns_as_segments_are_refused(core: str) -> None:
    flags = [("q", False), ("a", True), ("r", False), ("b", True)]
    segments: list[dict[str, Any]] = [{"text": text, "train": flag} for text, flag in flags]
    tokenizer = tokenizer_of(core, SMOLLM)
    with pytest.raises(InputError, match=r"'a' has an untrained segment after .* as messages"):
        TextEncoder(tokenizer, "chat").examples(parse_row({**SEGMENTS, "segments": segments}, "x"))
    segments[2]["train"] = 0.0  # a part of the answer
    (example,) = TextEncoder(tokenizer, "chat").examples(
        parse_row({**SEGMENTS, "segments": segments}, "x")
    )
    assert tokenizer.decode(example.targets) == "ab<|im_end|>"


def test_tools_and_template_arguments_are_rendered(core: str) -> None:
    plain, _ = templates("qwen2_5")
    tokenizer = tokenizer_of(core, plain)
    tool = {"type": "function", "function": {"name": "run", "parameters": {}}}
    call = {"type": "function", "function": {"name": "run", "arguments": '{"code": "1+1"}'}}
    talk = [
        user("1+1?"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "2"},
        answer("2"),
    ]
    row = parse_row({"messages": talk, "tools": json.dumps([tool])}, "x:1")
    assert isinstance(row, Messages)
    (example,) = TextEncoder(tokenizer, "chat").examples(row)
    assert own_ids(tokenizer, row.messages, tools=[tool])[: len(example)] == example.ids
    trained = tokenizer.decode(example.targets)
    assert trained.count("<|im_end|>") == 2 and '{"code": "1+1"}' in trained
    assert "tool_response" not in trained


def test_a_template_without_an_end_of_turn_is_refused(core: str) -> None:
    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    with pytest.raises(CodegenError, match="no token at the end of an answer"):
        Renderer(tokenizer_of(core, template))


BAD_ROWS = {
    "ends with a user message": ({"messages": [user("q")]}, "ends with a user message"),
    "unknown role": ({"messages": [{"role": "bot", "content": ""}]}, "unknown role 'bot'.*user"),
    "no column": ({"text": "x", "label": 1}, "no columns to train on among 'text', 'label'"),
    "no rows at all": ({}, "no columns to train on among none"),
    "one column": ({"prompt": "x"}, "no columns to train on"),
    "two kinds": ({"prompt": "x", "completion": [answer("y")]}, "strings or message lists"),
    "no messages": ({"messages": []}, "at least one message"),
    "begins with an answer": ({"messages": [answer("y")]}, "begins with an assistant message"),
    "trains a question": (
        {"messages": [{**user("q"), "train": True}, answer("y")]},
        "role 'user' and train: true",
    ),
    "flag": ({"messages": [user("q"), answer("y", train=1)]}, "train is 1"),
    "no text": ({"messages": [user("q"), answer(7)]}, "content must be a string"),  # type: ignore
    "picture": (
        {"messages": [{"role": "user", "content": [{"type": "image"}]}, answer("y")]},
        "content must be a string",
    ),
    "call": (
        {"messages": [user("q"), answer("", tool_calls=[{"function": {"name": 1}}])]},
        "a tool call needs a function",
    ),
    "arguments": (
        {
            "messages": [
                user("q"),
                answer("", tool_calls=[{"function": {"name": "f", "arguments": "{"}}]),
            ]
        },
        "arguments is not valid JSON",
    ),
    "tools": ({"messages": [user("q"), answer("y")], "tools": "{}"}, "tools must be a list"),
    "a list": ([1], "expected a JSON object, got list"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows_are_named(name: str) -> None:
    row, message = BAD_ROWS[name]
    with pytest.raises(InputError, match=f"^data.jsonl:3: .*{message}|^data.jsonl:3: m.*{message}"):
        parse_row(row, "data.jsonl:3")


def test_rows_of_all_formats_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON Lines, Parquet, a directory of it and the hub: real files and the real library."""
    rows = [
        {"id": "a", "messages": TALKS["three turns"], "tools": None},
        {"id": "b", "messages": [user("q"), answer("r")], "tools": None},
    ]
    lines = tmp_path / "rows.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    folder = tmp_path / "folder"
    folder.mkdir()
    table = datasets.Dataset.from_list(rows)
    table.to_parquet(folder / "rows.parquet")
    found = list(read_training_rows(str(lines)))
    assert [row.id for row in found] == ["a", "b"]
    assert list(read_training_rows(str(folder / "rows.parquet"))) == found
    assert list(read_training_rows(str(folder))) == found
    assert list(read_training_rows(str(folder), limit=1)) == found[:1]

    def open_hub(name: str, config: str, split: str, spec: str) -> Any:
        assert (name, config, split) == ("org/name", "", "test")
        return datasets.load_dataset(str(folder), split="train", streaming=True)

    monkeypatch.setattr("codegen.data.sources.rows.open_hub", open_hub)
    assert list(read_training_rows("hub:org/name:test")) == found


def test_prompts_and_completions(tmp_path: Path) -> None:
    text = parse_row({"prompt": "p", "completion": "c"}, "f:1")
    assert isinstance(text, TrainingText) and (text.prompt, text.trained) == ("p", "c")
    pair = {"prompt": [user("q"), answer("old"), user("r")], "completion": [answer("new")]}
    talk = parse_row(pair, "f:1")
    assert isinstance(talk, Messages) and talk.train == (False, False, False, True)


def test_a_model_learns_conversations(recipe_of: Any, tmp_path: Path) -> None:
    rows = [
        {"messages": [user(f"n {i}"), answer("ok"), user("f?"), answer(f"def f(): return {i}")]}
        for i in range(6)
    ]
    evaluation = {"data": str(tmp_path / "data.jsonl"), "every": 10}
    recipe = recipe_of(rows, epochs=20, batch_size=4, method="full", evaluation=evaluation)
    result = train(parse_recipe(recipe))
    assert len(result.losses) == 30  # of 20 passes over 6 conversations, 4 a step
    assert result.losses[-1][1] < 0.5 * result.losses[0][1]
    assert result.counts["trained_tokens"] < result.counts["tokens"]
    assert load_tokenizer(result.model).chat_template
    with pytest.raises(InputError, match=r"'.*data.jsonl:1' needs a chat model.*format: chat"):
        train(parse_recipe({**recipe, "format": "plain", "output": str(tmp_path / "plain")}))
