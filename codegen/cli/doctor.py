"""``codegen doctor``: checks this machine and suggests a remedy for each failure.

``codegen plugins``: lists everything that can be chosen by name.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from codegen import OPENMP, OPENMP_SETTINGS, __version__
from codegen.cli.options import command, print_result, wants_json
from codegen.core import plugins
from codegen.core.cluster import usable_cpus
from codegen.core.errors import CodegenError, SandboxError, in_one_line
from codegen.core.optional_deps import EXTRAS, command_for, explain
from codegen.core.terminal import columns, visible

if TYPE_CHECKING:
    from codegen.models.pretrained import Pretrained

_MARKS = {True: ("ok", "green"), False: ("NO", "red"), None: ("--", "yellow")}


@command(example="codegen doctor --json")
@click.option(
    "--languages",
    is_flag=True,
    help="Check only the sandbox's languages, with a program in each.",
)
def doctor(languages: bool) -> dict[str, Any]:
    """Check this machine and suggest a remedy for each failure.

    Runs ten hostile programs in the sandbox. The exit code is 1 if a required part fails.
    """
    checks = []
    for check in examine_languages() if languages else examine():
        checks.append(check)
        if wants_json():
            continue
        mark, color = _MARKS[check.ok]
        line = f"{click.style(mark, fg=color)}  {check.name:<34} {visible(check.detail)}"
        click.echo(line)
        if check.ok is not True and check.remedy:
            click.echo(f"    {'':<34} {click.style('-> ' + visible(check.remedy), fg=color)}")
    failed = [check.name for check in checks if check.ok is False]
    return {"ok": not failed, "checks": [asdict(check) for check in checks]}


@command(name="plugins", example="codegen plugins")
def list_plugins() -> dict[str, Any]:
    """List what packages can add: generators, tasks, decoders, languages and others.

    Shows the package that adds each plugin, and imports plugins from other packages. The exit code
    is 1 if an import fails.
    """
    parts: list[dict[str, str]] = []
    ok = True
    for kind in plugins.BUILT_IN:
        for name, package, about in _parts(kind):
            ok = ok and not isinstance(about, CodegenError)
            row = (kind.removesuffix("s"), name, package or "built in", str(about))
            parts.append(dict(zip(("kind", "name", "package", "about"), row, strict=True)))
    print_result("\n".join(columns([tuple(part.values()) for part in parts])))
    return {"ok": ok, "parts": parts}


def _parts(kind: str) -> Iterator[tuple[str, str, str | CodegenError]]:
    """Yields each name, the package that adds it, and its description or the import error."""
    from codegen.generation.decoders import READERS, STRATEGIES

    if kind == "decoders":
        for name, part in {**READERS, **STRATEGIES}.items():
            yield name, "", part.about
    for name in plugins.names(kind):
        package = plugins.package_of(kind, name)
        about = "" if package else plugins.written_about(kind, name)
        try:
            part = None if about else plugins.load(kind, name)
        except (CodegenError, ImportError) as error:
            if lacking := explain(error):
                yield name, package, str(lacking)
            elif isinstance(error, CodegenError):
                yield name, package, error
            else:
                raise
            continue
        about = about or getattr(part, "about", "") or plugins.docstring(part)
        yield name, package, " ".join(about.strip().partition("\n\n")[0].split())


@dataclass(frozen=True, slots=True)
class DoctorCheck:
    """Result of one check.

    Attributes:
        ok: None for an optional part that is missing.
        remedy: command or advice if ``ok`` is not true.
    """

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


def examine() -> Iterator[DoctorCheck]:
    """Yields the checks one by one; some take seconds."""
    yield DoctorCheck("codegen", True, f"{__version__}, Python {platform.python_version()}")
    yield _memory()
    yield _disk()
    yield _attempt("torch", _torch)
    yield _openmp()
    from codegen.models.pretrained import MODELS

    for model in MODELS.values():
        yield _attempt(f"model {model.name}", lambda model=model: _pretrained(model))
    yield from _compiled()
    yield _attempt("GPU kernels", gpu_kernels)
    yield from _sandbox()
    for extra in dict.fromkeys(extra for extra, _ in EXTRAS.values()):
        uses = {module: use for module, (name, use) in EXTRAS.items() if name == extra}
        absent = [module for module in uses if find_spec(module) is None]
        what = "; ".join(dict.fromkeys(uses.values()))
        if not absent:
            yield DoctorCheck(f"[{extra}]", True, what)
        else:
            lacking = "" if len(absent) == len(uses) else f" (without {', '.join(absent)})"
            yield DoctorCheck(
                f"[{extra}]", None, what + lacking, f"{command_for(absent[0])} (optional)"
            )


def examine_languages() -> Iterator[DoctorCheck]:
    """Yields a check for each language: runs a program that prints something in the sandbox."""
    from codegen.sandbox import Job, Sandbox
    from codegen.sandbox.languages import (
        HELLO,
        LANGUAGES,
        MissingToolchainError,
        find_toolchain,
    )

    for name, language in LANGUAGES.items():
        try:
            version = find_toolchain(language).version
            with Sandbox(workers=1, languages=[name]) as sandbox:
                job = Job(HELLO[name], mode="stdio", expected_stdout="hello\n", language=name)
                outcome = sandbox.run(job)
        except MissingToolchainError as error:
            yield DoctorCheck(language.title, None, error.message, error.remedy)
        except CodegenError as error:
            yield DoctorCheck(language.title, False, error.message, error.remedy)
        else:
            detail = version if outcome.passed else f"{version}; {outcome.status}"
            remedy = f"Reinstall it: apt install {language.install}. {outcome.message[:300]}"
            yield DoctorCheck(
                language.title, outcome.passed, detail, "" if outcome.passed else remedy
            )


def _attempt(name: str, check: Callable[[], DoctorCheck]) -> DoctorCheck:
    """Runs a check; an exception is a failure."""
    try:
        return check()
    except (ImportError, OSError, RuntimeError, CodegenError) as error:
        if lacking := explain(error):
            return DoctorCheck(name, None, lacking.message, lacking.remedy)
        reason = in_one_line(f"{type(error).__name__}: {error}")
        return DoctorCheck(name, False, reason, "Reinstall codegen-toolkit.")


def _memory() -> DoctorCheck:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    detail = f"{usable_cpus()} cores, {total:.0f} GiB RAM"
    return DoctorCheck("machine", total > 6, detail, "codegen quickstart needs about 5 GiB.")


def _compiled() -> Iterator[DoctorCheck]:
    """Yields the checks of the C and C++ extensions, which have slower Python fallbacks."""
    from codegen.decoding.suffix import COMPILED
    from codegen.sandbox.isolation.linux import launcher

    parts = {"suffix drafts": COMPILED, "sandbox launcher": launcher is not None}
    if find_spec("torch"):
        from codegen.kernels.cpu import KERNELS

        parts["CPU kernels"] = bool(KERNELS)
    remedy = "Install a C++ compiler, then reinstall codegen-toolkit (optional)."
    for name, compiled in parts.items():
        detail = "compiled" if compiled else "not compiled, slower"
        yield DoctorCheck(name, compiled or None, detail, "" if compiled else remedy)


def gpu_kernels() -> DoctorCheck:
    """Checks which GPU kernels have agreed with PyTorch on this machine's GPU."""
    import torch

    from codegen.kernels.backend import KERNELS, known, triton_installed

    if not torch.cuda.is_available():
        return DoctorCheck("GPU kernels", None, "no GPU; testable only in Triton's interpreter")
    if not triton_installed():
        remedy = "Install triton (optional)."
        return DoctorCheck("GPU kernels", None, "no Triton; PyTorch is used instead", remedy)
    facts = known(torch.device("cuda", torch.cuda.current_device()))
    proved = {form.partition(" ")[0] for form in facts.proved}
    detail = f"{len(proved)} of {len(KERNELS)} agree with PyTorch on {facts.device}"
    if missing := [name for name in KERNELS if name not in proved]:
        remedy = "Check and time them: codegen bench gpu (optional)."
        return DoctorCheck("GPU kernels", None, f"{detail}; not yet {', '.join(missing)}", remedy)
    return DoctorCheck("GPU kernels", True, detail)


