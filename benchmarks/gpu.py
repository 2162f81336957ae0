"""All measurements on a GPU: kernels, decoding and training, against references and peers.

The parts, in this order; each is saved when it is done:

- ``device``: bytes per second of a 512 MiB copy, operations per second of an 8192 x 8192
  product in half precision.
- ``kernels``: every kernel against its plain reference; its median time, the reference's, and the
  achieved fraction of the floor. The floor is the larger of bytes over bandwidth and operations
  over their rate. Tree attention's block sizes are tried first, and the fastest are kept for later
  processes.
- ``decoding``: tokens per second after the first of each row at batch 1, 8 and 32: ours (plain,
  ``suffix``, ``edit``, RSD with chains and with trees), transformers' generate, also with its
  compiled static cache, and vLLM; on models of 1.5B and 7B parameters with random weights, or on
  the one passed.
- ``caches``: an update after a token is edited in mid-text, against re-encoding; prompts of unequal
  lengths packed, padded, and padded by transformers.
- ``training``: trained tokens per second of LoRA on the smaller model, ours and TRL's, with and
  without packing.

The results are in ``OUT/gpu.json``. No part starts after ``minutes``; the same command resumes
an interrupted run. ``-o dry_run=true`` runs all code with tiny shapes on a CPU; its times are
meaningless.

Limits: random weights do not generate code, so our model is forced to write a given text (see
``tools/gpu_decoding.py``): acceptance depends on the workload, not on a model. Kernel times
include launches, unlike the floor.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.gpu_decoding import (
    DRAFT,
    OURS,
    PEERS,
    SHAPES,
    TINY,
    WRONG,
    Shape,
    Workload,
    build,
    decode_rate,
    edited,
    ours,
    peer,
    prepacked,
    writing,
)
from codegen.benchmarks.tools.kernel_cases import TINY as TINY_SIZES
from codegen.benchmarks.tools.kernel_cases import Case, Sizes, cases, make
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, chosen_parts, options
from codegen.core.errors import CodegenError, ConfigError, MachineError
from codegen.core.paths import write_atomic

PARTS = ("device", "kernels", "decoding", "caches", "training")
_TOOLS = Path(__file__).parent / "tools"
_TRAINING: Mapping[str, tuple[str, dict[str, Any]]] = {
    "ours": ("ours", {"packing": "none", "micro_batch_size": 8}),
    "ours, packed": ("ours", {"packing": "best_fit", "micro_batch_size": 8}),
    "TRL": ("trl", {}),
    "TRL, packed": ("trl", {"packing": True}),
}
_CHAT = "{% for m in messages %}{{ m.role + '\\n' + m.content + '<eos>\\n' }}{% endfor %}"
_CHAT += "{% if add_generation_prompt %}assistant\\n{% endif %}"

Unit = Callable[[], dict[str, Any] | None]
"""Measures one unit; None if a package that it needs is not installed."""


@options(
    needs={
        "model": (
            "on parts device and kernels",
            lambda o: chosen_parts(o["parts"], PARTS) - {"device", "kernels"},
        ),
        "seed": ("on part device", lambda o: chosen_parts(o["parts"], PARTS) - {"device"}),
    }
)
def run(
    quick: bool = False,
    *,
    out: str = "runs/gpu",
    dry_run: bool = False,
    parts: str = "",
    model: str = "",
    minutes: float = 24.0,
    seed: int = 0,
) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        quick: only the smaller model, and no training.
        out: results directory; an earlier run there is resumed.
        dry_run: use tiny shapes, and a CPU if there is no GPU.
        parts: some of device, kernels, decoding, caches and training, comma-separated; all if
            empty.
        model: model directory instead of the models made from configurations.
        minutes: minutes after which no new part starts.
        seed: seed of weights and inputs.
    """
    wanted = chosen_parts(parts, PARTS)
    import torch

    if not dry_run and not torch.cuda.is_available():
        raise MachineError(
            "PyTorch finds no GPU.",
            "To test this benchmark on the CPU with tiny shapes, pass -o dry_run=true.",
        )
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
    bench = Bench(Path(out), device, dry_run, seed, model)
    results = Results.open(bench)
    began = time.monotonic()
    units = {name: unit for name, unit in bench.units(quick) if name.partition("/")[0] in wanted}
    left = [name for name in units if name not in results.found]
    say(f"{len(left)} of {len(units)} measurements remain; none starts after {minutes:g} minutes.")
    for name in left:
        if time.monotonic() - began > 60 * minutes:
            say(f"{minutes:g} minutes are over; the same command resumes with {name}.")
            break
        results.keep(name, units[name])
    bench.close()
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "triton", "transformers", "trl", "vllm")
    report.figures |= {name: results.found.get(name) for name in units}
    report.notes += results.notes([name for name in units if name not in results.found])
    report.notes.append(f"Results: {results.path}")
    return report.mapping()


