"""Conventions of the command line: light start, exit codes, one-line errors, clean JSON."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codegen.cli import cli, main
from tests import processes
from tests.size import commands

HEAVY = ("torch", "transformers", "peft", "accelerate", "datasets", "rich", "numpy", "yaml",
         "codegen.benchmarks")  # fmt: skip


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return processes.run(sys.executable, "-m", "codegen", *arguments)


COMMANDS = dict(commands(cli))


def test_settings_are_not_named_as_options() -> None:
    """What is given as ``-o NAME=VALUE`` is so in texts, too; once these had options."""
    found = COMMANDS.values()
    options = {text for each in found for param in each.params for text in param.opts}
    settings = {name for each in found for name in getattr(each, "settings", {})}
    former = {f"--{name.replace('_', '-')}" for name in settings} - options
    root = Path(__file__).parents[2]
    folders = ("codegen", "cogex", "decoding", "evals", "lintseq", "sqlnet", "docs")
    texts = [path for name in folders for path in (root / name).rglob("*.[pm][yd]")]
    assert len(former) > 50 and len(texts) > 300
    assert [
        (path.name, word)
        for path in texts
        for word in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", path.read_text(encoding="utf-8"))
        if word in former and path.name not in ("evidence.md", "numbers.md", "objectives.py")
    ] == []


def test_the_promised_commands_are_there() -> None:
    assert set(COMMANDS) >= {
        ("doctor",),
        ("quickstart",),
        ("data", "lintseq"),
        ("data", "inspect"),
        ("finetune",),
        ("generate",),
        ("eval", "tasks"),
        ("eval", "run"),
        ("eval", "score"),
        ("eval", "report"),
    }


@pytest.mark.parametrize("group", [[], ["eval"], ["data"], ["quickstart"], ["finetune"], ["bench"]])
def test_help_imports_nothing_heavy(group: list[str]) -> None:
    script = (
        "import sys, contextlib\n"
        "from codegen.cli import cli\n"
        "with contextlib.suppress(SystemExit):\n"
        "    cli.main(sys.argv[1:], prog_name='codegen')\n"
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]\n"
        "sys.exit(','.join(heavy) or 0)\n"
    )
    done = processes.python(script, *group, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: codegen" in done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_has_help_with_an_example_and_json(
    command: tuple[str, ...], codegen: Any
) -> None:
    code, text, _ = codegen(*command, "--help")
    assert code == 0
    if command[0] not in ("serve", "view"):  # a server has no result to sum up
        assert "--json" in text
    assert f"codegen {' '.join(command)}" in text.partition("Example:")[2]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["evall"], 2, "Did you mean 'eval'?"),
        (["eval", "rum"], 2, "No such command 'rum'. Did you mean 'run'? See: codegen eval --help"),
        (["eval", "run"], 2, "Missing argument 'TASK'. See: codegen eval run --help"),
        (["eval", "run", "--modle", "x"], 2, "No such option '--modle'. Did you mean '--model'?"),
        (["eval", "run", "--model"], 2, "Option '--model' requires an argument."),
        (["generate"], 2, "Pass the prompt with either --prompt or --file"),
        (["generate", "--prompt", "x", "-o", "lm_infinite=10"], 2, "requires two integers"),
        (["generate", "--prompt", "x", "--decoder", "edits"], 2, "Decoders are: sample"),
        (["generate", "--prompt", "x", "--model", "./absent"], 1, "no model directory './absent'"),
        (["generate", "--file", "absent.txt"], 1, "Cannot read absent.txt"),
        (["finetune", "absent.yaml"], 1, "Recipe absent.yaml not found"),
        (["finetune", "linseq"], 1, "mean 'lintseq'?"),
        (["lintseq", "absent.jsonl"], 2, "mean 'codegen data lintseq'?"),
        (["data", "inspect", "rows.jsonl"], 1, "codegen view rows.jsonl"),
        (["eval", "run", "humanevil", "--model", "embedded", "--out", "o"], 2, "mean 'humaneval'?"),
        (["eval", "score", "absent.jsonl", "--task", "humaneval", "--out", "o"], 1, "absent.jsonl"),
        (["eval", "report", "absent"], 1, "absent"),
        (["data", "lintseq", "absent.jsonl", "--out", "o"], 1, "absent.jsonl"),
        (["data", "lintseq", "stdlib", "--out", "o", "--verify", "magic"], 2, "magic"),
        (["quickstart", "--model", "./absent", "--out", "o"], 1, "./absent"),
        (["quickstart", "-n", "0"], 2, "-n"),
        (["quickstart", "--minutes", "0"], 2, "0.0 is not in the range 0.5<=x<=1440"),
        (["quickstart", "--minutes", "nan"], 2, "--minutes is nan. It must be a number from"),
    ],
)
def test_mistakes_give_one_line(
    arguments: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    codegen: Any,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"instruction": "Double.", "program": "x *= 2"}\n')
    ended, out, err = codegen(*arguments)
    assert ended == code, err
    (line,) = (line for line in err.splitlines() if line.startswith("Error:"))
    assert message in line
    assert "Usage:" not in err and out == ""


def test_json_is_all_there_is_on_standard_output(tmp_path: Path) -> None:
    source = tmp_path / "s.jsonl"
    source.write_text('{"instruction": "Add.", "program": "def f(x):\\n    return x + 1\\n"}\n')
    done = run("data", "lintseq", str(source), "--out", str(tmp_path / "o"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["kept"] == 1


def test_progress_bars_of_libraries_stay_off_the_terminal() -> None:
    """transformers' conversion of GGUF files makes one that none of its settings switches off."""
    script = (
        "import sys\nfrom codegen.cli import main\n"
        "if sys.argv[1] == 'ours':\n"
        "    try: main(['--version'])\n"
        "    except SystemExit: pass\n"
        "from tqdm.auto import tqdm\nlist(tqdm(range(3)))\n"
    )
    shown = {}
    for whose in ("ours", "theirs"):
        done = subprocess.run(
            [sys.executable, "-c", script, whose], capture_output=True, text=True, check=True,
            env={k: v for k, v in os.environ.items() if k != "TQDM_DISABLE"},
        )  # fmt: skip
        shown[whose] = done.stderr
    assert shown["ours"] == ""
    assert "3/3" in shown["theirs"]