def _disk() -> DoctorCheck:
    from codegen.core.paths import cache_folder

    folder = cache_folder()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    remedy = "Free some space, or set CODEGEN_CACHE to a directory on another disk."
    writable = os.access(folder, os.W_OK)
    detail = f"{free:.0f} GiB free at {folder}" + ("" if writable else ", not writable")
    return DoctorCheck("cache directory", free > 1 and writable, detail, remedy)


def _torch() -> DoctorCheck:
    import torch

    from codegen.models import pick_dtype

    if torch.cuda.is_available():
        device = torch.cuda.get_device_name(0)
    else:
        device = f"CPU, {torch.get_num_threads()} threads"
    dtype = str(pick_dtype("cuda" if torch.cuda.is_available() else "cpu")).removeprefix("torch.")
    return DoctorCheck("torch", True, f"{torch.__version__} on {device}, {dtype}")


def _openmp() -> DoctorCheck:
    if OPENMP == "late":
        remedy = "Import codegen before torch, or set OMP_WAIT_POLICY=PASSIVE."
        return DoctorCheck("OpenMP", None, "threads spin while waiting", remedy)
    chosen = [f"{name}={os.environ[name]}" for name in OPENMP_SETTINGS if name in os.environ]
    whose = "set by codegen" if OPENMP == "sleep" else "your setting"
    return DoctorCheck("OpenMP", True, f"{', '.join(chosen)} ({whose})")


def _pretrained(model: Pretrained) -> DoctorCheck:
    name = f"model {model.name}"
    if state := model.state():
        return DoctorCheck(name, True, state)
    remedy = f"It is fetched at first use, or run: codegen models fetch {model.name}"
    return DoctorCheck(name, None, f"not fetched ({model.gguf_bytes / 1e6:.0f} MB or more)", remedy)


# Layers that the sandbox omits if the kernel lacks them.
_KERNEL_LAYERS = {
    "landlock": "Use Linux 5.13 or newer with landlock in the kernel's list lsm= (optional).",
    "seccomp": "The filter supports x86_64 and aarch64 (optional).",
}


def _sandbox() -> Iterator[DoctorCheck]:
    from codegen.sandbox import Sandbox, probe

    try:
        with Sandbox(workers=1) as sandbox:
            described = sandbox.describe()
        probes = probe()
    except SandboxError as error:
        yield DoctorCheck("sandbox", False, error.message, error.remedy)
        return
    layers = described["layers"]
    detail = f"backend {described['backend']}, Python {described['python']}, {len(layers)} layers"
    yield DoctorCheck("sandbox", True, f"{detail}: {', '.join(layers)}")
    for layer, remedy in _KERNEL_LAYERS.items():
        if layer not in layers:
            detail = "unavailable on this machine; the other layers are active"
            yield DoctorCheck(f"sandbox: {layer}", None, detail, remedy)
    for result in probes:
        remedy = "Do not run untrusted programs on this machine; install bubblewrap."
        yield DoctorCheck(
            f"sandbox: {result.name}", result.ok, result.detail, "" if result.ok else remedy
        )
