"""The ledger as the command line shows it."""

from collections.abc import Mapping
from typing import Any, Final

from rich.table import Table

from voltstream.cli.output import make_table

_COLUMNS: Final = ("accepted", "stored", "duplicate", "quarantined", "in_flight")
_SHOWN: Final = (*_COLUMNS, "in_windows")


def ledger_line(ledger: Mapping[str, Any]) -> str:
    """`accepted 100 = stored 97 + duplicate 2 + quarantined 1 + in flight 0, closed` or `, 90 in windows` by then."""
    total = ledger["total"]
    state = "closed" if total["closed"] else f"{total['in_windows']:,} in windows"
    accepted, *parts = (f"{name.replace('_', ' ')} {total[name]:,}" for name in _COLUMNS)
    return f"ledger: {accepted} = {' + '.join(parts)}, {state}"


def ledger_table(ledger: Mapping[str, Any]) -> Table:
    """A row a partition, and the sum."""
    table = make_table("partition", *(f">{name.replace('_', ' ')}" for name in _SHOWN), "")
    for name, entry in [*((str(row["partition"]), row) for row in ledger["partitions"]), ("all", ledger["total"])]:
        state = "closed" if entry["closed"] else "open"
        figures = (f"{entry[column]:,}" for column in _SHOWN)
        table.add_row(name, *figures, state, style="bold" if name == "all" else "")
    return table
