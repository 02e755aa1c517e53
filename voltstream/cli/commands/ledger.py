"""`voltstream ledger`: the ledger of readings, as a line and as a table, and that of energy."""

import time
from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from kit.clock import format_rfc3339
from voltstream.cli.connection import OperatorToken, Url
from voltstream.cli.options import MOMENT, MOMENT_HELP, AsJson, DataDir, period
from voltstream.cli.output import make_table, print_json, print_table
from voltstream.cli.platform_api import PlatformApi, operators_api
from voltstream.settings import load_settings

_PATH: Final = "/api/v1/telemetry/ledger"
_PERIOD_S: Final = 1.0
_COLUMNS: Final = ("accepted", "stored", "duplicate", "quarantined", "in_flight")
_SHOWN: Final = (*_COLUMNS, "in_windows")


def ledger(
    url: Url = None,
    token: OperatorToken = None,
    watch: Annotated[bool, typer.Option("--watch", help="repeat each second, until Ctrl-C")] = False,
    energy: Annotated[
        str | None, typer.Option("--energy", metavar="STATION", help="of a station's energy instead of readings")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar=MOMENT, help=f"energy since then{MOMENT_HELP}; default: today")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar=MOMENT, help="energy before then; default: now")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show where every accepted reading is, per partition.

    accepted = stored + duplicate + quarantined + in flight. Asks the API that runs. With --energy: what the meters of a
    station rose by = in sessions + outside of any session + rejected, per connector.
    """
    with operators_api(load_settings(data_dir=data_dir), url, token) as api:
        if energy is not None:
            since, until = period(start, end)
            bounds = {name: None if at is None else format_rfc3339(at) for name, at in (("from", since), ("to", until))}
            found = api.get(f"/api/v1/telemetry/{quote(energy, safe='')}/energy", bounds)
            if as_json:
                print_json(found)
            else:
                print_table(energy_table(found))
            return
        document = api.get(_PATH)
        if not watch:
            if as_json:
                print_json(document)
            else:
                print_table(ledger_table(document))
            return
        try:
            _watch(api, document, as_json)
        except KeyboardInterrupt:
            return


def _watch(api: PlatformApi, document: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        while True:
            print_json(document)
            time.sleep(_PERIOD_S)
            document = api.get(_PATH)
    with Live(ledger_table(document), console=Console(), auto_refresh=False) as screen:
        while True:
            time.sleep(_PERIOD_S)
            screen.update(ledger_table(api.get(_PATH)), refresh=True)


def ledger_line(ledger: Mapping[str, Any]) -> str:
    """`accepted 100 = stored 97 + duplicate 2 + quarantined 1 + in flight 0, closed`, or `, 90 in windows` so far."""
    total = ledger["total"]
    state = "closed" if total["closed"] else f"{total['in_windows']:,} in windows"
    accepted, *parts = (f"{name.replace('_', ' ')} {total[name]:,}" for name in _COLUMNS)
    return f"ledger: {accepted} = {' + '.join(parts)}, {state}"


def ledger_table(ledger: Mapping[str, Any]) -> Table:
    """One row per partition, and the sum."""
    table = make_table("partition", *(f">{name.replace('_', ' ')}" for name in _SHOWN), "")
    table.padding = (0, 1, 0, 0)  # so that its headings fit into 80 columns
    for name, entry in [*((str(row["partition"]), row) for row in ledger["partitions"]), ("all", ledger["total"])]:
        state = "closed" if entry["closed"] else "open"
        figures = (f"{entry[column]:,}" for column in _SHOWN)
        table.add_row(name, *figures, state, style="bold" if name == "all" else "")
    return table


def energy_table(energy: Mapping[str, Any]) -> Table:
    """One row per connector, the sum, and the main meter where there is one."""
    table = make_table(
        "connector", *(f">{name}" for name in ("rise Wh", "in sessions", "outside", "rejected")), "reason"
    )
    rows = [(str(row["connector_id"]), row) for row in energy["connectors"]]
    rows.append(("all", energy["total"]))
    if energy["main_meter"] is not None:
        rows.append(("0 (main meter)", energy["main_meter"]))
    for name, row in rows:
        figures = (f"{row[f'{column}_wh']:,.3f}" for column in ("rise", "in_sessions", "outside", "rejected"))
        reasons = ", ".join(f"{reason} {wh:,.3f}" for reason, wh in row["rejected_by_reason_wh"].items() if wh)
        table.add_row(name, *figures, reasons, style="bold" if name == "all" else "")
    return table
