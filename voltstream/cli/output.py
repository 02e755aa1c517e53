"""What commands print: JSON lines for machines, rich for people, one line for an error."""

import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table


def print_json(document: Any) -> None:
    """One line of JSON on stdout, there at once also where stdout is a pipe."""
    sys.stdout.write(json.dumps(document, default=str, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_error(message: str) -> None:
    """An error and its remedy, on stderr; never folded, so that it can be searched for and copied."""
    Console(stderr=True).print(message, style="red", markup=False, highlight=False, soft_wrap=True)


def print_note(message: str) -> None:
    """A line for people, on stderr so that a pipe of stdout does not have it; never folded."""
    Console(stderr=True).print(message, markup=False, highlight=False, soft_wrap=True)


def print_warning(message: str) -> None:
    """Something that works and is probably not intended, on stderr; never folded."""
    Console(stderr=True).print(message, style="yellow", markup=False, highlight=False, soft_wrap=True)


def print_line(message: str) -> None:
    """A line for people on stdout; rich markup is not read in it."""
    Console().print(message, markup=False, highlight=False, soft_wrap=True)


def print_table(table: Table) -> None:
    """A table for people on stdout."""
    Console().print(table)


def make_table(*headings: str, title: str | None = None) -> Table:
    """A plain table. A heading that begins with `>` is of a column of numbers."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for place, heading in enumerate(headings):
        right = heading.startswith(">")
        table.add_column(
            heading.removeprefix(">"), justify="right" if right else "left", overflow="fold", no_wrap=place == 0
        )
    return table