@dataclass
class Results:
    """Results by unit, in a file that is rewritten after each unit.

    Attributes:
        about: the device and the options, which must not change from one run to the next.
    """

    path: Path
    about: dict[str, Any]
    found: dict[str, Any]

    @classmethod
    def open(cls, bench: Bench) -> Results:
        """Loads the results of an earlier run, without its failures.

        Raises:
            ConfigError: if the device or options differ.
        """
        path, about = bench.out / "gpu.json", bench.about
        if not path.is_file():
            return cls(path, about, {})
        row = json.loads(path.read_text(encoding="utf-8"))
        before, found = row["about"], dict(row["results"])
        if before != about:
            changed = sorted(key for key in about if before.get(key) != about[key])
            raise ConfigError(
                f"{path} contains results with another {changed[0] if changed else 'option'}.",
                "Pass another -o out=DIR.",
            )
        return cls(path, about, {k: v for k, v in found.items() if not _failed(v)})

    def keep(self, name: str, unit: Unit) -> None:
        """Measures a unit and saves the result, or its error."""
        began = time.monotonic()
        try:
            found = unit()
            if found is not None:
                found["measured_in_s"] = round(time.monotonic() - began, 1)
        except Exception as error:  # noqa: BLE001 - other units still run
            found = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:400]}
        self.found[name] = found
        say(f"{name}: {_line(found)}")
        row = {"about": self.about, "results": self.found}
        write_atomic(self.path, json.dumps(row, indent=1) + "\n")

    def notes(self, left: list[str]) -> list[str]:
        """Returns notes on failed and remaining units."""
        notes = [f"{n} failed: {v['error']}" for n, v in self.found.items() if _failed(v)]
        if left:
            notes.append(f"Left for the next run: {', '.join(left)}.")
        return notes


