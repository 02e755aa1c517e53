"""What devices that say little cost, by the stream and by rating: figures by hand, whatever the flushes."""

from typing import Any

import pytest

from schemas.reading import SessionEvent, Status
from schemas.tariff import Tariff
from streams.effects import StepParams
from tests.streams.memory_store import MemoryStore
from tests.streams.reference import Reading
from tests.streams.test_money_laws import check, version_of
from tests.streams.test_step_laws import blank_readings, frames_of, run

START_MS = 1_795_161_600_000
MINUTE_MS = 60_000
KWH = 1_000_000


def component(dimension: str, price: str) -> dict[str, Any]:
    return {"type": dimension, "price": price, "step_size": 1}


def element(*components: dict[str, Any], **restrictions: str) -> dict[str, Any]:
    return {"price_components": list(components), "restrictions": restrictions}


def session(*given: tuple[int, dict[str, Any]]) -> list[Reading]:
    """Readings of one session at these minutes, the last of which ends it. Registers in kWh."""
    fields = [
        {
            "session_id": "tx",
            "seq": number,
            "ts_ms": START_MS + minute * MINUTE_MS,
            "received_ms": START_MS + minute * MINUTE_MS + 1_000,
            "session_event": SessionEvent.ENDED if number == len(given) - 1 else SessionEvent.NONE,
            "energy_mwh": None if "kwh" not in said else said["kwh"] * KWH,
            **{name: value for name, value in said.items() if name != "kwh"},
        }
        for number, (minute, said) in enumerate(given)
    ]
    fields[0]["session_event"] = SessionEvent.STARTED
    return blank_readings(fields)


TWENTY_KW = session((0, {"kwh": 1}), (30, {"kwh": 11}), (60, {"kwh": 21}))
BY_BAND = (component("ENERGY", "0.5"), component("TIME", "3"), component("FLAT", "1"))
OTHER_BAND = (component("ENERGY", "0.2"), component("TIME", "1"), component("FLAT", "7"))
EUR = 1_000_000  # micro-units
IN_BAND = 20 * EUR // 2 + 3 * EUR + EUR
CHARGED, PARKED = component("TIME", "2"), component("PARKING_TIME", "3")
CASES: dict[str, tuple[list[Reading], list[dict[str, Any]], int]] = {
    "below a band": (TWENTY_KW, [element(*OTHER_BAND, max_power="7"), element(*BY_BAND)], IN_BAND),
    "at a band's begin": (TWENTY_KW, [element(*BY_BAND, min_power="20"), element(*OTHER_BAND)], IN_BAND),
    "at a band's end": (TWENTY_KW, [element(*OTHER_BAND, max_power="20"), element(*BY_BAND)], IN_BAND),
    "above a band of current": (TWENTY_KW, [element(*OTHER_BAND, max_current="32"), element(*BY_BAND)], IN_BAND),
    "in a band of current": (TWENTY_KW, [element(*BY_BAND, min_current="86"), element(*OTHER_BAND)], IN_BAND),
    "started without a register": (
        session((0, {}), (0, {"kwh": 1}), (30, {"kwh": 11}), (60, {"kwh": 21})),
        [element(*OTHER_BAND, max_power="7"), element(*BY_BAND)],
        IN_BAND,
    ),
    "a reading of something else between": (
        session((0, {"kwh": 1}), (15, {"temperature_mc": 30_000}), (30, {"kwh": 11}), (60, {"kwh": 21})),
        [element(*OTHER_BAND, max_power="7"), element(*BY_BAND)],
        IN_BAND,
    ),
    "idling": (
        session((0, {"kwh": 1}), (30, {"kwh": 6}), (60, {"kwh": 11}), (90, {"kwh": 11}), (120, {"kwh": 11})),
        [element(CHARGED, PARKED)],
        5 * EUR,
    ),
    "idling, and an end without a register": (
        session((0, {"kwh": 1}), (60, {"kwh": 11}), (90, {"kwh": 11}), (120, {})),
        [element(CHARGED, PARKED)],
        5 * EUR,
    ),
    "idling with a status that says otherwise": (
        session((0, {"kwh": 1, "status": Status.CHARGING}), (60, {"kwh": 11}), (120, {"kwh": 11})),
        [element(CHARGED, PARKED)],
        4 * EUR,
    ),
    "the station holds back": (
        session(
            (0, {"kwh": 1, "power_mw": 11 * KWH, "status": Status.CHARGING}),
            (30, {"kwh": 6, "power_mw": 0, "status": Status.SUSPENDED_EVSE}),
            (90, {"kwh": 6, "power_mw": 11 * KWH, "status": Status.CHARGING}),
            (120, {"kwh": 12, "power_mw": 0, "status": Status.AVAILABLE}),
        ),
        [element(component("ENERGY", "0.4"), PARKED, CHARGED)],
        11 * 4 * EUR // 10 + 2 * EUR,
    ),
    "prepared for half an hour, and the vehicle has enough for another": (
        session(
            (0, {"kwh": 1, "status": Status.PREPARING}),
            (30, {"kwh": 1, "status": Status.CHARGING}),
            (60, {"kwh": 6, "status": Status.SUSPENDED_EV}),
            (90, {"kwh": 6, "status": Status.AVAILABLE}),
        ),
        [element(CHARGED, PARKED)],
        5 * EUR // 2,
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("flushes", ["one", "each reading"])
def test_a_session_of_few_words_costs_what_it_costs_by_hand(name: str, flushes: str) -> None:
    arrived, elements, total = CASES[name]
    store = MemoryStore()
    tariff = Tariff.model_validate({"currency": "EUR", "elements": elements})
    store.tariffs["A"] = [(0, version_of(1, "UTC", tariff))]
    cuts = [] if flushes == "one" else list(range(len(arrived)))
    run(frames_of(arrived, cuts), cuts, reload=frozenset(cuts), store=store, params=StepParams())
    assert check(store) == 1
    (row,) = store.sessions.values()
    assert row["cost_excl_micros"] == total
