"""The ``codegen`` command line. It imports no heavy modules, so ``--help`` is fast.

Each module of this package contains the commands of one group and is imported on demand. With
``--json``, a command prints one JSON object and nothing else on standard output. Progress goes to
standard error. Exit codes: 0 success, 1 failure, 2 usage error. A user's mistake prints one line
with the remedy. :mod:`codegen.cli.options` builds commands and options.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from codegen import __version__
from codegen.core.errors import CodegenError, InputError, in_one_line, nearest
from codegen.core.terminal import visible

_TRACEBACK = "CODEGEN_TRACEBACK"
_report = sys.unraisablehook


class CommandGroup(click.Group):
    """A group that lists its commands in order and suggests the nearest one for a typo.

    Args:
        lazy: command name -> ("module:attribute", one-line help) of commands that are imported only
            to run them or to print their help.
    """

    def __init__(
        self, *args: Any, lazy: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns all names, in order of addition."""
        return [*self.commands, *self.lazy]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns the command; imports the module of a lazy one."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, attribute = self.lazy[cmd_name][0].split(":")
        return getattr(importlib.import_module(module), attribute)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggests the nearest command if the name is unknown."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = self._of_a_group(ctx, args[0]) or nearest(args[0], self.list_commands(ctx))
            if not hint or "Did you mean" in error.message:
                raise
            raise click.UsageError(f"{error.message} {hint}", ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; click would treat the EOFError of a truncated file as Ctrl-D."""
        try:
            return super().invoke(ctx)
        except EOFError as error:
            raise InputError(
                f"Unexpected end of file: {in_one_line(error) or 'it is empty or truncated'}.",
                "Fetch or create it again; --traceback shows where it is read.",
            ) from error

    def _of_a_group(self, ctx: click.Context, name: str) -> str:
        """Suggests the groups that have a command of this name; empty if none has."""
        groups = ((one, self.get_command(ctx, one)) for one in self.list_commands(ctx))
        homes = [
            one for one, g in groups if isinstance(g, CommandGroup) and name in g.list_commands(ctx)
        ]
        calls = " or ".join(f"'{ctx.command_path} {home} {name}'" for home in homes)
        return f"Did you mean {calls}?" if calls else ""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands' help without importing the lazy ones."""
        rows = [(name, c.get_short_help_str(limit=80)) for name, c in self.commands.items()]
        rows += [(name, text) for name, (_, text) in self.lazy.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def traceback_option(*, hidden: bool = False) -> Callable[[Any], Any]:
    """Adds ``--traceback``, which is accepted before and after the command's name."""

    def show(_: click.Context, __: click.Parameter, value: bool) -> None:
        if value:
            os.environ[_TRACEBACK] = "1"

    return click.option(
        "--traceback",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        hidden=hidden,
        callback=show,
        help=f"Also print an error's Python traceback. Same as {_TRACEBACK}=1.",
    )


@click.group(
    cls=CommandGroup,
    lazy={
        "doctor": ("codegen.cli.doctor:doctor", "Check this machine and suggest remedies."),
        "quickstart": ("codegen.cli.quickstart:quickstart", "Run the whole pipeline once."),
        "data": ("codegen.cli.data:data", "Make and inspect training data."),
        "finetune": ("codegen.cli.finetune:finetune", "Fine-tune a model from a recipe."),
        "models": ("codegen.cli.models:models", "List, fetch and name models."),
        "generate": ("codegen.cli.generate:generate", "Complete a prompt."),
        "eval": ("codegen.cli.evals:evals", "Sample tasks, score by execution, report."),
        "audit": ("codegen.cli.audit:audit", "Check whether a task's tests can be trusted."),
        "runs": ("codegen.cli.serve:runs", "List runs."),
        "view": ("codegen.cli.serve:view", "Browse data, runs and samples."),
        "sqlnet": ("codegen.cli.sqlnet:sqlnet", "Query a database in English."),
        "serve": ("codegen.cli.serve:serve", "Run servers for editors, trainers and agents."),
        "cogex": ("codegen.cli.cogex:cogex", "Emulate pseudo-programs with a model."),
        "bench": ("codegen.cli.bench:bench", "Run a benchmark against other libraries."),
        "plugins": ("codegen.cli.doctor:list_plugins", "List the built-in and installed plugins."),
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@traceback_option()
@click.version_option(__version__, prog_name="codegen")
def cli() -> None:
    """Train, run and evaluate code language models that write programs as sequences of actions.

    Start with `codegen quickstart`. If something does not work, run `codegen doctor`.
    """


def main(argv: list[str] | None = None) -> None:
    """Runs the command line and exits with its code."""
    _quiet_libraries()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a locale without UTF-8 shows \u2014 for a dash
        sys.stdout.reconfigure(errors="backslashreplace")
    terminated = False

    def terminate(*_: object) -> None:  # batch schedulers send SIGTERM before SIGKILL
        nonlocal terminated
        terminated = True
        raise KeyboardInterrupt

    def resend(ignored: sys.UnraisableHookArgs) -> None:
        # Python drops an exception that a signal raises in a destructor; send the signal again.
        if isinstance(ignored.exc_value, KeyboardInterrupt):
            number = signal.SIGTERM if terminated else signal.SIGINT
            where = threading.main_thread().ident
            threading.Timer(0.05, signal.pthread_kill, [where, number]).start()
        else:
            _report(ignored)

    signal.signal(signal.SIGTERM, terminate)
    sys.unraisablehook = resend
    try:
        code = cli.main(args=argv, prog_name="codegen", standalone_mode=False, color=_color())
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _fail(_misuse(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _interrupted(sys.argv[1:] if argv is None else argv, terminated)
    except BrokenPipeError:
        # The reader has closed the pipe (`codegen ... | head`), which is not an error.
        sys.stdout = None
        sys.exit(141)
    except BaseException as error:  # unexpected errors
        if isinstance(error, Exception):
            known = _known(error) or _own_fault(error)
        elif type(error).__name__ == "PanicException":  # from the tokenizers' Rust code
            known = CodegenError(
                f"A library failed on an input: {in_one_line(error)}.",
                "The model's tokenizer.json may be corrupt or malicious; fetch it again.",
            )
        else:
            raise
        if os.environ.get(_TRACEBACK):
            traceback.print_exc()
        _fail(str(known), known.exit_code)


def _misuse(error: click.ClickException) -> str:
    """Returns one line for a usage error: the mistake, the nearest option, and the help command."""
    message = error.format_message()
    if isinstance(error, click.exceptions.NoSuchOption):
        message = f"{error.message} {nearest(error.option_name, error.possibilities or ())}".strip()
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return message
    return f"{message} See: {error.ctx.command_path} --help"


def _known(error: Exception) -> CodegenError | None:
    """Returns an error with a remedy if the cause is known, else None."""
    from codegen.core import optional_deps, plugins

    if lacking := optional_deps.explain(error):
        return lacking
    if isinstance(error, CodegenError):
        return error
    if type(error).__name__ == "OutOfMemoryError":  # by name, since importing torch is slow
        return CodegenError(
            "The GPU is out of memory.", "Lower --batch-size, or micro_batch_size in a recipe."
        )
    if isinstance(error, MemoryError):
        return CodegenError(
            "This machine is out of memory.", "Lower the batch size or use a smaller model."
        )
    if isinstance(error, RecursionError):
        return CodegenError(
            "An input is nested too deeply.",
            "An input file is corrupt; --traceback shows where it is read.",
        )
    if isinstance(error, OSError) and error.errno in _OS_REMEDIES:
        where = f": {error.filename}" if error.filename else ""
        return CodegenError(f"{error.strerror}{where}.", _OS_REMEDIES[error.errno])
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # from pathlib
        return CodegenError(f"{error}.", _OS_REMEDIES[errno.ELOOP])
    return plugins.blame(error)


def _own_fault(error: Exception) -> CodegenError:
    """Returns the message for an unexpected error, with the line that raised it."""
    reason = in_one_line(f"{type(error).__name__}: {error}")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.line]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "unknown place"
    return CodegenError(
        f"Unexpected {reason} ({place}).",
        "This is a bug in codegen; please report it with the output of the same command with "
        "--traceback.",
    )


_OS_REMEDIES = {
    errno.ENOSPC: "Free some space, then run the same command again to resume.",
    errno.EDQUOT: "Free some space, then run the same command again to resume.",
    errno.EFBIG: "The file-size limit (ulimit -f) is too low; raise it and run the command again.",
    errno.ELOOP: "The path contains a cycle of symbolic links; choose another path.",
    errno.ENXIO: "Pass a readable file.",
    errno.EIO: "Check the disk.",
    errno.EMFILE: "Raise the limit on open files (ulimit -n) and run the command again.",
    errno.EADDRINUSE: "Choose another port.",
    errno.EACCES: "Check the permissions or choose another path.",
    errno.EPERM: "Check the permissions or choose another path.",
    errno.EROFS: "Choose a path on a writable file system.",
    errno.ENOENT: "Check the path.",
    errno.ENOTDIR: "Check the path.",
    errno.EEXIST: "Pass a directory, not a file.",
    errno.EISDIR: "Pass a file, not a directory.",
    errno.ENAMETOOLONG: "Choose a shorter path.",
}


# Commands that resume an interrupted run.
_RESUMED = (
    *("data", "finetune", "quickstart", "cogex search", "sqlnet train", "sqlnet train-plans"),
    *("eval run", "eval score", "eval matrix", "audit"),
)


def _interrupted(argv: list[str], terminated: bool) -> None:
    """Exits after Ctrl-C or SIGTERM; stopping a server is not a failure."""
    words = [word for word in argv if not word.startswith("-")]
    if words[:1] and words[0] in ("serve", "view"):
        click.echo("Stopped.", err=True)
        sys.exit(0)
    remedy = " Run the same command again to resume from what was saved."
    resumes = "--plan" not in argv and any(" ".join(words[:count]) in _RESUMED for count in (1, 2))
    what, code = ("Terminated", 143) if terminated else ("Interrupted", 130)
    click.echo(f"{what}.{remedy if resumes else ''}", err=True)
    sys.exit(code)


def _quiet_libraries() -> None:
    """Hides libraries' notices and progress bars, unless the user has configured them."""
    import warnings

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")  # for libraries without their own switch
    if not sys.warnoptions:
        warnings.simplefilter("ignore", FutureWarning)


def _color() -> bool | None:
    """Returns False with NO_COLOR (https://no-color.org); None means colors in a terminal."""
    return False if os.environ.get("NO_COLOR") else None


def _fail(message: str, code: int) -> None:
    # The message may quote file names and contents, so line ends and control characters are
    # removed.
    message = visible(" ".join(message.splitlines()).replace("\t", " "))
    click.echo(click.style("Error: ", fg="red", bold=True) + message, err=True, color=_color())
    sys.exit(code)
