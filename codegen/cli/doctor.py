"""``codegen doctor``: what works on this machine."""

from __future__ import annotations

from typing import Any

import click

from codegen.cli import example, json_option

_MARKS = {True: ("ok", "green"), False: ("NO", "red"), None: ("--", "yellow")}


@click.command(epilog=example("codegen doctor --json"))
@json_option
def doctor(as_json: bool) -> dict[str, Any]:
    """Say what works on this machine, with a remedy for what does not.

    The sandbox is tried with ten hostile programs. Exits with 1 if something needed fails.
    """
    from dataclasses import asdict

    from codegen.doctor import examine

    checks = []
    for check in examine():
        checks.append(check)
        if as_json:
            continue
        mark, colour = _MARKS[check.ok]
        line = f"{click.style(mark, fg=colour)}  {check.name:<34} {check.detail}"
        click.echo(line)
        if check.ok is not True and check.remedy:
            click.echo(f"    {'':<34} {click.style('-> ' + check.remedy, fg=colour)}")
    failed = [check.name for check in checks if check.ok is False]
    return {"ok": not failed, "checks": [asdict(check) for check in checks]}
