"""Laws of the ledger of energy (docs/adr/0014): every watt-hour is in one session, outside of any, or rejected."""

import itertools
from collections import Counter
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from schemas.reading import SessionEvent, Status
from schemas.session import EndReason
from streams.effects import NULL_I64
from streams.kernels.session_energy import UJ_PER_MWH
from streams.kernels.windows import WINDOW_MS
from tests.streams.memory_store import MemoryStore, Row
from tests.streams.reference import Reading
from tests.streams.test_step_laws import BASE_MS, PARAMS, RELOADS, blank_readings, frames_of, run

CUTS = st.lists(st.integers(0, 99), max_size=6)
ACCOUNTED = ("in_session_mwh", "outside_mwh", "rejected_mwh")
SLACK_MWH = 100_000  # a rise of so much is plausible whatever the time
STEPS_MS = (0, 1, 1_000, 5_000, 30_000, 61_000, PARAMS.session_timeout_ms)
# Few names, so that they come again: ids used twice, kept after the stop, replaced midway, and those that name nothing.
NAMES = (None, None, "tx", "ty", "tz", "0", "-1", "")
STATUSES = (Status.NONE, Status.NONE, Status.NONE, Status.PREPARING, Status.CHARGING, Status.CHARGING,
            Status.SUSPENDED_EV, Status.FINISHING, Status.AVAILABLE, Status.UNAVAILABLE)  # fmt: skip
EVENTS = (SessionEvent.NONE,) * 5 + (SessionEvent.STARTED, SessionEvent.UPDATED, SessionEvent.ENDED)


