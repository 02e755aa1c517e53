"""One truth for money: the cost kernel, wherever the stream is cut and however readings are ordered, equals the
independent rating in whole numbers of the stored readings (docs/adr/0009), to the last micro-unit."""

from dataclasses import replace
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from billing.rating import MeterBefore, StoredReading, rate_readings, usage_of
from schemas.reading import READING_SCHEMA, SessionEvent
from schemas.session import EndReason
from schemas.tariff import Tariff
from streams.effects import NULL_I32, NULL_I64
from streams.engine import session_tariffs
from streams.kernels.runs import MAX_I64
from streams.state.partition import PartitionState
from streams.tariffs.version import TariffVersion
from streams.worker.compute import compute_effects
from tests.billing.rating.strategies import MOMENTS, Session, banded, sessions, tariffs
from tests.streams.memory_store import AsStoreQueries, MemoryStore, Row
from tests.streams.reference import Reading
from tests.streams.test_step_laws import PARAMS, RELOADS, blank_readings, frames_of, run, streams

POWERS_MAX_MW = (3_700_000, 22_000_000, 50_000_000, 400_000_000)
CUTS = st.lists(st.integers(0, 99), max_size=4)


def version_of(key: int, zone: str, tariff: Tariff) -> TariffVersion:
    return TariffVersion.of(key, UUID(int=key), zone, tariff.model_dump_json(exclude_none=True))


def arrivals(readings: list[StoredReading], session_id: str | None = "tx") -> list[Reading]:
    """These readings in the order they are given in, as connector 1 of station A sends them."""
    now_ms = max((reading.ts_ms for reading in readings), default=0) + 5_000
    said = (
        {
            "session_id": session_id, "seq": r.seq, "ts_ms": r.ts_ms, "energy_mwh": r.energy_mwh,
            "power_mw": r.power_mw, "current_ma": r.current_ma, "status": r.status, "received_ms": now_ms,
        }
        for r in readings
    )  # fmt: skip
    return blank_readings(said)


def rated(store: MemoryStore, power_max_mw: int) -> None:
    """Register what connector 1 of station A can deliver."""
    store.rated["A", 1] = power_max_mw


def check(store: MemoryStore) -> int:
    """Every session that is stored costs what its stored readings cost. Returns how many had a tariff."""
    versions = {version.key: version for of_station in store.tariffs.values() for _, version in of_station}
    connectors = {key: connector for connector, key in store.keys.items()}
    priced = 0
    for key, row in store.sessions.items():
        if row["tariff_key"] == NULL_I64:
            station, _ = connectors[row["connector_key"]]
            in_force_ms = min((since_ms for since_ms, _ in store.tariffs.get(station, [])), default=MAX_I64)
            assert row["started_ms"] < in_force_ms, "a session that began under a tariff has none"
            assert row["cost_incl_micros"] == NULL_I64
            continue
        version = versions[row["tariff_key"]]
        readings = stored(store, key)
        if row["end_reason"] == EndReason.WITHDRAWN:
            assert not readings
            assert row["energy_uj"] == 0
            continue
        consumption, rated = rate_readings(version.tariff, ZoneInfo(version.time_zone), readings, meter_before(row))
        if row["end_reason"] != EndReason.OPEN:
            assert [tuple(one) for one in store.consumption[key]] == [
                (c.element, c.dimension.value, c.volume, c.since_ms, c.last) for c in consumption
            ]
        assert (row["cost_excl_micros"], row["cost_incl_micros"]) == (rated.total_excl_micros, rated.total_incl_micros)
        parts = dict.fromkeys((line.dimension for line in rated.lines), 0)
        for line in rated.lines:
            parts[line.dimension] += line.amount_excl_micros
        for name, dimension in (("energy", "ENERGY"), ("time", "TIME"), ("parking", "PARKING_TIME"), ("flat", "FLAT")):
            assert row[f"cost_{name}_micros"] == parts.get(dimension, 0), name
        priced += 1
    return priced


def known(value: int) -> int | None:
    return None if value in (NULL_I64, NULL_I32) else value


def meter_before(row: Row) -> MeterBefore:
    """What telemetry publishes with a session."""
    names = ("register_before_mwh", "register_before_ms", "series_mwh")
    return MeterBefore(row["power_max_mw"], *(known(row[name]) for name in names))


