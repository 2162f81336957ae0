"""Plans how much of the quickstart fits in a given time on this machine.

:func:`measure` takes some seconds to find what the stages of the job cost here, in wall time, with
whatever else runs on the machine: that is what the user waits for. It runs the code of the stages
on a little of their own inputs. The rates give the time of each stage as a function of three sizes:
optimizer steps of each fine-tuning, samples a problem, and problems. A plan chooses these. Half of
the time that is left beside what every run costs goes to the two fine-tunings, the rest to the
samples: first one a problem for as many problems as possible, then more a problem.
"""

from __future__ import annotations

import gc
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise, takewhile
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from codegen.errors import ResumeError
from codegen.runs import RunDirectory, refuse_changes

if TYPE_CHECKING:
    from codegen.finetune.recipe import Recipe
    from codegen.models import LoadedModel
    from codegen.records import Example

PLAN = "plan.json"
STAGES = (
    "measuring this machine",
    "programs and edit sequences",
    "a first page",
    "fine-tuning on whole programs",
    "fine-tuning on edit sequences",
    "samples",
    "running the samples",
    "report",
)
MODELS = 3  # base, whole, edits
SHARD = 40  # samples decoded together

FULL_STEPS, FULL_N = 32, 5  # the comparison of --full
_MOST_STEPS, _MOST_N = 200, 20
_FEWEST_STEPS, _FEWEST_PROBLEMS = 2, 4
_TRAINING_SHARE = 0.5
_RESERVE = 0.05  # share of the time kept for what was estimated too low
_LATE = 1.1  # a run that would take longer than this many times its minutes gets fewer samples

# Beside what is measured. The first fine-tuning imports the trainer; each one reads and encodes the
# texts, and writes checkpoints. Programs run on all cores; some of a hundred run into a time limit.
_FINE_TUNING_LOADS = 5
_SAMPLING_LOADS = 2
_LIVE = 0.75  # mean share of a batch's samples that are still being written
_SANDBOX_S, _PROGRAM_S = 2.0, 0.25
_PAGE_S = 3.0


@dataclass(frozen=True, slots=True)
class Rates:
    """What this machine was measured to take, in seconds of wall time.

    Attributes:
        prompt_tokens: mean tokens of a problem's prompt.
        prompt_token: encoding one of them.
        step, step_row: a decoding step of a batch takes ``step + rows * step_row``.
        measuring: the measurement itself.
        data: reading the whole source and making both kinds of texts.
        load: loading the model.
        example_tokens: mean tokens of a training text.
        train_token: one of them, forward and backward.
    """

    prompt_tokens: float
    prompt_token: float
    step: float
    step_row: float
    measuring: float = 0.0
    data: float = 0.0
    load: float = 0.0
    example_tokens: float = 0.0
    train_token: float = 0.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a plan decides.

    Attributes:
        steps: optimizer steps of each fine-tuning.
        n: samples a problem and model.
        problems: of the task, its first ones.
    """

    steps: int
    n: int
    problems: int


@dataclass(frozen=True, slots=True)
class Fixed:
    """The user's settings that a plan depends on; sizes that are None are planned."""

    minutes: float | None
    steps: int | None
    n: int | None
    limit: int | None
    batch_size: int
    max_new_tokens: int
    task_problems: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan and how far it has come; stored as ``plan.json``.

    Attributes:
        request: what the run was begun with; another request is another run.
        rates: as measured.
        sizes: as planned, or as they were lowered later.
        expected: stage -> seconds of wall time.
        spent: stage -> seconds so far, those of earlier processes too.
        lowered: why there are fewer samples than planned; None until that is decided.
    """

    request: Mapping[str, Any]
    rates: Rates
    sizes: Sizes
    expected: Mapping[str, float]
    spent: Mapping[str, float] = field(default_factory=dict)
    lowered: str | None = None

    @property
    def seconds(self) -> float:
        """The whole run's expected time."""
        return sum(self.expected.values())

    def write(self, directory: RunDirectory) -> Plan:
        """Stores it; returns itself."""
        directory.write(PLAN, json.dumps(asdict(self), indent=1) + "\n")
        return self


def read_plan(directory: RunDirectory, request: Mapping[str, Any]) -> Plan | None:
    """The plan that a run was begun with, or None.

    Raises:
        ResumeError: if it was begun with another request, or the file is damaged.
    """
    row = directory.read(PLAN)
    if row is None:
        return None
    try:
        plan = Plan(
            row["request"], Rates(**row["rates"]), Sizes(**row["sizes"]), row["expected"],
            row["spent"], row["lowered"],
        )  # fmt: skip
        then = {key: plan.request[key] for key in request if key in plan.request}
    except (TypeError, KeyError):
        raise ResumeError(
            f"{directory.folder / PLAN} is damaged.",
            "Choose another --out, or delete that directory.",
        ) from None
    refuse_changes(directory.folder, then, request)
    return plan


