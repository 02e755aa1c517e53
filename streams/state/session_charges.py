"""What sessions come to while a step works on them: energy and, where they have a tariff, money. Pure.

Energy decides what a reading closes (kernels/energy), stretches say with what it was used (kernels/stretches), the
tariff says which components that counts for (kernels/consumption), and the cost follows (kernels/cost). Rules:
docs/adr/0009.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.effects import COST_COLUMNS, Used
from streams.kernels import energy
from streams.kernels.consumption import consume
from streams.kernels.cost import Costs, price
from streams.kernels.energy import Samples, SessionEnergy, Trace
from streams.kernels.runs import I64, NULL, Runs, runs_of
from streams.kernels.tariff_table import ENERGY, FLAT, NONE, PARKING_TIME, TIME
from streams.kernels.tariff_usage import TariffUsage
from streams.kernels.usage_intervals import CHARGING, IDLE, Holds, UsageIntervals, stretches_of
from streams.tariffs.compiled import CompiledTariffs

_PARTS: Final = (ENERGY, TIME, PARKING_TIME, FLAT)  # in the order of COST_COLUMNS


@dataclass(slots=True)
class SessionCharges:
    """Sessions, one row each."""

    lanes: SessionEnergy
    tariff_key: I64  # pricing's version; 0: none
    held_ma: I64  # NULL: never said
    held_kind: I64
    meters: TariffUsage

    @classmethod
    def fresh(
        cls, tariffs: CompiledTariffs, tariff_key: I64, start_ms: I64, lanes: SessionEnergy | None = None
    ) -> "SessionCharges":
        """Sessions that have used nothing, from then on; with these lanes, or without a reading."""
        rows = len(tariff_key)
        meters = TariffUsage.fresh(tariffs.places(tariff_key), start_ms, tariffs.width)
        held_ma, held_kind = np.full(rows, NULL, np.int64), np.full(rows, CHARGING, np.int64)
        return cls(SessionEnergy.fresh(rows) if lanes is None else lanes, tariff_key, held_ma, held_kind, meters)

    def __len__(self) -> int:
        return len(self.tariff_key)

    def at(self, rows: I64) -> "SessionCharges":
        """A copy of these rows."""
        return SessionCharges(
            self.lanes.at(rows), self.tariff_key[rows], self.held_ma[rows], self.held_kind[rows], self.meters.at(rows)
        )

    def put(self, rows: I64, other: "SessionCharges") -> None:
        """Overwrite these rows with all rows of `other`, in order."""
        self.lanes.put(rows, other.lanes)
        self.meters.put(rows, other.meters)
        for name in ("tariff_key", "held_ma", "held_kind"):
            getattr(self, name)[rows] = getattr(other, name)

    @classmethod
    def together(cls, parts: Sequence["SessionCharges"]) -> "SessionCharges":
        """All rows of these, one after the other."""
        return cls(
            SessionEnergy(
                *(np.concatenate([getattr(part.lanes, f.name) for part in parts]) for f in fields(SessionEnergy))
            ),
            np.concatenate([part.tariff_key for part in parts]),
            np.concatenate([part.held_ma for part in parts]),
            np.concatenate([part.held_kind for part in parts]),
            TariffUsage.together([part.meters for part in parts]),
        )


@dataclass(slots=True)
class SessionTotals:
    """What one session that is not open any more comes to: a row of accounts."""

    start_ms: int
    last_ms: int
    flagged: int
    accounts: SessionCharges
    row: int


def gathered(rows: Sequence[tuple[SessionCharges, int]]) -> SessionCharges:
    """Those rows of those accounts, in order."""
    sources: dict[int, tuple[SessionCharges, list[int], list[int]]] = {}
    for place, (accounts, row) in enumerate(rows):
        _, taken, places = sources.setdefault(id(accounts), (accounts, [], []))
        taken.append(row)
        places.append(place)
    together = SessionCharges.together([accounts.at(np.array(taken)) for accounts, taken, _ in sources.values()])
    order = np.argsort(np.array([place for _, _, places in sources.values() for place in places]))
    return together.at(order)


@dataclass(slots=True)
class Readings:
    """Readings of sessions, sorted by session, arrival order inside one; NULL where the device said nothing."""

    samples: Samples
    current_ma: I64
    status: I64


def advance(
    tariffs: CompiledTariffs,
    accounts: SessionCharges,
    readings: Readings,
    runs: Runs,
    power_max_mw: int,
    *,
    final: bool = False,
) -> NDArray[np.int16]:
    """Account for the readings; `runs.key` is each run's row of `accounts`. Returns register flags per reading.

    Sessions that end up dirty are not counted on (they are to be rated again), unless this is that rating (`final`).
    """
    samples, lanes = readings.samples, accounts.lanes
    if not (accounts.meters.tariff != NONE).any():
        return energy.advance(lanes, samples, runs, power_max_mw)
    trace = Trace.blank(len(samples))
    holds = Holds(lanes.last_ts_ms.copy(), lanes.held_mw.copy(), accounts.held_ma, accounts.held_kind)
    flags = energy.advance(lanes, samples, runs, power_max_mw, trace)
    counted = accounts.meters.tariff != NONE
    if not final:
        counted &= lanes.dirty == 0
    rows = trace.order[(counted[runs.key][runs.of_row] & trace.taken)[trace.order]]
    if not len(rows):
        return flags
    session = runs.key[runs.of_row[rows]]
    stretches = stretches_of(
        holds,
        runs_of(session),
        samples.ts_ms[rows],
        samples.power_mw[rows],
        readings.current_ma[rows],
        readings.status[rows],
        Trace(rows, trace.taken, trace.anchor_ms[rows], trace.before_mwh[rows], trace.after_mwh[rows]),
        power_max_mw,
    )
    _consume(tariffs, accounts.meters, stretches)
    return flags


def _consume(tariffs: CompiledTariffs, meters: TariffUsage, s: UsageIntervals) -> None:
    since_ms = np.where(s.since_ms == NULL, s.ts_ms, s.since_ms)
    first_ms = np.minimum(since_ms, np.where(s.anchor_ms == NULL, s.ts_ms, s.anchor_ms))
    consume(tariffs.book(meters.tariff[s.session], first_ms, s.ts_ms), meters, s)


def settled(tariffs: CompiledTariffs, accounts: SessionCharges) -> tuple[TariffUsage, Costs]:
    """What each session has used and costs, as if it ended with its newest reading.

    Sessions that stay dirty after their rating have been settled by it.
    """
    rows = len(accounts)
    if not (accounts.meters.tariff != NONE).any():
        zero = np.zeros(rows, np.int64)
        return accounts.meters, Costs(zero, zero.copy(), np.zeros((rows, len(_PARTS)), np.int64))
    lanes, meters = accounts.lanes, accounts.meters.copy()
    before_mwh = lanes.money_mwh()
    after_mwh = lanes.energy_uj() // energy.UJ_PER_MWH
    open_end = (meters.tariff != NONE) & (lanes.register_last_mwh != NULL) & (lanes.dirty == 0)
    drawn = np.flatnonzero(open_end & (after_mwh > before_mwh))
    if len(drawn):
        stretches = UsageIntervals(
            session=drawn,
            since_ms=lanes.last_ts_ms[drawn],  # no time: that was counted as it came
            ts_ms=lanes.last_ts_ms[drawn],
            kind=np.full(len(drawn), IDLE, np.int64),
            power_mw=np.maximum(lanes.held_mw[drawn], 0),
            current_ma=np.maximum(accounts.held_ma[drawn], 0),
            anchor_ms=lanes.register_ts_ms[drawn],
            before_mwh=before_mwh[drawn],
            after_mwh=after_mwh[drawn],
        )
        _consume(tariffs, meters, stretches)
    moments = np.zeros(rows, np.int64)
    return meters, price(tariffs.book(np.full(rows, NONE), moments, moments), meters)


def cost_columns(accounts: SessionCharges, meters: TariffUsage, costs: Costs) -> dict[str, I64]:
    """effects.COST_COLUMNS."""
    priced = meters.tariff != NONE
    parts = (costs.parts_micros[:, part] for part in _PARTS)
    values = (accounts.tariff_key, costs.excl_vat_micros, costs.incl_vat_micros, *parts)
    return {name: np.where(priced, value, NULL) for name, value in zip(COST_COLUMNS, values, strict=True)}


def used_by(tariffs: CompiledTariffs, meters: TariffUsage, row: int) -> list[Used]:
    """What a session used, component by component; the session has a tariff."""
    last = int(meters.last_energy[row]), int(meters.last_time[row])
    volumes, since_ms = meters.volume[row].tolist(), meters.since_ms[row].tolist()
    return [
        Used(component.element, component.dimension.value, volumes[number], since_ms[number], number in last)
        for number, component in enumerate(tariffs.components(int(meters.tariff[row])))
        if volumes[number]
    ]