def stored(store: MemoryStore, session_key: int) -> list[StoredReading]:
    return [
        StoredReading(
            ts_ms=r["ts_ms"], seq=known(r["seq"]), energy_mwh=known(r["energy_mwh"]), power_mw=known(r["power_mw"]),
            current_ma=known(r["current_ma"]), status=r["status"], part=r["part"], boot=known(r["boot"]),
        )
        for r in store.readings
        if r["session_key"] == session_key
    ]  # fmt: skip


@given(tariffs(), sessions(), CUTS, CUTS, RELOADS)
def test_a_session_costs_what_its_readings_cost_however_they_come(
    tariff: Tariff, session: Session, frame_cuts: list[int], step_cuts: list[int], reload: frozenset[int]
) -> None:
    store = MemoryStore()
    store.tariffs["A"] = [(0, version_of(1, session.zone.key, tariff))]
    rated(store, session.before.power_max_mw)
    run(frames_of(arrivals(session.readings), frame_cuts), step_cuts, reload=reload, store=store)
    event(f"{check(store)} sessions")


@st.composite
def visits(draw: st.DrawFn) -> tuple[str, list[Reading]]:
    """Sessions that follow each other on one connector, with whatever registers, in any order of arrival: the zone, and
    the readings."""
    drawn = draw(st.lists(sessions(readings_max=6), min_size=2, max_size=4))
    at_ms = min(r.ts_ms for r in drawn[0].readings)
    seq = 0
    arrived: list[Reading] = []
    meter = draw(st.sampled_from(["on", "on", "anew", "any"]))
    register_mwh = draw(st.sampled_from([0, 5_000, 10**9]))
    for number, session in enumerate(drawn):
        in_order = sorted(session.readings, key=lambda r: (r.ts_ms, r.seq or 0))
        later_ms = at_ms - in_order[0].ts_ms
        metered = [r.energy_mwh for r in in_order if r.energy_mwh is not None] or [0]
        more_mwh = 0 if meter == "any" else register_mwh - metered[0]
        moved = [
            replace(
                r, ts_ms=r.ts_ms + later_ms, seq=None if r.seq is None else seq + n,
                energy_mwh=None if r.energy_mwh is None else max(r.energy_mwh + more_mwh, 0),
            )
            for n, r in enumerate(in_order)
        ]  # fmt: skip
        readings = arrivals(moved, draw(st.sampled_from(["tx", f"tx{number}", "0", None])))
        begins, ends = draw(st.booleans()), draw(st.booleans())
        if begins:
            readings[0] |= {"session_event": SessionEvent.STARTED}
        if ends:
            readings[-1] |= {"session_event": SessionEvent.ENDED}
        arrived += readings
        seq += len(readings)
        at_ms = moved[-1].ts_ms + draw(st.sampled_from([0, 1_000, 61_000, 3_600_000, 100_000_000]))
        if meter == "on":
            register_mwh = max(metered[-1] + more_mwh, 0) + draw(st.sampled_from([0, 0, 700, 10**10]))
    now_ms = max(reading["received_ms"] for reading in arrived)
    order = draw(st.just(arrived) | st.permutations(arrived))
    return drawn[0].zone.key, [reading | {"received_ms": now_ms} for reading in order]


