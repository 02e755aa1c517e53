"""What `up` shows in a terminal: where everything is, and the fleet live, as any operator gets it from the API."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import httpx
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kit.clock import Clock
from kit.web.app import RunningServer
from voltstream.cli.commands.ledger import ledger_line
from voltstream.cli.output import make_table, print_line
from voltstream.runtime.up_tokens import Tokens

_PERIOD_S: Final = 1.0
_PERIOD_PLAIN_S: Final = 10.0  # where stdout is no terminal: a line now and then
_ROWS_MIN: Final = 1
_LABEL_CHARS: Final = 16
_EXPORTS: Final = ("URL", "DEVICE_TOKEN", "OPERATOR_TOKEN")
# What `greet` leaves above the picture in the embedded run, where the terminal is high enough for both.
_GREETING_LINES: Final = 7
_PICTURE_LINES_MIN: Final = 14
_HINT: Final = "Ctrl-C stops it; curl needs the export lines above."
_STYLES: Final = {"Charging": "green", "Faulted": "red", "Available": "dim", "Unavailable": "red"}
_COLUMNS: Final = ("station", ">connector", "status", ">power kW", ">session kWh", ">cost", ">charge", ">°C", "flags")
_DISPENSABLE: Final = ("flags", ">°C", ">charge", ">power kW")  # are left out in this order where it is narrow
_GAP: Final = 2  # blanks between columns
_FLAGS_CHARS: Final = 12  # are worth a column; longer ones are cut


def greet(server: RunningServer, tokens: Tokens, services: Mapping[str, str]) -> None:
    """Say where everything is. `services`: name to URL of those in processes of their own."""
    lines = {
        "API": server.url,
        "documentation": f"{server.url}/docs",
        "health": f"{server.url}/ready",
        "metrics": f"{server.url}/metrics",
        **{name: f"{url}/metrics" for name, url in services.items()},
    }
    for name, value in lines.items():
        print_line(f"{name:{_LABEL_CHARS}}{value}")
    for line in exports(server.url, tokens):
        print_line(line)


def exports(url: str, tokens: Tokens) -> list[str]:
    """Lines for another shell: the variables that voltstream's commands and the README's examples read."""
    values = (url, tokens.device_token, tokens.operator_token)
    return [f"export VOLTSTREAM_{name}={value}" for name, value in zip(_EXPORTS, values, strict=True)]


class Screen:
    """Asks the API each second and draws."""

    def __init__(self, url: str, operator_token: str, clock: Clock) -> None:
        self._url = url
        self._client = httpx.AsyncClient(
            base_url=f"{url}/api/v1/telemetry",
            headers={"Authorization": f"Bearer {operator_token}"},
            timeout=5.0,
            trust_env=False,
        )
        self._clock = clock
        self._before: tuple[float, int] | None = None

    async def run(self) -> None:
        """Draw until cancelled; without a terminal, a line now and then."""
        console = Console()
        try:
            with suppress(httpx.HTTPError):
                self._rate((await self._get("/ledger"))["total"]["accepted"])  # where counting begins
            if console.is_terminal:
                await self._draw(console)
            else:
                await self._print_sums()
        finally:
            await self._client.aclose()

    async def _draw(self, console: Console) -> None:
        with Live(console=console, auto_refresh=False, transient=False) as screen:
            while True:
                screen.update(await self._look(console), refresh=True)
                await asyncio.sleep(_PERIOD_S)

    async def _print_sums(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD_PLAIN_S)
            try:
                print_line(await self._sums())
            except httpx.HTTPError as error:
                print_line(_no_answer(error))

    async def _look(self, console: Console) -> RenderableType:
        try:
            fleet = await self._get("/live")
            ledger = await self._get("/ledger")
        except httpx.HTTPError as error:
            return Group(_heading(self._url), Text(_no_answer(error), style="red"), Text(_HINT, style="dim"))
        return picture(console, self._url, fleet, self._summary(fleet, ledger), ledger_line(ledger))

    async def _sums(self) -> str:
        fleet, ledger = await self._get("/live", limit=1), await self._get("/ledger")
        return f"{self._summary(fleet, ledger)}; {ledger_line(ledger)}"

    async def _get(self, path: str, **query: int) -> dict[str, Any]:
        response = await self._client.get(path, params=query)
        response.raise_for_status()
        document: dict[str, Any] = response.json()
        return document

    def _summary(self, fleet: Mapping[str, Any], ledger: Mapping[str, Any]) -> str:
        total = fleet["total"]
        statuses = ", ".join(f"{count} {name}" for name, count in sorted(total["by_status"].items()))
        return (
            f"{total['stations']} stations, {total['connectors']} connectors ({statuses or 'silent'}), "
            f"{total['power_w'] / 1_000:,.1f} kW, {self._rate(ledger['total']['accepted']):,.0f} readings/s"
        )

    def _rate(self, accepted: int) -> float:
        now_s = self._clock.monotonic_s()
        before_s, before = self._before or (now_s, accepted)
        self._before = (now_s, accepted)
        return (accepted - before) / (now_s - before_s) if now_s > before_s else 0.0


def picture(console: Console, url: str, fleet: Mapping[str, Any], summary: str, ledger: str) -> RenderableType:
    """The fleet in as many lines as the terminal has room for, address first and hint last.

    One line is left to the cursor, and those of the greeting where enough remain.
    """
    width, height = console.size
    lines = height - 1 - _GREETING_LINES
    if lines < _PICTURE_LINES_MIN:
        lines = height - 1
    below = Group(Text(summary, style="bold"), Text(ledger), Text(_HINT, style="dim"))
    around = 2 + len(console.render_lines(below, pad=False))  # the heading and the table's own
    rows = [_cells(connector) for connector in sorted(fleet["connectors"], key=lambda one: one["session"] is None)]
    room = max(_ROWS_MIN, lines - around)
    total = fleet["total"]["connectors"]
    shown = rows[:room] if total <= room else rows[: max(_ROWS_MIN, room - 1)]
    table = _table(shown, width)
    parts: list[RenderableType] = [_heading(url), table]
    if total > len(shown):
        parts.append(Text(f"… {total - len(shown):,} more", style="dim"))
    return Group(*parts, below)


def _heading(url: str) -> Text:
    return Text.assemble("voltstream at ", (url, "bold"), no_wrap=True, overflow="ellipsis")


def _no_answer(error: httpx.HTTPError) -> str:
    return f"the API does not answer: {error!r}"


def _cells(connector: Mapping[str, Any]) -> dict[str, Text]:
    """The cells of a connector by column."""
    session = connector["session"]
    status = connector["status"] or ""
    texts = (
        Text(connector["station_id"]),
        Text(str(connector["connector_id"])),
        Text(status, style=_STYLES.get(status, "yellow")),
        Text(_number(connector["power_w"], 1_000, 1)),
        Text(_number(session["energy_wh"] if session else None, 1_000, 3)),
        Text(_cost(session)),
        Text(_number(connector["soc_pct"], 1, 0, "%")),
        Text(_number(connector["temperature_c"], 1, 1)),
        Text(", ".join(connector["flags"])),
    )
    return dict(zip(_COLUMNS, texts, strict=True))


def _table(rows: Sequence[Mapping[str, Text]], width: int) -> Table:
    """A line a row. Columns that do not fit are left out, and what still does not fit is cut."""
    cells = {name: [cell_len(name.lstrip(">")), *(row[name].cell_len for row in rows)] for name in _COLUMNS}
    needed = {name: max(lengths) for name, lengths in cells.items()}
    needed["flags"] = min(needed["flags"], _FLAGS_CHARS)
    columns = list(_COLUMNS)
    for name in _DISPENSABLE:
        if _width(needed, columns) > width:
            columns.remove(name)
    table = make_table(*columns)
    fits = _width(needed, columns) <= width
    for name, column in zip(columns, table.columns, strict=True):
        column.no_wrap, column.overflow = True, "ellipsis"
        column.min_width = needed[name] if fits else None  # else rich cuts the first columns for the sake of flags
    for row in rows:
        table.add_row(*(row[name] for name in columns))
    return table


def _width(needed: Mapping[str, int], columns: Sequence[str]) -> int:
    return sum(needed[column] + _GAP for column in columns) - _GAP


def _cost(session: Mapping[str, Any] | None) -> str:
    """Incl. VAT, as if it ended now, cut to two places: what is to be paid, the invoice rounds."""
    cost = session and session["cost"]
    return f"{cost['incl_vat'][:-4]} {cost['currency']}" if cost else ""


def _number(value: float | None, divisor: float, places: int, unit: str = "") -> str:
    return "" if value is None else f"{value / divisor:,.{places}f}{unit}"
