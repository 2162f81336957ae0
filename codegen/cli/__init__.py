"""The ``codegen`` command line: only wiring, and only click at import, so ``--help`` is instant.

Commands live in the modules of this package and load on demand. Conventions of every command:
``--json`` prints one JSON object on standard output and nothing else there; progress goes to
standard error; the exit code is 0 for done, 1 for failed, 2 for misuse; a user's mistake gives one
line with the remedy.
"""

from __future__ import annotations

import errno
import importlib
import json
import sys
from collections.abc import Callable, Mapping
from functools import update_wrapper
from typing import Any

import click

from codegen import __version__
from codegen.errors import CodegenError, ConfigError
from codegen.terminal import visible


class LazyGroup(click.Group):
    """A group whose commands are imported when they are run or asked for help.

    Args:
        lazy: command name -> ("module:attribute", one-line help).
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command's module."""
        if cmd_name not in self.lazy:
            return None
        module, attribute = self.lazy[cmd_name][0].split(":")
        return getattr(importlib.import_module(module), attribute)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Adds the nearest command to the message for a mistyped one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], self.lazy, n=1)
            if near and repr(near[0]) not in error.message:
                raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands from the table, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.lazy.items()])


@click.group(
    cls=LazyGroup,
    lazy={
        "doctor": ("codegen.cli.doctor:doctor", "What works on this machine, and remedies."),
        "quickstart": ("codegen.cli.quickstart:quickstart", "The main job, end to end."),
        "data": ("codegen.cli.data:data", "Make and look at training data."),
        "finetune": ("codegen.cli.finetune:finetune", "Fine-tune a model by a recipe."),
        "generate": ("codegen.cli.generate:generate", "Complete a prompt."),
        "eval": ("codegen.cli.evals:evals", "Sample, score by running, and report."),
        "sqlnet": ("codegen.cli.sqlnet:sqlnet", "Ask a database in English."),
        "serve": ("codegen.cli.serve:serve", "Completions for editors."),
        "cogex": ("codegen.cli.cogex:cogex", "Pseudo-programs that a model emulates."),
        "bench": ("codegen.cli.bench:bench", "Measure, peers side by side."),
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="codegen")
def cli() -> None:
    """Code language models whose programs are sequences of actions.

    Start with `codegen quickstart`, or `codegen doctor` if something is amiss.
    """


def json_option(command: Callable[..., Mapping[str, Any] | None]) -> Callable[..., None]:
    """Adds ``--json``: the mapping that the command returns goes to standard output as one object.

    The command gets ``as_json`` and prints its human-readable result only when it is false. None
    prints nothing. A summary whose ``ok`` is false makes the exit code 1.
    """

    def wrapper(*args: Any, as_json: bool, **kwargs: Any) -> None:
        summary = command(*args, as_json=as_json, **kwargs)
        if as_json and summary is not None:
            click.echo(json.dumps(summary))
        if summary and summary.get("ok") is False:
            raise click.exceptions.Exit(1)

    update_wrapper(wrapper, command)
    option = click.option("--json", "as_json", is_flag=True, help="Print one JSON summary.")
    return option(wrapper)


def example(text: str) -> str:
    r"""An epilog that shows an example call as it stands (click's ``\b`` keeps its line ends)."""
    return f"\b\nExample:\n  {text}"


def main(argv: list[str] | None = None) -> None:
    """Runs the command line and exits with its code."""
    _quiet_libraries()
    try:
        code = cli.main(args=argv, prog_name="codegen", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except CodegenError as error:
        _fail(str(error), 2 if isinstance(error, ConfigError) else 1)
    except (KeyboardInterrupt, click.Abort):
        _fail("Interrupted. Run the same command again; it goes on from what was saved.", 130)
    except BrokenPipeError:
        # The reader of our output left (`codegen ... | head`): not an error of ours.
        sys.stdout = None
        sys.exit(141)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's; importing torch to name it costs
            raise
        _fail("The GPU ran out of memory. Lower --batch-size, or micro_batch_size in a recipe.", 1)
    except MemoryError:
        _fail("This machine ran out of memory. Lower the batch size or use a smaller model.", 1)
    except OSError as error:
        if error.errno not in _OS_REMEDIES:
            raise
        where = f": {error.filename}" if error.filename else ""
        _fail(f"{error.strerror}{where}. {_OS_REMEDIES[error.errno]}", 1)


_OS_REMEDIES = {
    errno.ENOSPC: "Free some space and run the same command again: it goes on where it stopped.",
    errno.EDQUOT: "Free some space and run the same command again: it goes on where it stopped.",
    errno.EFBIG: "The file-size limit (ulimit -f) is too low; raise it and run the command again.",
    errno.EACCES: "Check the permissions or choose another path.",
    errno.EPERM: "Check the permissions or choose another path.",
    errno.EROFS: "Choose a path on a writable file system.",
    errno.ENOENT: "Check the path.",
    errno.ENOTDIR: "Check the path.",
    errno.EISDIR: "Give a file, not a directory.",
    errno.ENAMETOOLONG: "Choose a shorter path.",
}


def _quiet_libraries() -> None:
    """Keeps notices and bars of the libraries off the terminal, unless the user's settings ask."""
    import os
    import warnings

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")  # not every library has a switch of its own
    if not sys.warnoptions:
        warnings.simplefilter("ignore", FutureWarning)


def _fail(message: str, code: int) -> None:
    # One line, whatever names and texts of files are in it, and nothing that a terminal obeys.
    message = visible(" ".join(message.splitlines()).replace("\t", " "))
    click.echo(click.style("Error: ", fg="red", bold=True) + message, err=True)
    sys.exit(code)
