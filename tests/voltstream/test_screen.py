"""What `up` shows: everything within the terminal, whatever its size, and lines that can be copied."""

import asyncio
import io
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from rich.console import Console
from rich.text import Text

from kit.clock import ManualClock
from kit.web.app import serve
from tests.waiting import eventually
from voltstream.cli import screen
from voltstream.cli.screen import Screen, exports, picture
from voltstream.runtime.up_tokens import Tokens

URL = "http://127.0.0.1:8080"
SUMMARY = "50 stations, 100 connectors (57 Available, 38 Charging, 5 Preparing), 812.3 kW, 50 readings/s"
LEDGER = "ledger: accepted 1,234,567 = stored 1,234,500 + duplicate 7 + quarantined 0 + in flight 60, 900 in windows"
TOKENS = Tokens("vsd_" + "d" * 43, "vso_" + "o" * 43)
SIZES = [(60, 15), (60, 40), (72, 18), (80, 24), (100, 30), (132, 43), (240, 15), (200, 100)]


def fleet(connectors: int, *, station: str = "SIM-000000", flags: tuple[str, ...] = ()) -> dict[str, Any]:
    """As GET /api/v1/telemetry/live answers."""
    session = {"energy_wh": 12_345.6, "cost": {"incl_vat": "12.345600", "currency": "EUR"}}
    return {
        "total": {"connectors": connectors},
        "connectors": [
            {
                "station_id": station,
                "connector_id": number % 2 + 1,
                "status": "SuspendedEV",
                "power_w": 123_456.0,
                "soc_pct": 55.0,
                "temperature_c": 31.5,
                "flags": list(flags),
                "session": session if number % 3 else None,
            }
            for number in range(connectors)
        ],
    }


def drawn(width: int, height: int, shown: dict[str, Any]) -> list[str]:
    """The lines of the picture, as a terminal of that size has them."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(picture(console, URL, shown, SUMMARY, LEDGER))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("connectors", [0, 1, 3, 12, 100])
@pytest.mark.parametrize("station", ["SIM-000000", "DE*VLT*E" + "7" * 40])
def test_the_picture_fits_and_shows_the_address_and_the_hint(
    width: int, height: int, connectors: int, station: str
) -> None:
    lines = drawn(width, height, fleet(connectors, station=station, flags=("meter_rollback", "implausible_power")))
    assert len(lines) < height
    assert max(len(line) for line in lines) <= width
    assert lines[0].strip() == f"voltstream at {URL}"
    text = " ".join(" ".join(lines).split())
    assert text.endswith("curl needs the export lines above.")
    assert SUMMARY in text
    assert LEDGER in text
    rows = [line for line in lines if line.startswith(station[:8])]
    hidden = [line for line in lines if line.startswith("… ")]
    assert hidden == ([f"… {connectors - len(rows)} more"] if len(rows) < connectors else [])
    assert rows or not connectors


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_row_is_a_line_and_its_figures_are_whole(width: int, height: int) -> None:
    lines = drawn(width, height, fleet(100))
    rows = [line for line in lines if line.startswith("SIM-")]
    for row in rows:
        assert "SuspendedEV" in row
    for row in rows[:3]:  # those with a session come first
        assert "12.346" in row
        assert "12.34 EUR" in row
    heading = next(line for line in lines if line.startswith("station"))
    assert ("power kW" in heading) == ("123.5" in rows[0])


def test_the_first_to_be_left_out_are_flags_then_temperature_then_charge() -> None:
    flagged = fleet(9, flags=("meter_rollback",))
    headings = {width: next(line for line in drawn(width, 24, flagged) if "station" in line) for width in (60, 80, 132)}
    assert "flags" in headings[132]
    assert "charge" in headings[80]
    assert "flags" not in headings[80]
    assert "charge" not in headings[60]


def test_a_terminal_with_room_keeps_the_greeting_in_sight() -> None:
    greeting = 4 + len(exports(URL, TOKENS))
    for height in (24, 30, 50):
        assert len(drawn(80, height, fleet(200))) + greeting < height


def test_the_export_lines_are_for_a_shell_and_a_line_each_at_80_columns() -> None:
    lines = exports(URL, TOKENS)
    assert [shlex.split(line) for line in lines] == [
        ["export", f"VOLTSTREAM_URL={URL}"],
        ["export", f"VOLTSTREAM_DEVICE_TOKEN={TOKENS.device_token}"],
        ["export", f"VOLTSTREAM_OPERATOR_TOKEN={TOKENS.operator_token}"],
    ]
    assert max(map(len, lines)) <= 80
    assert Text(lines[0]).plain == lines[0]


class Platform:
    """Answers what the screen asks for. Between two ledgers 2 s pass, in which 100 readings are accepted."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.accepted = 1_000
        self.answers = True
        self.asked: set[str] = set()
        self.tokens: set[str] = set()
        self.app = FastAPI()
        self.app.get("/api/v1/telemetry/live")(self._live)
        self.app.get("/api/v1/telemetry/ledger")(self._ledger)

    async def _live(self, request: Request) -> Response:
        total = {"stations": 2, "connectors": 3, "by_status": {"SuspendedEV": 3}, "power_w": 370_370.0}
        return self._answer(request, {"total": total, "connectors": fleet(3)["connectors"]})

    async def _ledger(self, request: Request) -> Response:
        self.clock.advance(2.0)
        self.accepted += 100
        counts = {"accepted": self.accepted, "stored": self.accepted - 10, "duplicate": 7, "quarantined": 3}
        total = {**counts, "in_flight": 0, "in_windows": 0, "closed": True}
        return self._answer(request, {"total": total, "partitions": []})

    def _answer(self, request: Request, document: dict[str, Any]) -> Response:
        self.asked.add(f"{request.url.path.rpartition('/')[2]}?{request.url.query}")
        self.tokens.add(request.headers["authorization"])
        return JSONResponse(document) if self.answers else Response(status_code=503)