def test_a_closed_pipe_is_no_error() -> None:
    script = f"{sys.executable} -m codegen eval tasks | true; echo ${{PIPESTATUS[0]}}"
    done = processes.run("bash", "-c", script, check=True)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "escape", ["\x1b[2J", "\x1b]0;title\x07", "\r", "\n", "\u202e", "\x9b31m", "\u2028"]
)
def test_errors_hold_nothing_that_a_terminal_obeys(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], escape: str
) -> None:
    """Names and texts of files get into messages."""
    for arguments in (
        ["data", "inspect", str(tmp_path / f"a{escape}b")],
        ["eval", "report", str(tmp_path / f"a{escape}b")],
        ["sqlnet", "ask", str(tmp_path / f"a{escape}b.db"), "who?"],
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        error = capfd.readouterr().err
        assert escape.strip("\n") not in error or escape == "\n"
        assert "Error" in error
        (line,) = [line for line in error.splitlines() if "Error" in line]
        assert all(c.isprintable() for c in line)


@pytest.mark.parametrize(
    ("number", "what", "code"),
    [(signal.SIGINT, "Interrupted", 130), (signal.SIGTERM, "Terminated", 143)],
)
@pytest.mark.parametrize(
    ("words", "resumes"),
    [
        (["generate", "--prompt", "x"], False),
        (["cogex", "run"], False),
        (["eval", "check"], False),
        (["cogex", "search"], True),
        (["eval", "run"], True),
        (["--traceback", "serve", "http"], None),
    ],
)
def test_an_interrupted_command_promises_no_more_than_is_true(
    words: list[str],
    resumes: bool | None,
    number: signal.Signals,
    what: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr("codegen.cli.CommandGroup.resolve_command", interrupt)
    monkeypatch.setenv("CODEGEN_TRACEBACK", "")
    with pytest.raises(SystemExit) as stop:
        main(words)
    said = capsys.readouterr().err.strip()
    if resumes is None:
        assert (stop.value.code, said) == (0, "Stopped.")
    else:
        assert stop.value.code == code
        rest = " Run the same command again to resume from what was saved." if resumes else ""
        assert said == f"{what}.{rest}"


@pytest.mark.parametrize(
    ("words", "expected"),
    [("codegen ev", "eval"), ("codegen eval run humaneval-pl", "humaneval-plus"),
     ("codegen data lintseq x --verify pyl", "pylint"),
     ("codegen finetune sorted_", "sorted_draft")],
)  # fmt: skip
def test_a_shell_completes_commands_tasks_and_values(words: str, expected: str) -> None:
    """As the script asks that ``_CODEGEN_COMPLETE=bash_source codegen`` prints."""
    environment = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    completing = {**environment, "_CODEGEN_COMPLETE": "bash_complete"}
    done = processes.run(Path(sys.executable).with_name("codegen"), env=completing)
    assert done.stdout.split() == [f"plain,{expected}"]


@pytest.mark.parametrize("value", ["", "1"])
def test_no_color_means_no_color(value: str) -> None:
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "codegen", "absent"]
    environment = {**os.environ, "NO_COLOR": value}
    subprocess.run(command, stderr=terminal, env=environment, check=False)
    shown = os.read(controller, 1000)
    os.close(controller)
    os.close(terminal)
    assert b"No such command" in shown and (b"\x1b[" in shown) is not bool(value)


def test_text_that_the_locale_cannot_show_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(
        '{"id": "é", "example_id": "é", "generator": "plain", '
        '"segments": [{"text": "→", "train": true}]}\n',
        encoding="utf-8",
    )
    posix = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    codegen = Path(sys.executable).with_name("codegen")
    done = processes.run(codegen, "data", "inspect", "rows.jsonl", cwd=tmp_path, env=posix)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii() and r"\u2192" in done.stdout