@given(st.lists(tariffs(), min_size=1, max_size=2), visits(), st.sampled_from(POWERS_MAX_MW), CUTS, CUTS, RELOADS)
def test_sessions_that_follow_each_other_cost_what_their_readings_cost(
    versions: list[Tariff],
    arrived: tuple[str, list[Reading]],
    power_max_mw: int,
    frame_cuts: list[int],
    step_cuts: list[int],
    reload: frozenset[int],
) -> None:
    """Each is judged by the register that the one before it left, and by what the connector can deliver."""
    zone, readings = arrived
    store = MemoryStore()
    rated(store, power_max_mw)
    moments_ms = sorted(reading["ts_ms"] for reading in readings)
    since_ms = (0, moments_ms[len(moments_ms) // 2])
    published = zip(since_ms, range(1, len(versions) + 1), versions, strict=False)
    store.tariffs["A"] = [(since, version_of(key, zone, tariff)) for since, key, tariff in published]
    run(frames_of(readings, frame_cuts), step_cuts, reload=reload, store=store)
    priced = check(store)
    event(f"{priced} sessions, {sum(row['register_before_mwh'] != NULL_I64 for row in store.sessions.values())} after")


@given(sessions(), CUTS, CUTS, RELOADS, st.data())
def test_bands_at_what_a_session_shows_are_kept_to_the_milliwatt(
    session: Session, frame_cuts: list[int], step_cuts: list[int], reload: frozenset[int], data: st.DataObject
) -> None:
    """Of power and current, whether they were said or follow from the register."""
    used, _ = usage_of(session.readings, MeterBefore(session.before.power_max_mw))
    times = [interval.time for interval in used.intervals if interval.time is not None]
    powers_mw, currents_ma = ({0, *(getattr(time, name) for time in times)} for name in ("power_mw", "current_ma"))
    tariff = data.draw(banded(sorted(powers_mw), sorted(currents_ma)))
    store = MemoryStore()
    store.tariffs["A"] = [(0, version_of(1, session.zone.key, tariff))]
    rated(store, session.before.power_max_mw)
    run(frames_of(arrivals(session.readings), frame_cuts), step_cuts, reload=reload, store=store)
    event(f"{check(store)} sessions, {min(len(powers_mw), 4)} powers")


@given(
    streams(),
    st.lists(tariffs(), min_size=1, max_size=3),
    st.sampled_from(sorted(MOMENTS)),
    CUTS,
    CUTS,
    RELOADS,
    st.data(),
)
def test_any_readings_of_any_sessions_cost_what_they_say(
    arrived: list[Reading],
    versions: list[Tariff],
    zone: str,
    frame_cuts: list[int],
    step_cuts: list[int],
    reload: frozenset[int],
    data: Any,
) -> None:
    store = MemoryStore()
    first_ms = min(reading["ts_ms"] for reading in arrived)
    for station in ("A", "B"):
        since = [first_ms + data.draw(st.integers(-60_000, 200_000)) for _ in versions]
        keys = range(1, len(versions) + 1) if station == "A" else range(11, len(versions) + 11)
        published = zip(sorted(since), keys, versions, strict=True)
        store.tariffs[station] = [(since_ms, version_of(key, zone, tariff)) for since_ms, key, tariff in published]
    run(frames_of(arrived, frame_cuts), step_cuts, reload=reload, store=store)
    event(f"{check(store)} priced sessions")


def test_versions_that_no_open_session_has_are_dropped_and_costs_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_tariffs, "TARIFFS_MAX", 3)
    store, state = MemoryStore(), PartitionState(0)
    element = {"price_components": [{"type": "ENERGY", "price": 1, "step_size": 0}]}
    tariff = Tariff.model_validate({"currency": "EUR", "elements": [element]})
    store.tariffs["A"] = [(key * 1_000, version_of(key, "UTC", tariff)) for key in range(20)][1:]
    plain = dict.fromkeys(READING_SCHEMA.names) | {"station_id": "A", "connector_id": 1}
    for number in range(1, 19):
        readings = [
            plain
            | {"session_id": f"s{number}", "ts_ms": number * 1_000 + at, "seq": 2 * number + at // 500}
            | {"energy_mwh": 10**6 * number + at * 100, "status": 3, "session_event": 0, "received_ms": 10**6}
            for at in (0, 500)
        ]
        (frame,) = frames_of(readings, [])
        header = msgspec.structs.replace(frame[0], number=number - 1, items_total=2 * number)
        store.apply(compute_effects(state, [(header, frame[1])], 10**6, AsStoreQueries(store), PARAMS))
    assert len(state.tariffs) <= 5
    costs = [row["cost_incl_micros"] for row in store.sessions.values()]
    assert costs == [50_000] * 18  # 50 Wh each
    assert check(store) == 18


def test_a_state_that_had_a_longer_tariff_goes_on_with_shorter_ones() -> None:
    """A partition is taken over; the next session to open there has a tariff of fewer components."""
    names = ("ENERGY", "FLAT", "TIME", "PARKING_TIME")
    component = {"price": 1, "step_size": 0}
    store = MemoryStore()
    for station, key, dimensions in (("A", 1, names), ("B", 2, names[:1])):
        element = {"price_components": [component | {"type": name} for name in dimensions]}
        tariff = Tariff.model_validate({"currency": "EUR", "elements": [element]})
        store.tariffs[station] = [(0, version_of(key, "UTC", tariff))]
    plain = dict.fromkeys(READING_SCHEMA.names) | {"connector_id": 1, "session_id": "s", "status": 3}
    arrived = [
        plain
        | {"station_id": station, "ts_ms": at_ms, "seq": at_ms, "energy_mwh": at_ms * 100, "received_ms": at_ms}
        | {"session_event": event}
        for at_ms, station, event in ((1_000, "A", 1), (2_000, "A", 3), (3_000, "B", 1), (4_000, "B", 2))
    ]
    run(frames_of(arrived, []), [1, 2, 3], reload=frozenset(range(3)), store=store)
    assert check(store) == 2
