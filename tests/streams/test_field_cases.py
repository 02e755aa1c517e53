"""What devices really do (tests/field_cases.py), by the step: each case as posted, and in any order of arrival."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reading import SESSION_EVENT_NAMES, STATUS_LABELS, STATUS_NAMES, Status
from schemas.session import END_REASON_NAMES, EndReason, hold_names
from schemas.tariff import Tariff
from streams.effects import StepParams
from streams.kernels.session_energy import UJ_PER_MWH
from streams.state.partition import PartitionState
from tests.field_cases import CASES, session_faults
from tests.streams.memory_store import MemoryStore, Row
from tests.streams.reference import Reading
from tests.streams.test_money_laws import version_of
from tests.streams.test_step_laws import blank_readings, frames_of, run

_NOW_MS = 1_790_000_000_000
_COLUMNS = {
    "energy_wh": "energy_mwh",
    "power_w": "power_mw",
    "current_a": "current_ma",
    "energy_export_wh": "energy_export_mwh",
}
_PARAMS = StepParams()

# The others are about what admission makes of a reading, which `_admitted` does not know.
OF_THE_STEP = sorted(name for name, case in CASES.items() if not case.get("admission"))


def arrivals(case: dict[str, Any]) -> tuple[list[Reading], list[int]]:
    """The readings of a case as admission leaves them, and where each post ends. All arrive when the newest is sent."""
    posted = [reading for post in case["posts"] for reading in post]
    moments_ms = [_ts_ms(reading["ts"]) for reading in posted]
    received_ms = max(
        _NOW_MS if reading["ts"].startswith("now") else ms for reading, ms in zip(posted, moments_ms, strict=True)
    )
    arrived = blank_readings(
        _admitted(reading) | {"ts_ms": ts_ms, "received_ms": received_ms}
        for reading, ts_ms in zip(posted, moments_ms, strict=True)
    )
    ends = [sum(map(len, case["posts"][: number + 1])) for number in range(len(case["posts"]))]
    return arrived, ends


def _ts_ms(ts: str) -> int:
    if ts.startswith("now"):
        return _NOW_MS + round(float(ts[3:-1] or 0) * 1_000)
    return round(datetime.fromisoformat(ts).timestamp() * 1_000)


def _admitted(reading: dict[str, Any]) -> Reading:
    numbers = {column: round(float(reading[name]) * 1_000) for name, column in _COLUMNS.items() if name in reading}
    if numbers.get("energy_mwh", 0) < 0:  # a register cannot be: it is dropped
        del numbers["energy_mwh"]
    return {
        **{
            name: reading[name]
            for name in ("station_id", "connector_id", "session_id", "boot", "seq")
            if name in reading
        },
        **numbers,
        "status": STATUS_NAMES.get(reading.get("status", ""), 0),
        "session_event": SESSION_EVENT_NAMES.get(reading.get("session_event", ""), 0),
    }


def played(
    case: dict[str, Any], arrived: list[Reading], cuts: list[int], reload: frozenset[int]
) -> tuple[MemoryStore, PartitionState]:
    """The store and the state after these readings, in frames and steps that end at the cuts."""
    store = MemoryStore()
    if "rated_power_w" in case["expect"]:
        store.rated |= {(r["station_id"], r["connector_id"]): case["expect"]["rated_power_w"] * 1_000 for r in arrived}
    if case.get("tariff") is not None:
        version = version_of(1, "UTC", Tariff.model_validate(case["tariff"]))
        store.tariffs = {reading["station_id"]: [(0, version)] for reading in arrived}
    return run(frames_of(arrived, cuts), list(range(len(cuts))), reload=reload, store=store, params=_PARAMS)


def sessions_of(store: MemoryStore) -> list[tuple[str | None, Row]]:
    """By their start, of one moment by connector."""
    places = {key: place for place, key in store.keys.items()}
    rows = [(key, row) for key, row in store.sessions.items() if row["end_reason"] != EndReason.WITHDRAWN]
    return [
        (store.session_ids[key], row)
        for key, row in sorted(rows, key=lambda one: (one[1]["started_ms"], places[one[1]["connector_key"]]))
    ]


def state_of(row: Row) -> str:
    """As the API says it."""
    if row["end_reason"] == EndReason.OPEN:
        return "open"
    return "held" if row["hold"] else "void" if row["void"] else "completed"


def assert_as_expected(case: dict[str, Any], store: MemoryStore, state: PartitionState) -> None:
    """What the step has a part in; invoices, drops and explanations are shown through the API."""
    expect = case["expect"]
    found: list[dict[str, Any]] = [
        {"session_id": session_id, "state": state_of(row), "energy_wh": row["energy_uj"] / UJ_PER_MWH / 1_000,
         "energy_export_wh": row["export_mwh"] / 1_000,
         "end_reason": END_REASON_NAMES.get(row["end_reason"]), "held": hold_names(row["hold"]),
         "cost_excl_vat": f"{Decimal(row['cost_excl_micros']).scaleb(-6):.6f}",
         "cost_incl_vat": f"{Decimal(row['cost_incl_micros']).scaleb(-6):.6f}",
         "total_excl_vat": f"{Decimal(row['cost_excl_micros']).scaleb(-6):.2f}"}
        for session_id, row in sessions_of(store)
    ]  # fmt: skip
    if "sessions" in expect:
        for wanted, one in zip(expect["sessions"], found, strict=True):
            assert not session_faults(wanted, one)
            assert one["total_excl_vat"] == wanted.get("total_excl_vat", one["total_excl_vat"])
    if "energy" in expect:
        own, outside, rejected = (
            sum(window[f"{name}_mwh_sum"] for window in store.windows.values()) / 1_000
            for name in ("in_session", "outside", "rejected")
        )
        assert {
            "rise_wh": own + outside + rejected, "in_sessions_wh": own, "outside_wh": outside, "rejected_wh": rejected,
        } == expect["energy"]  # fmt: skip
    if "sum_of_sessions_wh" in expect:
        assert sum(one["energy_wh"] for one in found) == expect["sum_of_sessions_wh"]
    if "billed_wh_max" in expect:
        billed_wh = sum(one["energy_wh"] for one in found if one["state"] == "completed")
        assert billed_wh <= expect["billed_wh_max"]
    if "live" in expect:
        power_mw = getattr(state, f"live_{_COLUMNS['power_w']}")[0]
        assert STATUS_LABELS[Status(int(state.live_status[0]))] == expect["live"]["status"]
        assert power_mw == expect["live"]["power_w"] * 1_000
    if "quarantined" in expect:
        assert store.counts["quarantined"] == expect["quarantined"]


@pytest.mark.parametrize("name", OF_THE_STEP)
@pytest.mark.parametrize("steps", ["one", "each post", "each reading"])
def test_a_case_has_the_outcome_that_is_right(name: str, steps: str) -> None:
    arrived, posts = arrivals(CASES[name])
    cuts = {"one": [], "each post": posts, "each reading": list(range(len(arrived) + 1))}[steps]
    reload = frozenset(range(len(cuts)) if steps == "each reading" else ())
    assert_as_expected(CASES[name], *played(CASES[name], arrived, cuts, reload))


# Parts of a moment without seq stand in order of arrival, and the live view is of what came: all else is of the set.
SETS = sorted(
    name
    for name in OF_THE_STEP
    for case in [CASES[name]]
    if len({(r["ts"], r.get("seq"), r["connector_id"]) for post in case["posts"] for r in post})
    == sum(map(len, case["posts"]))
    and "live" not in case["expect"]
)


@given(st.data())
def test_a_case_has_it_in_whatever_order_its_readings_arrive(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(SETS))
    arrived, _ = arrivals(CASES[name])
    order = data.draw(st.permutations(arrived))
    cuts = data.draw(st.lists(st.integers(0, len(arrived)), max_size=6))
    reload = data.draw(st.frozensets(st.integers(0, 6)))
    assert_as_expected(CASES[name], *played(CASES[name], order, cuts, reload))
