"""``codegen sqlnet chat``: a thread of questions in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from codegen.cli.options import command, options
from codegen.cli.sqlnet import ReadOptions, rows_row, statement_lines, statement_row, table_lines
from codegen.terminal import echo, one_line

if TYPE_CHECKING:
    from codegen.sqlnet.chat import Turn

_HELP = """\
Ask a question, then change it:
  only those from Berlin      without the pending ones     with a price above 20
  what about Rome?            in 2024                      only those with more than 5 (groups)
  by city                     how many per status          by city instead
  sorted by price descending  the other way round          top 3
  how many are there?         which ones?                  their names, also the price
  their average price         which of them has the highest price
undo goes back one answer, start over forgets all; end with Ctrl-D."""


@command(
    name="chat",
    short_help="Ask a database questions that refer to one another.",
    example="codegen sqlnet chat shop.db",
)
@click.argument("database", type=click.Path())
@options(ReadOptions, "given")
def chat(database: str, given: ReadOptions, as_json: bool) -> dict[str, Any]:
    """Ask DATABASE questions in a thread: "how many orders are there?", "only the pending ones".

    Shows what is carried over from the previous answer. A line that is not understood changes
    nothing. Reads lines from standard input; the exit code is 1 if one of them got no answer.
    """
    import torch

    from codegen.sqlnet.chat import Chat
    from codegen.sqlnet.layer import Layer
    from codegen.sqlnet.parser import SQLNet
    from codegen.sqlnet.schema import Schema

    schema = Schema.open(database, may_write=given.may_write)
    if given.layer:
        schema = Layer.read(given.layer).apply(schema)
    torch.set_num_threads(1)
    thread = Chat(SQLNet.from_pretrained(), schema, given.limits())
    turns: list[Turn] = []
    for line in _lines(not as_json):
        if line.lower() == "help":
            echo(_HELP, err=as_json)
            continue
        turn = thread.ask(line)
        turns.append(turn)
        if not as_json:
            echo("\n".join([*_turn_lines(turn, len(turns) == 1), ""]))
    return {"ok": all(not turn.doubt for turn in turns), "turns": [*map(_row, turns)]}


def _lines(may_prompt: bool) -> Iterator[str]:
    """The lines of standard input; on a terminal, with a prompt."""
    if may_prompt and sys.stdin.isatty():
        import readline  # noqa: F401 (input() edits lines and remembers them)

        echo("Ask a question; `help` shows how to change an answer. End with Ctrl-D.", err=True)
        while True:
            try:
                line = input("> ")
            except EOFError:
                echo("")
                return
            if line.strip():
                yield line.strip()
    else:
        yield from (line.strip() for line in sys.stdin if line.strip())


def _turn_lines(turn: Turn, is_first: bool) -> Iterator[str]:
    if turn.doubt:
        if turn.asked:
            yield f"Best guess  {one_line(turn.asked, 300)}"
        yield f"No answer: {one_line(turn.doubt, 600)}"
        return
    if turn.is_new and turn.plan and not is_first:
        yield "New         a question of its own; nothing is carried over"
    if turn.changed:
        yield f"Changed     {one_line(turn.changed, 300)}"
    if turn.kept:
        yield f"Kept        {one_line(turn.kept, 300)}"
    if turn.asked:
        yield f"Asked       {one_line(turn.asked, 300)}"
    if turn.statement:
        yield from statement_lines(turn.statement)
    if turn.note:
        yield f"Note        {turn.note}"
    if turn.rows is not None:
        yield ""
        yield from table_lines(turn.rows)


def _row(turn: Turn) -> dict[str, Any]:
    return {
        "line": turn.text,
        "answered": not turn.doubt,
        "new": turn.is_new,
        "asked": turn.asked,
        "kept": turn.kept,
        "changed": turn.changed,
        **statement_row(turn.statement),
        "answer": rows_row(turn.rows),
        "note": turn.note,
        "reason": turn.doubt,
    }
