"""What `up` shows: everything within the terminal, whatever its size, and lines that can be copied."""

import io
import shlex
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from voltstream.cli.screen import exports, picture
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
