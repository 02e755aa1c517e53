"""How commands of billing print lists: as a table, or one field of each for a script."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from voltstream.cli.output import make_table, print_json, print_line, print_note, print_table
from voltstream.errors import WrongUsage

Only = Annotated[str | None, typer.Option(metavar="FIELD", help="print only this field of each, for scripts: id")]


def print_list(rows: Sequence[Mapping[str, Any]], only: str | None, as_json: bool, show: Callable[[], None]) -> None:
    """That one field of each, or all of each as JSON, else as `show` prints them. Raises WrongUsage."""
    if only is not None:
        _print_only(rows, only)
    elif as_json:
        for row in rows:
            print_json(row)
    else:
        show()


def _print_only(rows: Sequence[Mapping[str, Any]], field: str) -> None:
    """That field of each, one a line. Raises WrongUsage."""
    for row in rows:
        if field not in row:
            raise WrongUsage(f"--only {field}: there is no such field; there are {', '.join(sorted(row))}")
        print_line("" if row[field] is None else str(row[field]))


def print_rows(headings: Sequence[str], rows: Sequence[Sequence[str]], *, more: bool) -> None:
    """A table; `more`: the list goes on."""
    if rows:
        table = make_table(*headings)
        for row in rows:
            table.add_row(*row)
        print_table(table)
    print_end(rows, more=more)


def print_end(rows: Sequence[object], *, more: bool) -> None:
    """Say that there is nothing, or that there is more."""
    if not rows:
        print_note("none")
    elif more:
        print_note("… and more: --limit, or narrow it down")


def money(charge: Mapping[str, Any]) -> str:
    """What a charge comes to."""
    total = charge["total_incl_vat"]
    return "no price" if total is None else f"{total} {charge['currency']}"