def choose(rates: Rates, fixed: Fixed) -> Sizes:
    """The largest sizes that fit in the user's minutes; the smallest if none do."""
    problems = min(fixed.limit or fixed.task_problems, fixed.task_problems)
    if fixed.minutes is None:
        return Sizes(fixed.steps or FULL_STEPS, fixed.n or FULL_N, problems)
    budget = 60 * fixed.minutes * (1 - _RESERVE)
    least = Sizes(
        fixed.steps or _FEWEST_STEPS,
        fixed.n or 1,
        problems if fixed.limit else min(_FEWEST_PROBLEMS, problems),
    )
    steps = least.steps
    if fixed.steps is None:
        left = budget - sum(expect(rates, fixed, least).values())
        a_step = 2 * fixed.batch_size * rates.example_tokens * rates.train_token
        steps += min(_MOST_STEPS - steps, max(0, int(_TRAINING_SHARE * left / a_step)))
    most = Sizes(steps, fixed.n or _MOST_N, problems)
    return _largest(
        replace(least, steps=steps),
        most,
        lambda sizes: sum(expect(rates, fixed, sizes).values()) <= budget,
    )


def _largest(least: Sizes, most: Sizes, fits: Callable[[Sizes], bool]) -> Sizes:
    """The largest sizes that fit: first more problems, then more samples of each."""
    counts = range(least.problems, most.problems + 1)
    larger = [replace(least, problems=count) for count in counts]
    larger += [replace(most, n=n) for n in range(least.n, most.n + 1)]
    chosen = least
    for chosen in takewhile(fits, larger):  # noqa: B007 - the last one that fits
        pass
    return chosen


def lower(rates: Rates, fixed: Fixed, plan: Plan) -> Sizes:
    """The plan's sizes, or fewer samples if the run would end late.

    Args:
        rates: measured again, before the samples are made.
    """
    if fixed.minutes is None:
        return plan.sizes
    spent = sum(plan.spent.values())
    budget = 60 * fixed.minutes * _LATE - spent

    def left(sizes: Sizes) -> float:
        expected = expect(rates, fixed, sizes)
        return sum(expected[stage] for stage in STAGES[STAGES.index("samples") :])

    if left(plan.sizes) <= budget:
        return plan.sizes
    least = replace(
        plan.sizes,
        n=fixed.n or 1,
        problems=plan.sizes.problems if fixed.limit else min(_FEWEST_PROBLEMS, plan.sizes.problems),
    )
    return _largest(least, plan.sizes, lambda sizes: left(sizes) <= budget)


def expect(rates: Rates, fixed: Fixed, sizes: Sizes) -> dict[str, float]:
    """Stage -> seconds of wall time."""
    tokens = sizes.steps * fixed.batch_size * rates.example_tokens
    training = _FINE_TUNING_LOADS * rates.load + tokens * rates.train_token
    rows = sizes.n * sizes.problems
    whole, rest = divmod(rows, SHARD)
    a_model = _SAMPLING_LOADS * rates.load
    a_model += whole * _shard_s(rates, SHARD, fixed.max_new_tokens)
    a_model += _shard_s(rates, rest, fixed.max_new_tokens) if rest else 0.0
    again = 2 * rates.load + 2 * _shard_s(rates, 4, 12)  # measuring, before the samples are made
    programs = MODELS * rows + sizes.problems
    return dict(
        zip(
            STAGES,
            (
                rates.measuring,
                rates.data,
                _SANDBOX_S + _PAGE_S,
                training,
                training,
                again + MODELS * a_model,
                _SANDBOX_S + programs * _PROGRAM_S,
                _PAGE_S,
            ),
            strict=True,
        )
    )


def _shard_s(rates: Rates, rows: int, tokens: int) -> float:
    prompts = rows * rates.prompt_tokens * rates.prompt_token
    return prompts + tokens * (rates.step + _LIVE * rows * rates.step_row)


# --- measuring ---------------------------------------------------------------------------------

_READ_S = 1.0
_MOST_EXAMPLES = 48
_FEW, _MANY, _STEPS = 4, 24, 5  # rows decoded together, and steps of each
_ROW = 256  # tokens of a training row
_UNKNOWN = 4.0  # times what was read of a source that does not say how long it is


def measure(model: str, source: str, recipe: Recipe, prompts: Sequence[str]) -> Rates:
    """Measures what the stages cost on this machine; see the module's docstring.

    Args:
        prompts: of the problems, each the user's turn of a chat.

    Raises:
        CodegenError: if the model or the source can't be read.
    """
    from codegen.models import load

    began = time.perf_counter()
    data, example_tokens = _data(model, source, recipe.max_length)
    _prepare(model)
    load_s, loaded = _timed(lambda: load(model))
    rates = decoding(loaded, prompts)
    train_token = _training(loaded, recipe)
    del loaded
    gc.collect()
    return replace(
        rates,
        measuring=time.perf_counter() - began,
        data=data,
        load=load_s,
        example_tokens=example_tokens,
        train_token=train_token,
    )


