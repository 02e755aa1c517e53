"""Stored rows as the tables of a response. Pure: rows in, columns out."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from api.telemetry.history.renderings import ColumnTable, Kind
from schemas.energy import ENERGY_SHARES
from schemas.quality import names_of
from schemas.reading import QUANTITIES, SESSION_EVENT_LABELS, STATUS_LABELS

Row = Mapping[str, Any]  # of the store

# An older register is not used for a window's energy; also the store's bound of the search for one: 31 d * 1,440
# windows of a connector that sends no register any more are read in ~20 ms, once a page.
REGISTER_LOOKBACK: Final = timedelta(days=31)

# Energy by whose it is: the ledger of energy has the same in sum.
_SHARES: Final = {name.replace("_mwh", "_wh"): name for name in ENERGY_SHARES}
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
    **dict.fromkeys(("energy_export_wh", *_SHARES), Kind.THOUSANDTHS),
    "extra": Kind.TEXT,
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
    **dict.fromkeys(_SHARES, Kind.THOUSANDTHS),
    **{f"energy_export_wh{part}": Kind.THOUSANDTHS for part in ("_first", "_last", "")},
}
REVISED_WINDOW_KINDS: Final = {**WINDOW_KINDS, "revision": Kind.INTEGER}


class Register(NamedTuple):
    """A connector's last usable register before some moment."""

    at: datetime
    energy_mwh: int


class Registers(NamedTuple):
    """By connector_id, the registers before the first row of a history that has one."""

    energy: Mapping[int, Register]
    energy_export: Mapping[int, Register]


def reading_table(rows: Sequence[Row]) -> ColumnTable:
    """Raw readings, with flags, status and session event by name (null where the reading has none)."""
    stored = _columns(rows)
    flag_names = {flags: names_of(flags) for flags in set(stored["flags"])}
    columns = {
        **stored,
        **{name: stored[column] for name, (column, *_) in QUANTITIES.items()},
        "status": [STATUS_LABELS.get(status) for status in stored["status"]],
        "session_event": [SESSION_EVENT_LABELS.get(event) for event in stored["session_event"]],
        "flags": [flag_names[flags] for flags in stored["flags"]],
        "energy_export_wh": stored["energy_export_mwh"],
        **{name: stored[column] for name, column in _SHARES.items()},
    }
    return ColumnTable(READING_KINDS, [columns.get(name, ()) for name in READING_KINDS])


def window_table(rows: Sequence[Row], registers: Registers, *, revised: bool) -> ColumnTable:
    """Windows in order of time."""
    kinds = REVISED_WINDOW_KINDS if revised else WINDOW_KINDS
    stored = _columns(rows)
    columns = {
        **stored,
        "window_start": stored["bucket"],
        "energy_wh_first": stored["energy_first_mwh"],
        "energy_wh_last": stored["energy_last_mwh"],
        "energy_wh": _energies_mwh(rows, registers.energy, "energy"),
        **{name: stored[f"{column}_sum"] for name, column in _SHARES.items()},
        "energy_export_wh_first": stored["energy_export_first_mwh"],
        "energy_export_wh_last": stored["energy_export_last_mwh"],
        "energy_export_wh": _energies_mwh(rows, registers.energy_export, "energy_export"),
    }
    for name, column in _AVERAGED.items():
        columns[f"{name}_avg"] = list(map(_mean, stored[f"{column}_sum"], stored[f"{column}_n"]))
        columns[f"{name}_min"] = stored[f"{column}_min"]
        columns[f"{name}_max"] = stored[f"{column}_max"]
    return ColumnTable(kinds, [columns.get(name, ()) for name in kinds])


def _columns(rows: Sequence[Row]) -> Mapping[str, Sequence[Any]]:
    """The rows as columns by name; without rows every column is empty."""
    if not rows:
        return defaultdict(tuple)
    return dict(zip(rows[0].keys(), zip(*(row.values() for row in rows), strict=True), strict=True))


def _mean(total: int, n: int) -> int | None:
    """The quotient, rounded half up exactly; None where n is 0."""
    return (2 * total + n) // (2 * n) if n else None


def _energies_mwh(rows: Sequence[Row], registers: Mapping[int, Register], name: str) -> list[int | None]:
    """Per window its energy in mWh: against the connector's previous register, else within the window, else None.
    `name`: how the columns of the register begin."""
    first_of, last_of, at = f"{name}_first_mwh", f"{name}_last_mwh", f"{name}_last_ts"
    previous = dict(registers)
    energies: list[int | None] = []
    for row in rows:
        first, last = row[first_of], row[last_of]
        if last is None:
            energies.append(None)
            continue
        before = previous.get(row["connector_id"])
        fresh = before is not None and before.at >= row["bucket"] - REGISTER_LOOKBACK
        if before is not None and fresh and before.energy_mwh <= last:
            energies.append(last - before.energy_mwh)
        else:
            energies.append(last - first if first <= last else None)
        previous[row["connector_id"]] = Register(row[at], last)
    return energies
