"""Stored rows as the tables of an answer. Pure: rows in, columns out."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from api.tables import Kind, Table
from schemas.quality import names_of
from schemas.reading import QUANTITIES, SESSION_EVENT_LABELS, STATUS_LABELS

Row = Mapping[str, Any]  # of the store

# A register older than this says nothing of a window's energy; also the store's bound of the search for one:
# 31 d * 1,440 windows of a connector whose register fell silent are read in ~20 ms, once a page.
REGISTER_LOOKBACK: Final = timedelta(days=31)

READING_KINDS: Final = {
    "connector_id": Kind.INTEGER,
    "ts": Kind.MOMENT,
    "session": Kind.TEXT,
    "session_id": Kind.TEXT,
    "boot": Kind.INTEGER,
    "seq": Kind.INTEGER,
    **dict.fromkeys(QUANTITIES, Kind.THOUSANDTHS),
    "status": Kind.TEXT,
    "session_event": Kind.TEXT,
    "flags": Kind.NAMES,
}

# Everything but the register: a register has no mean.
_AVERAGED: Final = {name: column for name, (column, *_) in QUANTITIES.items() if name != "energy_wh"}
WINDOW_KINDS: Final = {
    "connector_id": Kind.INTEGER,
    "window_start": Kind.MOMENT,
    "readings": Kind.INTEGER,
    "flagged": Kind.INTEGER,
    **{f"{name}_{part}": Kind.THOUSANDTHS for name in _AVERAGED for part in ("avg", "min", "max")},
    "energy_wh_first": Kind.THOUSANDTHS,
    "energy_wh_last": Kind.THOUSANDTHS,
    "energy_wh": Kind.THOUSANDTHS,
}
REVISED_WINDOW_KINDS: Final = {**WINDOW_KINDS, "revision": Kind.INTEGER}


class Register(NamedTuple):
    """A connector's last usable register before some moment."""

    at: datetime
    energy_mwh: int


def reading_table(rows: Sequence[Row]) -> Table:
    """Raw readings, with flags, status and session event by name (null where the reading said nothing)."""
    columns = {name: [row[name] for row in rows] for name in ("connector_id", "ts", "session", "session_id")}
    columns |= {name: [row[name] for row in rows] for name in ("boot", "seq")}
    columns |= {name: [row[column] for row in rows] for name, (column, *_) in QUANTITIES.items()}
    columns["status"] = [STATUS_LABELS.get(row["status"]) for row in rows]
    columns["session_event"] = [SESSION_EVENT_LABELS.get(row["session_event"]) for row in rows]
    flag_names = {flags: names_of(flags) for flags in {row["flags"] for row in rows}}
    columns["flags"] = [flag_names[row["flags"]] for row in rows]
    return Table(READING_KINDS, [columns[name] for name in READING_KINDS])


def window_table(rows: Sequence[Row], registers: Mapping[int, Register], *, revised: bool) -> Table:
    """Windows in order of time; `registers`: of each connector, the last one before its first row."""
    kinds = REVISED_WINDOW_KINDS if revised else WINDOW_KINDS
    columns = {
        "connector_id": [row["connector_id"] for row in rows],
        "window_start": [row["bucket"] for row in rows],
        "energy_wh_first": [row["energy_first_mwh"] for row in rows],
        "energy_wh_last": [row["energy_last_mwh"] for row in rows],
        "energy_wh": _energies_mwh(rows, registers),
        **{name: [row[name] for row in rows] for name in ("readings", "flagged", "revision")},
    }
    for name, column in _AVERAGED.items():
        columns[f"{name}_avg"] = [_mean(row[f"{column}_sum"], row[f"{column}_n"]) for row in rows]
        columns[f"{name}_min"] = [row[f"{column}_min"] for row in rows]
        columns[f"{name}_max"] = [row[f"{column}_max"] for row in rows]
    return Table(kinds, [columns[name] for name in kinds])


def _mean(total: int, n: int) -> int | None:
    """Rounded half up, exactly; None of nothing."""
    return (2 * total + n) // (2 * n) if n else None


def _energies_mwh(rows: Sequence[Row], registers: Mapping[int, Register]) -> list[int | None]:
    """Per window its energy in mWh: against the connector's previous register, else within the window, else None."""
    previous = dict(registers)
    energies: list[int | None] = []
    for row in rows:
        first, last = row["energy_first_mwh"], row["energy_last_mwh"]
        if last is None:
            energies.append(None)
            continue
        before = previous.get(row["connector_id"])
        fresh = before is not None and before.at >= row["bucket"] - REGISTER_LOOKBACK
        if before is not None and fresh and before.energy_mwh <= last:
            energies.append(last - before.energy_mwh)
        else:
            energies.append(last - first if first <= last else None)
        previous[row["connector_id"]] = Register(row["energy_last_ts"], last)
    return energies