@pytest.fixture
def platform() -> Platform:
    return Platform(ManualClock())


@asynccontextmanager
async def shown(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The URL of the platform, whose screen runs within the block without pauses."""
    monkeypatch.setattr(screen, "_PERIOD_S", 0.0)
    monkeypatch.setattr(screen, "_PERIOD_PLAIN_S", 0.0)
    async with serve(platform.app, "127.0.0.1", 0) as server:
        running = asyncio.create_task(Screen(server.url, "vso_x", platform.clock).run())
        yield server.url
        running.cancel()
        await asyncio.wait((running,))
        assert running.cancelled()
        await server.stop()


async def test_without_a_terminal_it_prints_lines_with_the_rate_since_the_line_before(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = ""

    def lines() -> list[str]:
        nonlocal printed
        printed += capsys.readouterr().out
        return printed.splitlines() if printed.count("\n") >= 2 else []

    async with shown(platform, monkeypatch):
        first, second, *_ = await eventually(lines)
    sums = "2 stations, 3 connectors (3 SuspendedEV), 370.4 kW, 50 readings/s; ledger: accepted {} = stored {} +"
    assert first.startswith(sums.format("1,200", "1,190"))
    assert second.startswith(sums.format("1,300", "1,290"))
    assert platform.tokens == {"Bearer vso_x"}
    assert platform.asked == {"live?limit=1", "ledger?"}  # of a large fleet no line needs every connector


async def test_an_api_that_does_not_answer_is_said_and_asked_again(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.answers = False
    async with shown(platform, monkeypatch):
        await eventually(lambda: "the API does not answer: " in capsys.readouterr().out)
        platform.answers = True
        await eventually(lambda: "2 stations" in capsys.readouterr().out)


async def test_in_a_terminal_it_draws_the_fleet_and_goes_on_while_the_api_does_not_answer(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Console(file=io.StringIO(), width=132, height=43, force_terminal=True, color_system=None)
    assert isinstance(terminal.file, io.StringIO)
    monkeypatch.setattr(screen, "Console", lambda: terminal)

    def drawn_since(place: int, *texts: str) -> bool:
        assert isinstance(terminal.file, io.StringIO)
        return all(text in terminal.file.getvalue()[place:] for text in texts)

    async with shown(platform, monkeypatch) as url:
        await eventually(lambda: drawn_since(0, url, "12.34 EUR", "370.4 kW, 50 readings/s", "Ctrl-C stops it"))
        platform.answers = False
        place = terminal.file.tell()
        await eventually(lambda: drawn_since(place, url, "the API does not answer", "Ctrl-C stops it"))
        platform.answers = True
        place = terminal.file.tell()
        await eventually(lambda: drawn_since(place, "370.4 kW"))