@st.composite
def timelines(draw: st.DrawFn, *, resets: bool) -> list[Reading]:
    """One connector's readings in order of time: sessions by any names, events and statuses; a register that rises
    plausibly or, with `resets`, also falls, leaps, shows zero, or goes on as one of two."""
    numbered = draw(st.booleans())
    registers = [draw(st.sampled_from([0, 7, 5_000_000, 10**10]))] * 2
    of_moment_mwh, at_ms, fields = 0, BASE_MS, []
    for seq in range(draw(st.integers(2, 24))):
        step_ms = draw(st.sampled_from(STEPS_MS if numbered or not seq else STEPS_MS[1:]))
        at_ms += step_ms
        of_moment_mwh = of_moment_mwh if step_ms == 0 else 0
        rise_mwh = draw(st.integers(0, SLACK_MWH // 32) | st.just(0))
        if step_ms > 1_000 and draw(st.booleans()):
            rise_mwh = draw(st.integers(0, step_ms * PARAMS.power_max_mw // 3_600_000))
        which = draw(st.integers(0, 1)) if resets else 0
        registers[which] += rise_mwh
        shown = registers[which]
        if resets and draw(st.integers(0, 5)) == 5:
            odd = draw(st.sampled_from([0, 50, shown // 3, max(shown - 10, 0), shown + 10**9, 10**11]))
            shown = odd
            if draw(st.booleans()):
                registers[which] = odd
        fields.append(
            {
                "ts_ms": at_ms,
                "seq": seq if numbered else None,
                "session_id": draw(st.sampled_from(NAMES)),
                "session_event": draw(st.sampled_from(EVENTS)),
                "status": draw(st.sampled_from(STATUSES)),
                "energy_mwh": draw(st.sampled_from([None, shown, shown, shown])),
                "power_mw": draw(st.sampled_from([None, None, 0, 11_000_000])) if resets else None,
                "energy_export_mwh": None,
            }
        )
    return blank_readings(fields)


@st.composite
def arrivals(draw: st.DrawFn, *, resets: bool) -> list[Reading]:
    """Those of one or two connectors, in any order of arrival, some of them again."""
    readings = draw(timelines(resets=resets))
    if draw(st.booleans()):
        readings += [one | {"connector_id": 2} for one in draw(timelines(resets=resets))]
    order = draw(st.just(readings) | st.permutations(readings))
    again = draw(st.lists(st.sampled_from(order), max_size=3))
    newest_ms = max(reading["ts_ms"] for reading in readings)
    return [reading | {"received_ms": newest_ms} for reading in [*order, *again]]


def known(value: int) -> int:
    return 0 if value == NULL_I64 else value


def by_connector(store: MemoryStore) -> dict[int, list[Row]]:
    """Stored readings, in order of time."""
    found: dict[int, list[Row]] = {}
    for row in sorted(store.readings, key=lambda r: (r["ts_ms"], r["seq"], r["part"], r["boot"])):
        found.setdefault(row["connector_key"], []).append(row)
    return found


def sums(rows: list[Row]) -> tuple[int, ...]:
    """In sessions, outside, rejected."""
    return tuple(sum(known(row[name]) for row in rows) for name in ACCOUNTED)


@given(arrivals(resets=False), CUTS, CUTS, RELOADS)
def test_of_a_register_that_rises_plausibly_no_milliwatt_hour_is_missing_or_counted_twice(
    arrived: list[Reading], frame_cuts: list[int], step_cuts: list[int], reload: frozenset[int]
) -> None:
    store, _ = run(frames_of(arrived, frame_cuts), step_cuts, reload=reload)
    for rows in by_connector(store).values():
        registers = [row["energy_mwh"] for row in rows if row["energy_mwh"] != NULL_I64]
        own, outside, rejected = sums(rows)
        assert own + outside == (registers[-1] - registers[0] if registers else 0)
        assert rejected == 0
        event(f"in sessions: {own > 0}, outside: {outside > 0}")


@given(arrivals(resets=True), CUTS, CUTS, RELOADS)
def test_every_watt_hour_of_a_session_is_a_readings_and_no_reading_is_in_two(
    arrived: list[Reading], frame_cuts: list[int], step_cuts: list[int], reload: frozenset[int]
) -> None:
    store, _ = run(frames_of(arrived, frame_cuts), step_cuts, reload=reload)
    sessions = {key: row for key, row in store.sessions.items() if row["end_reason"] != EndReason.WITHDRAWN}
    members: dict[int, list[Row]] = {key: [] for key in sessions}
    for row in store.readings:
        if row["session_key"] != NULL_I64:
            members[row["session_key"]].append(row)
        else:
            assert known(row["in_session_mwh"]) == 0
    for key, row in sessions.items():
        by_register_mwh, rest = divmod(row["energy_uj"] - row["integrated_uj"], UJ_PER_MWH)
        assert (by_register_mwh, rest) == (sums(members[key])[0], 0)
        assert row["readings"] == len(members[key])
        assert {one["connector_key"] for one in members[key]} == {row["connector_key"]}
    for rows in by_connector(store).values():  # sessions do not interleave
        keys = [row["session_key"] for row in rows if row["session_key"] != NULL_I64]
        assert len([key for key, _ in itertools.groupby(keys)]) == len(set(keys))


@given(arrivals(resets=True), CUTS, CUTS, RELOADS)
def test_the_ledger_of_minutes_is_that_of_the_readings(
    arrived: list[Reading], frame_cuts: list[int], step_cuts: list[int], reload: frozenset[int]
) -> None:
    store, _ = run(frames_of(arrived, frame_cuts), step_cuts, reload=reload)
    minutes: dict[tuple[int, int], list[Row]] = {}
    for row in store.readings:
        minutes.setdefault((row["connector_key"], row["ts_ms"] // WINDOW_MS * WINDOW_MS), []).append(row)
    stored = {place: tuple(row[f"{name}_sum"] for name in ACCOUNTED) for place, row in store.windows.items()}
    assert stored == {place: sums(rows) for place, rows in minutes.items()}


@given(arrivals(resets=True), CUTS, st.randoms(use_true_random=False))
def test_what_a_reading_accounts_for_does_not_depend_on_when_it_came(
    arrived: list[Reading], cuts: list[int], random: Any
) -> None:
    """Of one moment without seq the order of arrival is that of its parts, and stays."""
    in_turn = list(arrived)
    random.shuffle(in_turn)
    waiting = {place: iter(group) for place, group in _moments(arrived).items()}
    in_turn = [next(waiting[_moment(reading)]) for reading in in_turn]
    first, _ = run(frames_of(arrived, []), [])
    other, _ = run(frames_of(in_turn, cuts), cuts)
    assert _accounted(other) == _accounted(first)


def _moment(reading: Reading) -> tuple[int, int, int | None]:
    return reading["connector_id"], reading["ts_ms"], reading["seq"]


def _moments(arrived: list[Reading]) -> dict[tuple[int, int, int | None], list[Reading]]:
    found: dict[tuple[int, int, int | None], list[Reading]] = {}
    for reading in arrived:
        found.setdefault(_moment(reading), []).append(reading)
    return found


def _accounted(store: MemoryStore) -> Counter[Any]:
    place = {key: connector for connector, key in store.keys.items()}
    return Counter(
        (place[row["connector_key"]], row["ts_ms"], row["seq"], row["part"], *(known(row[name]) for name in ACCOUNTED),
         store.sessions[row["session_key"]]["started_ms"] if row["session_key"] != NULL_I64 else None, extra)
        for row, extra in zip(store.readings, store.extra, strict=True)
    )  # fmt: skip
