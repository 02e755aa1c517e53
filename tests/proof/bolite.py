"""The Bolite data set: 720 real charging sessions, as published, and with the ends that the billing proofs need.

The file has no station: its 39 charging piles are the first four characters of the session id, and no pile has two
sessions at once. It has no end events, so a session ends when the next one of its pile begins. For billing, three
sessions in four get an explicit end, after the car stayed plugged in for a while, and `boot` is the number of the
pile's session. Every measured reading is unchanged.
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

_TAIL_AFTER_MS: Final = 15_000  # the interval of the file
_APART_MS: Final = 60_000  # at least, between a session's end and the next one's start
_WITHOUT_END: Final = 4  # one session in so many gets no explicit end
_PARKED_MIN_MAX: Final = 40
_LATE_SESSIONS, _LATE_READINGS = 9, slice(10, 13)  # of one session in so many, these are sent late


class Reading(NamedTuple):
    """A reading as sent; fields that the file lacks are empty."""

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
        """Exact: the file has two digits after the point."""
        whole, _, digits = self.power_w.partition(".")
        return int(whole) * 1_000 + int(digits.ljust(3, "0"))


Sessions = dict[str, list[Reading]]
"""By the device's id, as in the file."""


def priced_sessions() -> Sessions:
    """All sessions, with the ends that the file lacks."""
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
            if next_ms is None or number % _WITHOUT_END:
                sessions[name] += _tail(sessions[name][-1], number, next_ms)
    return sessions


def _tail(last: Reading, number: int, next_ms: int | None) -> list[Reading]:
    """Readings of the charged and parked car and of the session's end; none if the next session starts too soon."""
    full_ms = last.ts + _TAIL_AFTER_MS
    end_ms = full_ms + number * 37 % _PARKED_MIN_MAX * 61_000
    if next_ms is not None:
        end_ms = min(end_ms, next_ms - _APART_MS)
    if end_ms < full_ms:
        return []
    full = last._replace(seq=last.seq + 1, ts=full_ms, power_w="0.0", current_a="0.0", status="SuspendedEV")
    return [full, full._replace(seq=last.seq + 2, ts=end_ms, status="", session_event="Ended")]


def split_late(sessions: Sessions) -> tuple[Sessions, Sessions]:
    """The sessions without a few readings of some of them, and those readings."""
    first = {name: list(readings) for name, readings in sessions.items()}
    late: Sessions = {}
    for name in list(sessions)[::_LATE_SESSIONS]:
        late[name] = first[name][_LATE_READINGS]
        del first[name][_LATE_READINGS]
    return first, late


def write(path: Path, sessions: Iterable[Sequence[Reading]]) -> int:
    """Write a file for `voltstream replay` with STATION; the number of its readings."""
    rows = [reading for readings in sessions for reading in readings]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Reading._fields)
        writer.writerows(rows)
    return len(rows)