def decoding(loaded: LoadedModel, prompts: Sequence[str]) -> Rates:
    """The rates of making samples; the others are 0."""
    from codegen.decoding.loop import Row, decode
    from codegen.models.chat import chat_prompt

    encoded = [chat_prompt(loaded.tokenizer, prompt) for prompt in prompts]
    long = sorted(encoded, key=len)[len(encoded) // 2]

    def run(rows: int, prompt: list[int]) -> tuple[float, float]:
        """Seconds to the first token, and of a later step."""
        times = [time.perf_counter()]

        def on_token(row: int, _: int) -> bool:
            if row == 0:
                times.append(time.perf_counter())
            return False

        decode(
            loaded.model,
            [Row(list(prompt), [0.5] * (_STEPS + 1)) for _ in range(rows)],
            max_new_tokens=_STEPS + 1,
            temperature=0.8,
            top_p=0.95,
            eos=frozenset(),
            on_token=on_token,
        )
        steps = [after - before for before, after in pairwise(times[1:])]
        return times[1] - times[0], median(steps)

    run(1, long[:4])  # the first pass of a process is slower
    first, few = run(_FEW, long)
    _, many = run(_MANY, long[:8])
    step_row = max(0.0, (many - few) / (_MANY - _FEW))
    return Rates(
        prompt_tokens=fmean(map(len, encoded)),
        prompt_token=max(first - few, 0.0) / (_FEW * len(long)),
        step=max(few - _FEW * step_row, 0.0),
        step_row=step_row,
    )


def _timed(do: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = do()
    return time.perf_counter() - began, result


def _prepare(model: str) -> None:
    """Fetches the model and imports the libraries, which is done once and is not part of a rate."""
    import peft  # noqa: F401
    from transformers import AutoModelForCausalLM  # noqa: F401

    from codegen.models import fingerprint_of

    fingerprint_of(model)


def _data(model: str, spec: str, max_length: int) -> tuple[float, float]:
    """Seconds of both data runs over the whole source, and the mean tokens of a text that fits."""
    from codegen.data import make, open_source, read_texts, run
    from codegen.data.sources import MemorySource
    from codegen.finetune.dataset import TextEncoder, encode_all
    from codegen.models import load_tokenizer

    read_s, examples, share = _read(open_source(spec))
    if not examples:
        return 2 * read_s / share, float(max_length)  # the first stage reports the error
    encoder = TextEncoder(load_tokenizer(model), "chat")
    made_s, tokens = 0.0, []
    with tempfile.TemporaryDirectory(prefix="codegen-quickstart-") as folder:
        for generator in (make("lintseq", verify="ruff"), make("whole")):
            out = Path(folder, generator.name)
            seconds, _ = _timed(
                lambda g=generator, o=out: run(g, MemorySource(tuple(examples)), o, workers=1)
            )
            made_s += seconds
            pairs = (("", text) for text in read_texts(out))
            encoding = encode_all(pairs, encoder, max_length=max_length)
            tokens += [len(example) for example in encoding.examples]
    return (2 * read_s + made_s) / share, fmean(tokens) if tokens else float(max_length)


def _read(source: Any) -> tuple[float, list[Example], float]:
    """Seconds that the beginning of a source took, its examples, and its share of the source."""
    from codegen.records import Example

    began = time.perf_counter()
    examples: list[Example] = []
    for item in source:
        if isinstance(item, Example):
            examples.append(item)
        if len(examples) == _MOST_EXAMPLES or time.perf_counter() - began > _READ_S:
            share = source.fraction() or 1 / _UNKNOWN
            return time.perf_counter() - began, examples, min(1.0, max(share, 1e-3))
    return time.perf_counter() - began, examples, 1.0


def _training(loaded: LoadedModel, recipe: Recipe) -> float:
    """Seconds a token of a forward and backward pass of the model with the recipe's adapter."""
    import torch
    from peft import LoraConfig, get_peft_model

    from codegen.models import load, pick_dtype

    device = loaded.model.device.type
    narrow = pick_dtype(device) == torch.bfloat16
    if loaded.model.dtype != torch.float32:
        loaded = load(loaded.name, dtype=torch.float32)
    lora = LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        target_modules=recipe.lora.targets
        if isinstance(recipe.lora.targets, str)
        else list(recipe.lora.targets),
    )
    model: Any = get_peft_model(loaded.model, lora).train()

    def step(tokens: int) -> None:
        ids = torch.arange(tokens, device=model.device)[None] % model.config.vocab_size
        with torch.autocast(device, torch.bfloat16, enabled=narrow):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        loss.item()  # waits for the GPU

    tokens = min(_ROW, recipe.max_length)
    step(max(tokens // 4, 2))
    seconds, _ = _timed(lambda: step(tokens))
    return seconds / tokens
