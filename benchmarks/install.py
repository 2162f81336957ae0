"""Size and time of an installation with each extra, and whether its main command works alone.

What: the wheel of this checkout is built and installed with ``pip`` into a new virtual environment
for each extra, with what pip's index gives on this machine, and a command that needs the extra runs
there, in a folder of its own. ``mb`` is the size of what was installed (MB, 10^6 bytes, with
compiled files, without pip), ``packages`` the number of distributions, ``seconds`` the time of
``pip install`` by the clock, ``help_ms`` the median of five ``codegen --help`` by the clock,
``works`` 1 if the command succeeds.

Against: ``all``, which is what an installation had to hold before there were extras.

Limits: PyTorch is most of the size, and its builds (CPU, CUDA) differ by several GB; its version
is in ``versions``. Downloads that pip has cached cost no time.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least
from codegen.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
_PROGRAM = (
    'def f(x):\n    """Adds one to the number that it gets."""\n    y = x + 1\n    return y\n'
)
_CHATS = {"prompt": "Double x.", "completion": "def double(x):\n    return 2 * x"}
_RECIPE = "model: embedded\ndata: chats.jsonl\noutput: run\nmethod: lora\nsteps: 1\nbatch_size: 1\n"
_METHODS = ("initialize", "shutdown", "exit")
_MESSAGES = [
    json.dumps({"jsonrpc": "2.0", "method": method, "params": {"capabilities": {}}}
               | ({} if method == "exit" else {"id": number}))
    for number, method in enumerate(_METHODS)
]  # fmt: skip
_EDITOR = "".join(f"Content-Length: {len(text)}\r\n\r\n{text}" for text in _MESSAGES)
# Extra -> what must work with it alone.
COMMANDS = {
    "": "codegen eval check humaneval",
    "data": "codegen data lintseq src --out d --dedup near && codegen data export d",
    "eval": "codegen eval check humaneval && python -c 'import scipy'",
    "git": "codegen data edits git:src --license MIT --out d",
    "puzzles": "codegen data plain puzzles:zebra-3x3:test:2 --out d",
    "serve": "codegen serve lsp --upstream http://127.0.0.1:9 < editor",
    "models": "codegen generate --model embedded --prompt x --max-new-tokens 2",
    "gguf": "python -c 'import codegen.models.llamacpp, xllamacpp'",
    "train": "codegen finetune recipe.yaml",
    "rl": "codegen finetune recipe.yaml && python -c 'import codegen.rewards, trl'",
    "all": "codegen finetune recipe.yaml && codegen eval check humaneval",
}


def run(
    quick: bool = False, *, extras: str = ",".join(COMMANDS), seed: int = 0, python: str = "python3"
) -> Mapping[str, object]:
    """Installs and measures.

    Args:
        quick: only what needs no PyTorch.
        extras: comma-separated names; an empty one is the base.
        seed: unused, as nothing is random.
        python: the interpreter that makes the environments.
    """
    at_least(0, seed=seed)
    names = extras.split(",")
    if unknown := set(names) - set(COMMANDS):
        raise ConfigError(f"Unknown extras: {', '.join(sorted(unknown))}.")
    if quick:
        names = [name for name in names if name in ("", "git", "puzzles")]
    report = Report(seed=seed)
    with tempfile.TemporaryDirectory(prefix="codegen-bench-install-") as name:
        folder = Path(name)
        build = [python, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", name, str(ROOT)]
        subprocess.run(build, check=True)
        (wheel,) = folder.glob("*.whl")
        report.set("wheel_mb", wheel.stat().st_size / 1e6, n=1)
        for extra in names:
            for key, value in _installed(folder / f"with-{extra}", wheel, extra, python).items():
                if key == "torch":
                    report.versions[f"torch ({extra})"] = str(value)
                else:
                    report.set(f"{extra or 'base'}_{key}", value, n=5 if key == "help_ms" else 1)
    return report.mapping()


def _installed(folder: Path, wheel: Path, extra: str, python: str) -> dict[str, float | str]:
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    bin_ = folder / "bin"
    pip = [str(bin_ / "python"), "-m", "pip", "--disable-pip-version-check"]
    began = time.monotonic()
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    subprocess.run([*pip, "install", "-q", wanted], check=True)
    seconds = time.monotonic() - began
    listed = subprocess.run([*pip, "list", "--format", "json"], check=True, capture_output=True)
    versions = {row["name"]: row["version"] for row in json.loads(listed.stdout)}
    (packages,) = (folder / "lib").glob("python*/site-packages")
    files = (p for p in packages.rglob("*") if p.is_file() and not p.is_symlink())
    size = sum(p.stat().st_size for p in files if p.relative_to(packages).parts[0][:3] != "pip")
    work = folder / "work"
    (work / "src").mkdir(parents=True)
    (work / "src" / "a.py").write_text(_PROGRAM)
    (work / "chats.jsonl").write_text(json.dumps(_CHATS) + "\n")
    (work / "recipe.yaml").write_text(_RECIPE)
    (work / "editor").write_bytes(_EDITOR.encode())
    git = ["git", "-C", "src", "-c", "user.name=a", "-c", "user.email=a@localhost"]
    subprocess.run(["git", "init", "-q", "src"], cwd=work, check=True)
    for program in (_PROGRAM, _PROGRAM.replace("y = x + 1", "z = 1 + x").replace("y\n", "z\n")):
        (work / "src" / "a.py").write_text(program)
        subprocess.run([*git, "add", "."], cwd=work, check=True)
        subprocess.run([*git, "commit", "-qm", "Change"], cwd=work, check=True)
    times = []
    for _ in range(5):
        began = time.monotonic()
        subprocess.run([bin_ / "codegen", "--help"], check=True, capture_output=True)
        times.append((time.monotonic() - began) * 1e3)
    done = subprocess.run(
        ["bash", "-c", f"PATH={bin_}:$PATH; {COMMANDS[extra]}"],
        cwd=work,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        say(f"{extra or 'base'}: {done.stderr.strip()[-500:]}")
    say(f"{extra or 'base'}: {size / 1e6:.0f} MB in {seconds:.0f} s")
    return {
        "mb": size / 1e6,
        "packages": len(versions) - ("pip" in versions) - ("setuptools" in versions),
        "seconds": seconds,
        "help_ms": median(times),
        "works": int(done.returncode == 0),
        "torch": versions.get("torch", "none"),
    }
