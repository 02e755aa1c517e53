"""The Bolite set: 720 real charging sessions, as their owner published them, and as they are priced in the proofs.

The file has no station: its 39 charging piles are the first four characters of the session id, and no pile has two
sessions at once. Its devices never say that a session ends, so a session ends when the next one of its pile begins.
For money, three sessions in four get an end of their own, and before it the car stays plugged in for a while; their
readings have the number of the pile's session as `boot`. Every measured reading is left as it is.
"""

import csv
import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

DATA: Final = Path(__file__).parents[3] / "shared" / "data" / "bolite"
READINGS_FILE: Final = DATA / "bolite_dc_timeseries.csv.gz"
READINGS, SESSIONS = 132_546, 720
PERIOD: Final = {"from": "2025-06-01T00:00:00Z", "to": "2025-11-01T00:00:00Z"}
STATION: Final = ("--set", "station_id=BOLITE-{session_id[:4]}", "--set", "connector_id=1")

_TAIL_AFTER_MS: Final = 15_000  # the pace of the file
_APART_MS: Final = 60_000  # at least, between a session's end and the next one's begin
_ENDLESS: Final = 4  # one session in so many has no end of its own
_PARKED_MIN_MAX: Final = 40
_LATE_SESSIONS, _LATE_READINGS = 9, slice(10, 13)  # of one session in so many, these are held back


class Reading(NamedTuple):
    """A reading as sent; what the file does not say is empty."""

    session_id: str
    boot: int
    seq: int
    ts: int  # ms
    power_w: str
    voltage_v: str
    current_a: str
    status: str
    session_event: str

    @property
    def power_mw(self) -> int:
        """Exactly: the file has two digits after the point."""
        whole, _, digits = self.power_w.partition(".")
        return int(whole) * 1_000 + int(digits.ljust(3, "0"))


Sessions = dict[str, list[Reading]]
"""By the device's id, as in the file."""


def priced_sessions() -> Sessions:
    """All sessions, with the ends that the file does not have."""
    sessions: Sessions = {}
    of_pile: dict[str, list[str]] = {}
    with gzip.open(READINGS_FILE, "rt") as file:
        for row in csv.DictReader(file):
            name = row["session_id"]
            if name not in sessions:
                sessions[name] = []
                of_pile.setdefault(name[:4], []).append(name)
            measured = (row["power_w"], row["voltage_v"], row["current_a"])
            sessions[name].append(
                Reading(name, len(of_pile[name[:4]]), int(row["seq"]), int(row["ts_ms"]), *measured, "", "")
            )
    number = 0
    for names in of_pile.values():
        for name, following in zip(names, [*names[1:], ""], strict=True):
            number += 1
            next_ms = sessions[following][0].ts if following else None
            if next_ms is None or number % _ENDLESS:
                sessions[name] += _tail(sessions[name][-1], number, next_ms)
    return sessions


def _tail(last: Reading, number: int, next_ms: int | None) -> list[Reading]:
    """Charged, parked for some minutes (or none), and gone; nothing where the next car is too near."""
    full_ms = last.ts + _TAIL_AFTER_MS
    end_ms = full_ms + number * 37 % _PARKED_MIN_MAX * 61_000
    if next_ms is not None:
        end_ms = min(end_ms, next_ms - _APART_MS)
    if end_ms < full_ms:
        return []
    full = last._replace(seq=last.seq + 1, ts=full_ms, power_w="0.0", current_a="0.0", status="SuspendedEV")
    return [full, full._replace(seq=last.seq + 2, ts=end_ms, status="", session_event="Ended")]


def held_back(sessions: Sessions) -> tuple[Sessions, Sessions]:
    """The sessions without a few readings of some of them; and those readings."""
    first = {name: list(readings) for name, readings in sessions.items()}
    late: Sessions = {}
    for name in list(sessions)[::_LATE_SESSIONS]:
        late[name] = first[name][_LATE_READINGS]
        del first[name][_LATE_READINGS]
    return first, late


def write(path: Path, sessions: Iterable[Sequence[Reading]]) -> int:
    """A file for `voltstream replay` with STATION; how many readings it has."""
    rows = [reading for readings in sessions for reading in readings]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Reading._fields)
        writer.writerows(rows)
    return len(rows)
