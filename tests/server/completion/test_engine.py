"""The engine against the plain decoding loop; order, cancelling, memory, isolation."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from codegen.decoding.drafts import Draft, Planner
from codegen.edits.formats import Continuation
from codegen.server.completion.engine import DocumentSuggestions
from codegen.server.completion.postprocess import safe_text
from codegen.server.completion.requests import (
    CompletionRequest,
    DocumentKey,
    Overloaded,
    Snippet,
    Superseded,
)
from codegen.server.context.document import TypingDelay

TEXT = Path(__file__).read_text()


def plain(model: Any, prefix: str, max_tokens: int) -> str:
    """What the batched loop gives for the same text, healed in the same way."""
    from codegen.decoding.loop import Row, decode
    from codegen.generation.detokenize import TextStream

    prompt = model.vocabulary.heal(model.prompter.encode(prefix).ids)
    row = Row(prompt.ids, [0.0] * max_tokens, prompt.rest)
    decode(
        model.model,
        [row],
        max_new_tokens=max_tokens,
        temperature=0,
        top_p=1,
        eos=model.eos,
        vocabulary=model.vocabulary,
    )
    stream = TextStream(model.tokenizer.backend_tokenizer, prompt.ids, taken=prompt.taken)
    for token in row.tokens:
        stream.push(token)
    return safe_text(stream.text)


async def test_typing_at_the_end_encodes_a_few_tokens_and_gives_the_plain_loops_text(
    engine: Any, ask: Any
) -> None:
    first = await engine.complete(ask(TEXT[:300]))
    assert first.encoded > 50
    for end in range(301, 320):
        got = await engine.complete(ask(TEXT[:end]))
        assert got.encoded <= 8
        assert got.reused + got.encoded >= first.prompt_tokens - 8
        assert got.text == plain(engine.source, TEXT[:end], 8)


async def test_candidates_are_different_and_the_first_is_the_greedy_one(
    engine: Any, ask: Any
) -> None:
    one = await engine.complete(ask("def f(x):\n    return ", document="b"))
    many = await engine.complete(ask("def f(x):\n    return ", document="c", candidates=5))
    texts = [candidate.text for candidate in many.candidates]
    assert len(texts) == 5 == len({text.strip() for text in texts})
    assert texts[0] == one.text
    enough = ask("def f(x):\n    return ", document="d", candidates=5)
    enough = dataclasses.replace(enough, stop_search=lambda found: found.text == texts[2])
    fewer = await engine.complete(enough)
    assert [candidate.text for candidate in fewer.candidates] == texts[:3]


def relaxed(
    model: Any, ids: list[int], wanted: list[int], least: float, is_own: bool = True
) -> list[int]:
    """The prediction while each of its tokens is probable enough, then the most probable ones."""
    import torch

    made: list[int] = []
    follows = True
    while len(made) < len(wanted):
        with torch.inference_mode():
            logits = model.model(torch.tensor([[*ids, *made]])).logits[0, -1].float()
        token, next_ = int(logits.argmax()), wanted[len(made)]
        is_free = bool(made) or not is_own
        follows = follows and (token == next_ or (is_free and logits.softmax(0)[next_] >= least))
        made.append(next_ if follows else token)
    return made


@pytest.mark.parametrize("drafts", [True, False])
async def test_probable_enough_predictions_are_chosen(
    engine: Any, ask: Any, monkeypatch: pytest.MonkeyPatch, drafts: bool
) -> None:
    """As by a plain loop, and whether or not drafts of the prediction are worth a pass."""
    if not drafts:
        monkeypatch.setattr(Planner, "plan", lambda self, found, *_: [Draft() for _ in found])
    model, options = engine.source, {"multiline": None, "max_tokens": 9}
    encode = model.tokenizer.backend_tokenizer.encode

    seen = set()

    async def check(
        prompt: Any, own: str, text: str, wanted: list[int], least: float, hesitant: Any
    ) -> None:
        asked = dataclasses.replace(
            prompt, prediction=text, acceptance_threshold=least, first_token_thresholds=hesitant
        )
        got = (await engine.complete(asked)).text
        made = relaxed(model, list(prompt.tokens), wanted, least, is_own=bool(hesitant))
        assert got == safe_text(model.tokenizer.decode(made))
        seen.add((got == own, made == wanted))

    for document, end in enumerate((40, 133, 300)):
        prompt = dataclasses.replace(ask(TEXT[:end], document=f"{document}", **options))
        prompt = dataclasses.replace(prompt, tokens=tuple(encode(TEXT[:end]).ids))
        own = (await engine.complete(prompt)).text
        first = model.tokenizer.decode(relaxed(model, list(prompt.tokens), [0], 1.0))
        # What may say that there is no answer begins with a token of the model's own.
        for begin, hesitant in (("", ()), (first, ((0, 0.0),))):
            text = begin + "return values[0] + other"
            wanted = encode(text, add_special_tokens=False).ids[:9]
            for least in (1e-9, 1 / len(model.tokenizer), 1.0):
                await check(prompt, own, text, wanted, least, hesitant)
    assert {(True, False), (False, True)} <= seen


async def test_an_answer_begins_with_a_token_only_if_it_is_probable_enough(
    engine: Any, ask: Any
) -> None:
    """Else with the next most probable one; later it may come all the same."""
    import torch

    model = engine.source
    encode = model.tokenizer.backend_tokenizer.encode

    def greedy(ids: list[int], banned: int | None) -> tuple[list[int], float]:
        made: list[int] = []
        first = 0.0
        while len(made) < 6:
            with torch.inference_mode():
                logits = model.model(torch.tensor([[*ids, *made]])).logits[0, -1].double()
            if not made:
                first = float(logits.softmax(0).max())
            if not made and banned is not None:
                logits = logits.clone().index_fill(0, torch.tensor([banned]), -torch.inf)
            made.append(int(logits.argmax()))
        return made, first

    for document, end in enumerate((40, 133, 300)):
        ids = list(encode(TEXT[:end]).ids)
        plain, probability = greedy(ids, None)
        other, _ = greedy(ids, plain[0])
        assert other[0] != plain[0]
        request = ask(TEXT[:end], document=f"h{document}", multiline=None, max_tokens=6)
        for least, wanted in ((0.999 * probability, plain), (1.001 * probability, other)):
            for prediction in ("", TEXT[:20]):
                asked = dataclasses.replace(
                    request,
                    tokens=tuple(ids),
                    first_token_thresholds=((plain[0], least),),
                    prediction=prediction,
                )
                got = (await engine.complete(asked)).text
                assert got == safe_text(model.tokenizer.decode(wanted))


async def test_only_what_may_follow_is_chosen(engine: Any, ask: Any) -> None:
    """As by a plain loop that compares bytes: characters of several tokens, and then the end."""
    import torch

    model = engine.source
    eos = min(model.eos)

    def follow(text: str) -> Continuation:
        rests = [copy[len(text) :] for copy in copies if copy.startswith(text)]
        return Continuation((), tuple(filter(None, rests)), "" in rests)

    for document, copies in enumerate((["größe = 1\n", "größer 🐍"], ["x", "xy", "y"], ["🐍🐍"])):
        prompt = list(model.tokenizer.backend_tokenizer.encode(TEXT[:133]).ids)
        asked = ask(TEXT[:133], document=f"f{document}", max_tokens=40)
        asked = dataclasses.replace(asked, tokens=tuple(prompt), constraint=follow)
        (got,) = (await engine.complete(asked)).candidates
        spelled, probability, made = b"", 1.0, list[int]()
        while made[-1:] != [eos]:
            with torch.inference_mode():
                logits = model.model(torch.tensor([[*prompt, *made]])).logits[0, -1].double()
            allowed = [
                token
                for token, text in enumerate(model.vocabulary.tokens)
                if text and any(one.encode().startswith(spelled + text) for one in copies)
            ]
            allowed += [eos] if spelled in [one.encode() for one in copies] else []
            made.append(max(allowed, key=lambda token: float(logits[token])))
            probability *= float(logits[allowed].softmax(0)[allowed.index(made[-1])])
            spelled += model.vocabulary.tokens[made[-1]] or b""
        assert got.text.encode() == spelled
        assert got.finish_reason == "eos"
        assert got.probability == pytest.approx(probability, rel=1e-3)
        asked = dataclasses.replace(asked, min_probability=1.01 * probability)
        (cut,) = (await engine.complete(asked)).candidates
        assert (cut.finish_reason, cut.probability < 1.01 * probability) == ("length", True)
        if "x" in copies:  # the best text that begins otherwise
            asked = dataclasses.replace(
                asked, min_probability=0.0, first_token_thresholds=((made[0], 1.0),)
            )
            (other,) = (await engine.complete(asked)).candidates
            assert other.text != got.text and got.probability + other.probability <= 1


async def test_the_latest_request_of_a_document_wins(engine: Any, ask: Any) -> None:
    asked = [ask(TEXT[: 200 + n], max_tokens=64) for n in range(5)]
    other = engine.complete(ask(TEXT[:50], document="other"))
    tasks = [asyncio.ensure_future(engine.complete(one)) for one in asked]
    found = await other
    answers: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(answer, Superseded) for answer in answers[:-1])
    assert answers[-1].candidates and found.candidates


@pytest.fixture
def passes(before_passes: Any) -> list[float]:
    """Times of the forward passes, which are slowed down a little."""
    begun: list[float] = []

    def slow() -> None:
        begun.append(time.perf_counter())
        time.sleep(0.002)

    before_passes(slow)
    return begun


async def test_cancelling_ends_within_one_forward_pass(
    engine: Any, ask: Any, passes: list[float]
) -> None:
    for wait in (0.0, 0.005, 0.02, 0.05):
        # A long context in a new document: the cancel may come while it is encoded or decoded.
        asked = ask(TEXT[:600], document=f"{wait}", max_tokens=100)
        task = asyncio.ensure_future(engine.complete(asked))
        await asyncio.sleep(wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        cancelled = time.perf_counter()
        while not engine.idle:
            await asyncio.sleep(0.001)
        late = [at for at in passes if at > cancelled]
        assert len(late) <= 1


async def test_clients_take_turns(engine: Any, ask: Any) -> None:
    order: list[str] = []

    async def one(client: str, number: int) -> None:
        await engine.complete(ask(f"x{number} = ", document=f"{number}", client=client))
        order.append(client)

    many = [asyncio.ensure_future(one("greedy", number)) for number in range(40)]
    await asyncio.sleep(0)
    await asyncio.gather(*many, one("modest", 99))
    # Behind those that ran when it came, if at all.
    assert order.index("modest") <= engine.limits.together


async def test_a_full_queue_is_refused(engine: Any, ask: Any) -> None:
    asked = [ask(f"x{n} = ", document=f"{n}") for n in range(engine.limits.queue + 10)]
    tasks = [asyncio.ensure_future(engine.complete(one)) for one in asked]
    answers: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Overloaded)]
    assert 1 <= len(refused) <= 10
    assert all(answer.candidates for answer in answers if not isinstance(answer, Exception))


async def test_fifty_documents_within_the_budget_of_memory(tiny_model: Any, ask: Any) -> None:
    from codegen.server.completion.engine import CompletionEngine
    from codegen.server.completion.requests import ServerLimits

    budget = 2_000_000
    engine: Any = CompletionEngine(tiny_model, ServerLimits(context_tokens=256, cache_bytes=budget))

    for round_ in range(2):
        for number in range(50):
            text = f"# {number}\n" + TEXT[:400]
            await engine.complete(ask(text, document=f"{number}", max_tokens=2 + round_))
            assert engine.worker.caches.nbytes <= budget
    assert engine.worker.caches.evicted > 50
    engine.stop()


async def test_no_text_of_another_document(engine: Any, ask: Any) -> None:
    """Interleaved documents give what each gives alone, with all states exact."""
    texts = {name: f"{name} = {{}}\n" * 6 + f"{name}." for name in ("alpha", "beta", "gamma")}
    for _ in range(3):
        for name, text in texts.items():
            texts[name] = text + name[0]
            got = await engine.complete(ask(texts[name], document=name))
            assert got.text == plain(engine.source, texts[name], 8)


async def test_what_is_typed_as_suggested_needs_no_model(engine: Any, ask: Any) -> None:
    from codegen.server.completion.requests import Candidate, CompletionResult

    suggested = CompletionResult((Candidate("return value", 3, "stop"),))

    asked = ask("def f():\n    ", "\n", multiline="auto")
    texts = tuple(candidate.text for candidate in suggested.candidates)
    engine.suggestions(asked.key).add(asked, len(asked.prefix), texts)
    for size in range(1, 8):
        prefix = asked.prefix + suggested.text[:size]
        got = await engine.complete(ask(prefix, "\n", multiline="auto"))
        assert got.from_suggestion and got.text == suggested.text[size:]
    assert engine.metrics.value("completions") == 0


async def test_stale_states_are_made_exact_when_idle(engine: Any, ask: Any) -> None:
    await engine.complete(ask(TEXT[:300]))
    edited = TEXT[:100].replace("engine", "motor") + TEXT[100:300]
    await engine.complete(ask(edited))
    cache = engine.worker.caches.get(ask("").key).cache
    for _ in range(200):
        if cache.exact:
            break
        await asyncio.sleep(0.01)
    assert cache.exact
    got = await engine.complete(ask(edited, max_tokens=7))
    assert got.text == plain(engine.source, edited, 7)


async def test_a_deadline_ends_with_what_there_is(
    engine: Any, ask: Any, passes: list[float]
) -> None:
    got = await engine.complete(ask("x = ", max_tokens=120, deadline_s=0.05))
    assert 1 <= got.candidates[0].completion_tokens < 60


async def test_a_failure_in_the_model_is_one_answer(
    engine: Any, ask: Any, before_passes: Any
) -> None:
    from codegen.core.errors import CodegenError

    calls = itertools.count()

    def broken() -> None:
        if not next(calls):
            raise ZeroDivisionError

    before_passes(broken)

    with pytest.raises(CodegenError, match="ZeroDivisionError"):
        await engine.complete(ask("x = "))
    assert (await engine.complete(ask("x = "))).candidates


async def test_the_engine_stops(engine: Any, ask: Any) -> None:
    task = asyncio.ensure_future(engine.complete(ask(TEXT[:600], max_tokens=100)))
    await asyncio.sleep(0.01)
    await asyncio.to_thread(engine.stop)
    with pytest.raises(Superseded):
        await task
    with pytest.raises(Superseded):
        await engine.complete(ask("y"))
    assert "completions" not in [thread.name for thread in threading.enumerate()]


LONG = "".join(f"line {number} = {number}\n" for number in range(60))
KEY = DocumentKey("test", "", "a.py")


def ask(prefix: str, suffix: str = "", **more: object) -> CompletionRequest:
    return CompletionRequest(KEY, prefix, suffix, **more)  # type: ignore[arg-type]


def keep(
    kept: DocumentSuggestions, prefix: str, suffix: str, *texts: str, seen: int | None = None
) -> None:
    kept.add(ask(prefix, suffix), len(prefix) if seen is None else seen, texts)


@pytest.mark.parametrize("prefix", ["", "x", "def f():\n    ", LONG + "y = "])
@pytest.mark.parametrize("suffix", ["", "\n", "\nz = 1\n" + LONG])
def test_typed_as_suggested(prefix: str, suffix: str) -> None:
    kept = DocumentSuggestions()
    keep(kept, prefix, suffix, "return value", "return other")
    assert kept.find(ask(prefix, suffix)) == ("return value", "return other")
    assert kept.find(ask(prefix + "return v", suffix)) == ("alue",)
    assert kept.find(ask(prefix + "return ", suffix, candidates=2)) == ("value", "other")
    assert kept.find(ask(prefix + "return v", suffix, candidates=2)) is None
    assert kept.find(ask(prefix + "raise", suffix)) is None
    assert kept.find(ask(prefix + "return value", suffix)) is None  # nothing is left


@pytest.mark.parametrize("seen", [None, 600])
def test_one_character_changed_anywhere_the_model_looked(seen: int | None) -> None:
    """The call of a function whose signature changed far above is not suggested again."""
    prefix, suffix, typed = "def area(w, h): ...\n" + LONG + "area(", ")\n" + LONG, "1"
    kept = DocumentSuggestions()
    keep(kept, prefix, suffix, "1, 2", seen=seen)
    assert kept.find(ask(prefix + typed, suffix)) == (", 2",)
    first = len(prefix) - (len(prefix) if seen is None else seen)
    for at in range(len(prefix)):
        for changed in (prefix[:at] + "~" + prefix[at + 1 :], prefix[:at] + prefix[at + 1 :]):
            reused = kept.find(ask(changed + typed, suffix)) is not None
            assert reused == (at < first)
    for at in range(len(suffix)):
        assert kept.find(ask(prefix + typed, suffix[:at] + "~" + suffix[at + 1 :])) is None
    assert kept.find(ask(prefix + typed, suffix + "x = 1\n")) is None
    assert (kept.find(ask("x = 1\n" + prefix + typed, suffix)) is None) == (seen is None)


PARAMS = CompletionRequest(KEY, "").params
OTHER: list[tuple[str, Any]] = [
    ("suffix", "x"), ("language", "go"), ("path", "b.py"), ("snippets", (Snippet("b.py", "x"),)),
    ("snippet_share", 0.1), ("repository", "shop"),
    ("params", dataclasses.replace(PARAMS, max_new_tokens=7)),
    ("params", dataclasses.replace(PARAMS, temperature=0.5)),
    ("params", dataclasses.replace(PARAMS, top_p=0.5)),
    ("params", dataclasses.replace(PARAMS, seed=3)), ("stop", (";",)), ("multiline", "never"),
    ("max_lines", 3), ("deadline_s", 0.1), ("key", KEY._replace(client="other")),
    ("tokens", (1,)), ("low_priority", True), ("wait_for_upstream", False),
    ("prediction", "x = 1"), ("acceptance_threshold", 0.5),
    ("min_probability", 0.5),
    ("first_token_thresholds", ((1, 0.5),)),
    ("top_k", 5), ("marks", ("<x>",)),
]  # fmt: skip
COUNTED_APART = {
    "prefix",
    "candidates",
    "certain",
    "stop_search",
    "constraint",
}  # compared by other means, determined by the prefix, or of no concern


def test_other_options_are_asked_again() -> None:
    """Whatever a request has beside its prefix; a field that is new must be thought of here."""
    fields = {field.name for field in dataclasses.fields(CompletionRequest)}
    assert fields == {name for name, _ in OTHER} | COUNTED_APART
    assert {field.name for field in dataclasses.fields(PARAMS)} == {
        "max_new_tokens", "temperature", "top_p", "seed",
    }  # fmt: skip
    for name, value in OTHER:
        kept = DocumentSuggestions()
        keep(kept, "x = ", "", "value")
        assert kept.find(dataclasses.replace(ask("x = v"), **{name: value})) is None, name
    apart: dict[str, Any] = {"certain": False, "candidates": 1}
    for name, value in apart.items():
        kept = DocumentSuggestions()
        keep(kept, "x = ", "", "value")
        assert kept.find(dataclasses.replace(ask("x = v"), **{name: value})) == ("alue",)


def typed(delay: TypingDelay, interval: float) -> float:
    now = 0.0
    for _ in range(20):
        now += interval
        delay.key(now)
    return now


def test_the_delay_follows_the_typing() -> None:
    fast, slow = TypingDelay(), TypingDelay()
    now_fast, now_slow = typed(fast, 0.1), typed(slow, 0.4)
    assert fast.wait_s(now_fast, "a", work_s=0.2) == pytest.approx(0.05)
    assert fast.wait_s(now_fast, ".", work_s=0.2) == pytest.approx(0.025)
    assert slow.wait_s(now_slow, "a", work_s=0.2) == 0  # done before the next key
    assert slow.wait_s(now_slow, "a", work_s=0.6) == pytest.approx(0.08)  # the longest
    assert fast.wait_s(now_fast + 5, "a", work_s=0.2) == 0  # after a pause
    assert TypingDelay().wait_s(0.0, "a", work_s=9) == 0


def test_random_typing_never_gets_another_texts_suggestion() -> None:
    """An oracle on whole texts: the answer is what is left of a suggestion for this very text."""
    rng = random.Random(0)
    reused = 0
    for _ in range(300):
        kept, made = DocumentSuggestions(), []
        text = "".join(rng.choices("ab\n(", k=rng.randrange(8)))
        for _ in range(20):
            at = rng.randrange(len(text) + 1)
            prefix, suffix = text[:at], text[at:]
            found = kept.find(ask(prefix, suffix))
            if found is None:
                words = "".join(rng.choices("ab(", k=4))
                keep(kept, prefix, suffix, words)
                made.append((prefix, suffix, words))
            else:
                reused += 1
                texts = {old + words for old, behind, words in made if suffix == behind}
                assert all(prefix + rest in texts for rest in found)
            grows = rng.random() < 0.8
            text = prefix + rng.choice("ab(") + suffix if grows else prefix[:-1] + suffix
    assert reused > 100
