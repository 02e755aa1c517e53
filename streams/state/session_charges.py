"""The energy of sessions and, where they have a tariff, their cost, while a step works on them. Pure.

Readings close intervals of energy (kernels/energy) and of time (kernels/usage_intervals). The tariff decides which
components an interval counts for (kernels/allocation); the cost follows from their volumes (kernels/cost). Rules:
docs/adr/0009.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from streams.effects import COST_COLUMNS, ComponentVolume
from streams.kernels.allocation import allocate
from streams.kernels.cost import Costs, price
from streams.kernels.energy import Accounted, EnergyTrace, Samples
from streams.kernels.energy import advance as advance_energy
from streams.kernels.runs import I64, NULL, Bools, Runs, any_true, rows_where, runs_of
from streams.kernels.session_energy import UJ_PER_MWH, SessionEnergy
from streams.kernels.tariff_table import ENERGY, FLAT, NONE, PARKING_TIME, TIME
from streams.kernels.tariff_usage import TariffUsage
from streams.kernels.usage_intervals import (
    IDLE,
    NOT_SAID,
    LastValues,
    UsageIntervals,
    current_of,
    intervals_of,
    kind_by_register,
)
from streams.tariffs.compiled import CompiledTariffs

_PARTS: Final = (ENERGY, TIME, PARKING_TIME, FLAT)  # in the order of COST_COLUMNS


# Of a session without a reading.
_NOTHING: Final = {
    "last_current_ma": NULL,
    "last_kind": NOT_SAID,
    "register_power_mw": NULL,
    "open_since_ms": NULL,
}


@dataclass(slots=True)
class SessionCharges:
    """What decides the energy and the cost of sessions, one row each."""

    energy: SessionEnergy
    tariff_key: I64  # pricing's version; 0: none
    last_current_ma: I64  # the last known current; NULL: none yet
    last_kind: I64  # the last known kind of use; NOT_SAID: none yet
    register_power_mw: I64  # between the last two registers; NULL: none yet
    open_since_ms: I64  # where time begins that no reading has closed yet; NULL: there is none
    usage: TariffUsage

    @classmethod
    def fresh(
        cls, tariffs: CompiledTariffs, tariff_key: I64, start_ms: I64, energy: SessionEnergy | None = None
    ) -> "SessionCharges":
        """Sessions that have used nothing yet, with this energy, or without a reading."""
        rows = len(tariff_key)
        nothing = {name: np.full(rows, value, np.int64) for name, value in _NOTHING.items()}
        return cls(
            energy=SessionEnergy.fresh(rows) if energy is None else energy,
            tariff_key=tariff_key,
            usage=TariffUsage.fresh(tariffs.places(tariff_key), start_ms, tariffs.width),
            **nothing,
        )

    def __len__(self) -> int:
        return len(self.tariff_key)

    def at(self, rows: I64) -> "SessionCharges":
        """A copy of these rows."""
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return SessionCharges(energy=self.energy.at(rows), usage=self.usage.at(rows), **columns)

    def put(self, rows: I64, other: "SessionCharges") -> None:
        """Overwrite these rows with all rows of `other`, in order."""
        self.energy.put(rows, other.energy)
        self.usage.put(rows, other.usage)
        for name in _COLUMNS:
            getattr(self, name)[rows] = getattr(other, name)

    @classmethod
    def concatenate(cls, parts: Sequence["SessionCharges"]) -> "SessionCharges":
        """All rows of these, one after the other."""
        return cls(
            energy=SessionEnergy(
                *(np.concatenate([getattr(part.energy, f.name) for part in parts]) for f in fields(SessionEnergy))
            ),
            usage=TariffUsage.concatenate([part.usage for part in parts]),
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS},
        )


_COLUMNS: Final = tuple(f.name for f in fields(SessionCharges) if f.type is I64)


@dataclass(slots=True)
class SessionTotals:
    """The totals of one session that is not open any more: a row of charges."""

    start_ms: int
    last_ms: int
    flagged: int
    charges: SessionCharges
    row: int


def collect_charges(rows: Sequence[tuple[SessionCharges, int]]) -> SessionCharges:
    """These rows of these charges as one SessionCharges, in order."""
    sources: dict[int, tuple[SessionCharges, list[int], list[int]]] = {}
    for place, (charges, row) in enumerate(rows):
        _, taken, places = sources.setdefault(id(charges), (charges, [], []))
        taken.append(row)
        places.append(place)
    together = SessionCharges.concatenate([charges.at(np.array(taken)) for charges, taken, _ in sources.values()])
    order = np.argsort(np.array([place for _, _, places in sources.values() for place in places]))
    return together.at(order)


@dataclass(slots=True)
class MeteredReadings:
    """Readings of segments, in order of the timeline in each; NULL where the device sent nothing."""

    samples: Samples
    current_ma: I64
    status: I64

    def at(self, rows: I64) -> "MeteredReadings":
        """A copy of these rows."""
        return MeteredReadings(self.samples.at(rows), self.current_ma[rows], self.status[rows])


def advance(
    tariffs: CompiledTariffs, charges: SessionCharges, readings: MeteredReadings, runs: Runs, in_session: Bools
) -> Accounted:
    """Account for the readings. Each run is a segment of a timeline, a row of `charges` and of `in_session`; `runs.key`
    is its row of `charges.energy`, which may have others too."""
    samples, energy = readings.samples, charges.energy
    priced = charges.usage.tariff != NONE
    if not any_true(priced):
        return advance_energy(energy, samples, runs, in_session)
    trace = EnergyTrace.blank(len(samples))
    last_values = LastValues(
        energy.last_ts_ms[runs.key],
        energy.last_power_mw[runs.key],
        charges.last_current_ma,
        charges.last_kind,
        charges.register_power_mw,
        charges.open_since_ms,
    )
    accounted = advance_energy(energy, samples, runs, in_session, trace)
    rows = rows_where(priced[runs.of_row])
    session = runs.of_row[rows]
    intervals = intervals_of(
        last_values,
        runs_of(session),
        samples.ts_ms[rows],
        samples.power_mw[rows],
        readings.current_ma[rows],
        readings.status[rows],
        trace.at(rows),
        energy.power_max_mw[runs.key[session]],
    )
    _allocate(tariffs, charges.usage, intervals)
    return accounted


def _allocate(tariffs: CompiledTariffs, usage: TariffUsage, s: UsageIntervals) -> None:
    since_ms = np.where(s.since_ms == NULL, s.ts_ms, s.since_ms)
    first_ms = np.minimum(since_ms, np.where(s.anchor_ms == NULL, s.ts_ms, s.anchor_ms))
    allocate(tariffs.table(usage.tariff[s.session], first_ms, s.ts_ms), usage, s)


def usage_and_costs(tariffs: CompiledTariffs, charges: SessionCharges) -> tuple[TariffUsage, Costs]:
    """What each session has used and costs, as if it ended with its newest reading."""
    rows = len(charges)
    if not any_true(charges.usage.tariff != NONE):
        zero = np.zeros(rows, np.int64)
        return charges.usage, Costs(zero, zero.copy(), np.zeros((rows, len(_PARTS)), np.int64))
    energy, usage = charges.energy, charges.usage.copy()
    before_mwh = energy.billed_mwh()
    after_mwh = energy.energy_uj() // UJ_PER_MWH
    registered = energy.register_first_mwh != NULL
    register_ts_ms = np.where(registered, energy.register_ts_ms, energy.candidate_ts_ms)
    counted = usage.tariff != NONE
    open_time = rows_where(counted & (charges.open_since_ms != NULL))
    if len(open_time):
        _allocate(tariffs, usage, _open_time(charges, open_time, before_mwh[open_time]))
    moments_only = rows_where(counted & (energy.last_ts_ms == usage.start_ms) & (usage.flat == NONE))
    if len(moments_only):
        _allocate(tariffs, usage, _moments(charges, moments_only))
    drawn = rows_where(counted & (register_ts_ms != NULL) & (after_mwh > before_mwh))
    if len(drawn):
        power_mw = np.maximum(energy.last_power_mw[drawn], 0)
        intervals = UsageIntervals(
            session=drawn,
            since_ms=energy.last_ts_ms[drawn],  # no time: that is counted with each reading
            ts_ms=energy.last_ts_ms[drawn],
            kind=np.full(len(drawn), IDLE, np.int64),
            power_mw=power_mw,
            current_ma=current_of(charges.last_current_ma[drawn], power_mw),
            anchor_ms=register_ts_ms[drawn],
            before_mwh=before_mwh[drawn],
            after_mwh=after_mwh[drawn],
        )
        _allocate(tariffs, usage, intervals)
    moments = np.zeros(rows, np.int64)
    return usage, price(tariffs.table(np.full(rows, NONE), moments, moments), usage)


def _open_time(charges: SessionCharges, rows: I64, energy_mwh: I64) -> UsageIntervals:
    """The time that no reading of these sessions has closed, as the last one closes it if they end there."""
    kind, power_mw = charges.last_kind[rows], charges.register_power_mw[rows]
    power_or_none = np.maximum(power_mw, 0)  # NULL is negative
    return UsageIntervals(
        session=rows,
        since_ms=charges.open_since_ms[rows],
        ts_ms=charges.energy.last_ts_ms[rows],
        kind=np.where(kind == NOT_SAID, kind_by_register(power_mw), kind),
        power_mw=power_or_none,
        current_ma=current_of(charges.last_current_ma[rows], power_or_none),
        anchor_ms=np.full(len(rows), NULL),
        before_mwh=energy_mwh,
        after_mwh=energy_mwh,
    )


def _moments(charges: SessionCharges, rows: I64) -> UsageIntervals:
    """Sessions without length, as if all that their readings say had been in the first."""
    ts_ms, power_mw = charges.energy.last_ts_ms[rows], np.maximum(charges.energy.last_power_mw[rows], 0)
    none, zero = np.full(len(rows), NULL), np.zeros(len(rows), np.int64)
    current_ma = current_of(charges.last_current_ma[rows], power_mw)
    return UsageIntervals(rows, none, ts_ms, zero + IDLE, power_mw, current_ma, none, zero, zero)


def cost_columns(charges: SessionCharges, usage: TariffUsage, costs: Costs) -> dict[str, I64]:
    """effects.COST_COLUMNS."""
    priced = usage.tariff != NONE
    parts = (costs.parts_micros[:, part] for part in _PARTS)
    values = (charges.tariff_key, costs.excl_vat_micros, costs.incl_vat_micros, *parts)
    return {name: np.where(priced, value, NULL) for name, value in zip(COST_COLUMNS, values, strict=True)}


def component_usage(tariffs: CompiledTariffs, usage: TariffUsage, row: int) -> list[ComponentVolume]:
    """What a session used, component by component in the order of its tariff; the session has one."""
    last = int(usage.last_energy[row]), int(usage.last_time[row])
    volumes, since_ms = usage.volume[row].tolist(), usage.since_ms[row].tolist()
    components = enumerate(tariffs.components(int(usage.tariff[row])))
    return [
        ComponentVolume(component.element, component.dimension.value, volumes[number], since_ms[number], number in last)
        for number, component in sorted(components, key=lambda one: (one[1].element, one[1].place))
        if volumes[number]
    ]