@dataclass
class Bench:
    """Settings of the measurement."""

    out: Path
    device: Any
    dry: bool
    seed: int
    given: str

    def __post_init__(self) -> None:
        self._loaded: tuple[str, Any] = ("", None)
        self._peak: tuple[float, float] | None = None

    @cached_property
    def about(self) -> dict[str, Any]:
        """Settings that results depend on."""
        import torch

        named = "CPU" if self.device.type == "cpu" else torch.cuda.get_device_name(self.device)
        return {
            "device": named,
            "torch": torch.__version__,
            "dry_run": self.dry,
            "model": self.given,
            "seed": self.seed,
        }

    def units(self, quick: bool) -> Iterator[tuple[str, Unit]]:
        """Yields all units, the most important first."""
        yield "device", self._device
        for name in cases():
            yield f"kernels/{name}", lambda n=name: self._kernel(n)
        names = [self.given] if self.given else list(SHAPES)[: 1 if quick or self.dry else None]
        batches = (1, 2) if self.dry else (1, 8, 32)
        for number, name in enumerate(names):
            for batch in batches:
                for method in (*OURS, *PEERS):
                    yield (
                        f"decoding/{name} batch {batch} {method}",
                        lambda n=name, b=batch, m=method: self._decode(n, b, m),
                    )
            yield (
                f"caches/{name} edit",
                lambda n=name: edited(self._model(n), self._text, self.device),
            )
            yield (
                f"caches/{name} prompts",
                lambda n=name: prepacked(self._model(n), self._text, self.device, self.seed),
            )
            yield f"decoding/{name} vLLM", lambda n=name: self._vllm(n, batches)
            if number == 0 and not quick:
                for side in _TRAINING:
                    yield f"training/{name} {side}", lambda n=name, s=side: self._train(n, s)

    def close(self) -> None:
        """Frees the model."""
        self._loaded = ("", None)
        self._release()

    def _device(self) -> dict[str, Any]:
        bandwidth, rate = self._measured_peak()
        return {"copy_gb_per_s": bandwidth / 1e9, "half_tflops": rate / 1e12}

    def _measured_peak(self) -> tuple[float, float]:
        """Measures a copy's bytes and a half-precision product's operations per second."""
        import torch

        if self._peak is None:
            size, n = (2**16, 64) if self.dry else (2**29, 8192)
            source = torch.empty(size, dtype=torch.uint8, device=self.device)
            to = torch.empty_like(source)
            matrix = torch.randn(n, n, device=self.device).half()
            self._peak = (
                2 * size / self._median_s(lambda: to.copy_(source)),
                2 * n**3 / self._median_s(lambda: matrix @ matrix),
            )
        return self._peak

    def _kernel(self, name: str) -> dict[str, Any]:
        import torch

        from codegen.kernels.backend import without_trials

        case = make(name, self.seed, TINY_SIZES if self.dry else Sizes(), str(self.device))
        with without_trials():
            if case.packed:
                self._tune(case)
            for one, other in zip(case.kernel(), case.reference(), strict=True):
                torch.testing.assert_close(one, other, atol=case.tolerance, rtol=case.tolerance)
            taken, plain = self._median_s(case.kernel), self._median_s(case.reference)
        bandwidth, rate = self._measured_peak()
        floor = max(case.bytes / bandwidth, case.operations / rate)
        return {
            "us": 1e6 * taken,
            "reference_us": 1e6 * plain,
            "floor_us": 1e6 * floor,
            "share_of_floor": floor / taken,
        }

    def _tune(self, case: Case) -> None:
        """Tries tree attention's block sizes and stores the fastest for later processes."""
        from codegen.kernels.backend import known, triton_installed

        if not triton_installed():
            return
        from codegen.kernels.gpu.tree_attention import candidates, settings_key

        facts, key = known(self.device), settings_key(False, case.packed, case.dim)
        times: dict[int, float] = {}
        tried = candidates(False, case.packed, case.dim)
        for number, settings in enumerate(tried[: 2 if self.dry else None]):
            facts.settings[key] = dict(settings)
            try:
                times[number] = self._median_s(case.kernel)
            except Exception as error:  # noqa: BLE001 - such as too much shared memory
                say(f"{key}: {dict(settings)} does not run: {type(error).__name__}")
        if times:
            facts.settings[key] = dict(tried[min(times, key=lambda number: times[number])])
            facts.save()

    def _median_s(self, call: Callable[[], object]) -> float:
        """Returns the median time of many runs (three on a CPU) with a cold L2 cache."""
        if self.device.type == "cuda":
            from triton.testing import do_bench

            median = do_bench(call, return_mode="median")
            assert isinstance(median, float)
            return 1e-3 * median
        found = []
        for _ in range(3):
            began = time.perf_counter()
            call()
            found.append(time.perf_counter() - began)
        return max(1e-9, sorted(found)[1])

    @cached_property
    def _tokenizer(self) -> Any:
        import sysconfig

        from codegen.models.pretrained import train_byte_bpe

        root = Path(sysconfig.get_path("stdlib"))
        files = sorted(root.glob("*.py"))[: 4 if self.dry else 120]
        texts = [file.read_text("utf-8", errors="replace") for file in files]
        found = train_byte_bpe(texts, 600 if self.dry else 16_000)
        found.chat_template = _CHAT
        return found

    @cached_property
    def _text(self) -> Workload:
        length, most = (96, 24) if self.dry else (1024, 256)
        return Workload.make(self._tokenizer, length, most, self.seed)

    @cached_property
    def _maker(self) -> Any:
        from codegen.decoding.drafts import DrafterMaker
        from codegen.decoding.healing import Vocabulary

        return DrafterMaker.of(self._tokenizer, Vocabulary.of(self._tokenizer).tokens)

    def _shape(self, name: str) -> Shape:
        return TINY if self.dry else SHAPES[name]

    def _model(self, name: str) -> Any:
        """Returns the model and keeps it until another is requested."""
        if self._loaded[0] != name:
            self.close()
            if self.given:
                from codegen.models import load

                self._loaded = name, load(name).model
            else:
                self._loaded = name, build(self._shape(name), self.device, self.seed)
        return self._loaded[1]

    def _decode(self, name: str, batch: int, method: str) -> dict[str, Any]:
        model, text = self._model(name), self._text
        tokens = len(text.answer)
        if method in PEERS:
            decode = peer(method, model, text, batch)
            return {"tokens_per_s": decode_rate(decode, tokens, batch, self.device)}
        drafts = method.startswith("rsd")
        draft: Any = None
        if drafts:
            size = model.config.vocab_size
            shape = Shape(**{**vars(TINY if self.dry else DRAFT), "vocabulary": size})
            draft = build(shape, self.device, self.seed + 1)
        if self.dry:  # both read the cache through page tables, as on a GPU
            from codegen.decoding.passes import exchange

            for each in filter(None, (model, draft)):
                exchange(each)
        decode, passes = ours(method, model, draft, text, batch, self._maker)
        drafting = writing(draft, text, WRONG, self.seed) if drafts else nullcontext()
        with writing(model, text, 0.0, self.seed), drafting:
            rate = decode_rate(decode, tokens, batch, self.device)
        return {"tokens_per_s": rate, "tokens_per_pass": passes()}

    def _vllm(self, name: str, batches: tuple[int, ...]) -> dict[str, Any] | None:
        self.close()  # vLLM needs the memory
        python = os.environ.get("CODEGEN_VLLM_PYTHON") or sys.executable
        place, load_format = self.given, "safetensors"
        if not place:
            folder = self.out / "vllm" / name
            self._shape(name).config().save_pretrained(folder)
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            config |= {"architectures": ["Qwen2ForCausalLM"], "torch_dtype": "bfloat16"}
            write_atomic(folder / "config.json", json.dumps(config))
            place, load_format = str(folder), "dummy"
        job = {
            "model": place, "load_format": load_format, "prompt": self._text.original,
            "tokens": len(self._text.answer), "batches": batches,
        }  # fmt: skip
        if not _has(python, "vllm"):
            return None
        found = _work([python, str(_TOOLS / "vllm_worker.py")], job)
        rows = len(self._text.answer) - 1
        return {
            f"tokens_per_s_batch_{batch}": int(batch) * rows / taken
            for batch, taken in found["seconds"].items()
        }

    @cached_property
    def _trained(self) -> tuple[str, str]:
        """Returns the model's directory, and a file of training texts."""
        from codegen.benchmarks.finetune import write_texts

        place = self.given
        if not place:
            place = str(self.out / "model")
            build(self._shape(next(iter(SHAPES))), self.device, self.seed).save_pretrained(place)
            self._tokenizer.save_pretrained(place)
            self._release()
        data = self.out / "texts.jsonl"
        steps, size = self._steps
        write_texts(data, place, self._longest, self.seed, steps * size, self.dry)
        return place, str(data)

    @property
    def _steps(self) -> tuple[int, int]:
        return (2, 2) if self.dry else (12, 16)

    @property
    def _longest(self) -> int:
        return 512 if self.dry else 1024

    def _train(self, name: str, side: str) -> dict[str, Any] | None:
        if side.startswith("TRL") and not _has(sys.executable, "trl"):
            return None
        self.close()
        place, data = self._trained
        kind, options = _TRAINING[side]
        narrow = self.device.type == "cuda"
        if kind == "ours":
            options = {**options, "dtype": "bfloat16" if narrow else "float32"}
        else:
            options = {**options, "bf16": narrow}
        steps, size = self._steps
        job = {
            "side": kind, "model": place, "data": data,
            "steps": steps, "batch_size": size, "max_length": self._longest, "seed": self.seed,
            "options": options, "path": "", "threads": 1 if self.dry else (os.cpu_count() or 1),
            "wall": True,
        }  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="training-", dir=self.out) as folder:
            job["output"] = str(Path(folder, "out"))
            found = _work([sys.executable, str(_TOOLS / "finetune_worker.py")], job)
        ends, trained = found["cpu_s"], found["trained"]
        warm = 1 if self.dry else 4  # the first steps compile kernels and allocate memory
        return {
            "tokens_per_s": sum(trained[warm:]) / max(1e-9, ends[-1] - ends[warm]),
            "peak_mb": found["peak_mb"],
        }

    def _release(self) -> None:
        import torch

        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _work(command: list[str], job: dict[str, Any]) -> Any:
    """Runs a worker and returns its output.

    Raises:
        CodegenError: if the worker fails; has its last output.
    """
    done = subprocess.run(
        command, input=json.dumps(job), capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONSAFEPATH": "1"},
    )  # fmt: skip
    if done.returncode:
        raise CodegenError(f"{Path(command[-1]).name} failed: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout)


def _has(python: str, package: str) -> bool:
    """Returns True if a Python interpreter has a package."""
    look = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    return not subprocess.run([python, "-c", look], check=False).returncode


def _failed(found: Any) -> bool:
    return isinstance(found, dict) and "error" in found


def _line(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "not installed"
    pairs = ((k, f"{v:.4g}" if isinstance(v, float) else v) for k, v in found.items())
    return ", ".join(f"{key} {value}" for key, value in pairs)
