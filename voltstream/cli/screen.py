"""What `up` shows in a terminal: the fleet live, as any operator gets it from the API."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import httpx
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kit.clock import Clock
from kit.web.app import RunningServer
from voltstream.cli.ledger_view import ledger_line
from voltstream.cli.output import make_table, print_line
from voltstream.runtime.up_tokens import Tokens

_PERIOD_S: Final = 1.0
_PERIOD_PLAIN_S: Final = 10.0  # where stdout is no terminal: a line now and then
_LINES_AROUND: Final = 8  # of the screen: heading, sums, ledger and what the shell has above
_ROWS_MIN: Final = 3
_STYLES: Final = {"Charging": "green", "Faulted": "red", "Available": "dim", "Unavailable": "red"}


def greet(server: RunningServer, tokens: Tokens, services: Mapping[str, str]) -> None:
    """Say where everything is. `services`: name to URL of those in processes of their own."""
    width = 16
    lines = {
        "API": server.url,
        "documentation": f"{server.url}/docs",
        "health": f"{server.url}/ready",
        "metrics": f"{server.url}/metrics",
        "device token": tokens.device_token,
        "operator token": tokens.operator_token,
        **{name: f"{url}/metrics" for name, url in services.items()},
    }
    for name, value in lines.items():
        print_line(f"{name:{width}}{value}")


class Screen:
    """Asks the API each second and draws."""

    def __init__(self, url: str, operator_token: str, clock: Clock) -> None:
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
                await self._tell()
        finally:
            await self._client.aclose()

    async def _draw(self, console: Console) -> None:
        with Live(console=console, auto_refresh=False, transient=False) as screen:
            while True:
                rows_max = max(_ROWS_MIN, console.size.height - _LINES_AROUND)
                screen.update(await self._look(rows_max), refresh=True)
                await asyncio.sleep(_PERIOD_S)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD_PLAIN_S)
            try:
                print_line(await self._sums())
            except httpx.HTTPError as error:
                print_line(f"the API does not answer: {error!r}")

    async def _look(self, rows_max: int) -> RenderableType:
        try:
            fleet = await self._get("/live")
            ledger = await self._get("/ledger")
        except httpx.HTTPError as error:
            return Text(f"the API does not answer: {error!r}", style="red")
        return Group(
            _connectors(fleet, rows_max), Text(self._summary(fleet, ledger), style="bold"), Text(ledger_line(ledger))
        )

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


def _connectors(fleet: Mapping[str, Any], rows_max: int) -> Table:
    """Those with a session first: there is something to see."""
    columns = ("station", "connector", "status", ">power kW", ">session kWh", ">cost", ">charge", ">°C", "flags")
    table = make_table(*columns)
    for connector in sorted(fleet["connectors"], key=lambda each: each["session"] is None)[:rows_max]:
        session = connector["session"]
        table.add_row(
            connector["station_id"],
            str(connector["connector_id"]),
            Text(connector["status"] or "", style=_STYLES.get(connector["status"] or "", "yellow")),
            _number(connector["power_w"], 1_000, 1),
            _number(session["energy_wh"] if session else None, 1_000, 3),
            _cost(session),
            _number(connector["soc_pct"], 1, 0, "%"),
            _number(connector["temperature_c"], 1, 1),
            ", ".join(connector["flags"]),
        )
    hidden = fleet["total"]["connectors"] - table.row_count
    if hidden > 0:
        table.add_row(f"… and {hidden:,} more", style="dim")
    return table


def _cost(session: Mapping[str, Any] | None) -> str:
    """Incl. VAT, as if it ended now, cut to two places: what is to be paid, the invoice rounds."""
    cost = session and session["cost"]
    return f"{cost['incl_vat'][:-4]} {cost['currency']}" if cost else ""


def _number(value: float | None, divisor: float, places: int, unit: str = "") -> str:
    return "" if value is None else f"{value / divisor:,.{places}f}{unit}"
