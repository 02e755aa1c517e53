"""Usage as people write it: read exactly, refused with the place and how to fix it."""

import json
from typing import Any

import pytest

from billing.rating.errors import BadDocument
from billing.rating.json_io import format_plain, read_document
from billing.rating.periods import WrittenUsage, usages_of
from billing.rating.usage import EnergyStretch, TimeStretch, UsageInterval
from schemas.session import UsageKind
from schemas.tariff import Reservation, Tariff
from tests.billing.rating.making import KWH, MINUTE_MS, utc_ms

CHARGING = {"kind": "CHARGING", "minutes": 60, "energy_kwh": "20", "current_a": None, "power_w": None}
PLAIN: dict[str, Any] = {"start": "2026-06-01T09:00:00Z", "time_zone": "Europe/Amsterdam", "periods": [CHARGING]}
START = utc_ms("2026-06-01T09:00")


def read(**changes: Any) -> WrittenUsage:
    return read_document(WrittenUsage, json.dumps(PLAIN | changes))


def refusal(text: str, model: type[Tariff] | type[WrittenUsage] = WrittenUsage) -> str:
    with pytest.raises(BadDocument) as refused:
        read_document(model, text)
    return str(refused.value)


def periods(*changes: dict[str, Any]) -> str:
    return json.dumps(PLAIN | {"periods": [CHARGING | change for change in changes]})


def test_a_period_is_a_stretch_of_time_and_one_of_energy() -> None:
    reservation, charging = usages_of(read())
    assert reservation is None
    assert charging is not None
    end_ms, power_mw = START + 60 * MINUTE_MS, 20 * KWH
    assert charging.intervals == (
        UsageInterval(
            TimeStretch(START, end_ms, UsageKind.CHARGING, power_mw, 0),
            EnergyStretch(START, end_ms, 20 * KWH, power_mw, 0),
        ),
    )
    assert (charging.start_ms, charging.power_mw, charging.current_ma) == (START, power_mw, 0)


@pytest.mark.parametrize(
    ("written", "minutes_ms", "energy_mwh"),
    [
        ('{"kind": "CHARGING", "minutes": 118.38, "energy_kwh": 0.1}', 7_102_800, 100_000),
        ('{"kind": "CHARGING", "minutes": "0.05", "energy_kwh": "20.450001"}', 3_000, 20_450_001),
        ('{"kind": "PARKING", "minutes": 1, "energy_kwh": 1e-6}', 60_000, 1),
        ('{"kind": "PARKING", "minutes": 0, "energy_kwh": 2}', 0, 2_000_000),
    ],
)
def test_numbers_are_read_exactly(written: str, minutes_ms: int, energy_mwh: int) -> None:
    text = json.dumps(PLAIN).replace(json.dumps(CHARGING), written)
    period = read_document(WrittenUsage, text).periods[0]
    assert (period.length_ms, period.energy_mwh) == (minutes_ms, energy_mwh)


def test_a_power_that_is_not_said_is_the_average_rounded_down() -> None:
    thirds = CHARGING | {"minutes": 180, "energy_kwh": 1}
    said = CHARGING | {"power_w": 0, "current_a": "6.5"}
    none = {"kind": "PARKING", "minutes": 5}
    found = [(period.power_mw, period.current_ma) for period in read(periods=[thirds, said, none]).periods]
    assert found == [(333_333, 0), (0, 6_500), (0, 0)]


@pytest.mark.parametrize(
    ("start", "time_zone", "expected"),
    [
        ("2026-06-01T11:00", "Europe/Amsterdam", START),
        ("2026-06-01T11:00:00.000", "Europe/Amsterdam", START),
        ("2026-06-01 05:00:00-04:00", "Europe/Amsterdam", START),
        ("2026-06-01t09:00:00z", "America/New_York", START),
        ("2026-06-01T09:00:00.123456789Z", "UTC", START + 123),
        ("2026-10-25T02:30:00+01:00", "Europe/Amsterdam", utc_ms("2026-10-25T01:30")),
        ("2026-10-25T02:30:00+02:00", "Europe/Amsterdam", utc_ms("2026-10-25T00:30")),
    ],
)
def test_a_start_without_an_offset_is_local_time(start: str, time_zone: str, expected: int) -> None:
    assert read(start=start, time_zone=time_zone).starts_ms[0] == expected


def test_a_reservation_is_a_usage_of_its_own_and_charging_begins_where_it_ends() -> None:
    booked = {"kind": "RESERVATION", "minutes": 10}
    reservation, charging = usages_of(read(periods=[booked, booked, CHARGING]))
    assert reservation is not None
    assert charging is not None
    assert reservation.reservation is Reservation.RESERVATION
    assert (reservation.start_ms, reservation.end_ms) == (START, START + 20 * MINUTE_MS)
    assert (charging.start_ms, charging.end_ms) == (START + 20 * MINUTE_MS, START + 80 * MINUTE_MS)
    expired, nothing = usages_of(read(periods=[{"kind": "RESERVATION_EXPIRED", "minutes": 60}]))
    assert nothing is None
    assert expired is not None
    assert expired.reservation is Reservation.RESERVATION_EXPIRES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is nested too deeply"),
        ("[]", "must be an object"),
        ('{"start": 1, "start": 2}', "'start' is there twice in one object"),
        (json.dumps(PLAIN).replace("60", "NaN"), "NaN is no number"),
        (json.dumps(PLAIN | {"tz": "UTC"}), "tz: there is no such field"),
        (json.dumps(PLAIN | {"time_zones": "UTC"}), "time_zones: there is no such field; did you mean time_zone?"),
        (json.dumps(PLAIN | {"time_zone": "Europe/Amstelveen"}), "time_zone: there is no such time zone"),
        (json.dumps(PLAIN | {"time_zone": "../../etc/passwd"}), "time_zone: there is no such time zone"),
        (json.dumps(PLAIN | {"time_zone": "Europe"}), "time_zone: there is no such time zone"),
        (json.dumps(PLAIN | {"time_zone": ""}), "time_zone: there is no such time zone"),
        (json.dumps(PLAIN | {"start": "yesterday"}), "start: is no moment: write it like 2026-01-31T23:59:00+01:00"),
        (json.dumps(PLAIN | {"start": "2026-02-30T09:00"}), "start: is no moment"),
        (json.dumps(PLAIN | {"start": "0001-01-01T00:00"}), "start: is outside the years"),
        (json.dumps(PLAIN | {"start": "2026-03-29T02:30"}), "skips it or shows it twice: write it with its offset"),
        (json.dumps(PLAIN | {"start": "2026-10-25T02:30"}), "skips it or shows it twice: write it with its offset"),
        (json.dumps(PLAIN | {"periods": []}), "periods: "),
        (periods({}, {"minutes": -1}), "periods[1].minutes: "),
        (periods({"minutes": "soon"}), 'periods[0].minutes: is no decimal number like "1.25"'),
        (periods({"minutes": "1e3"}), "periods[0].minutes: is no decimal number"),
        (periods({"minutes": True}), "periods[0].minutes: "),
        (periods({"minutes": None}), "periods[0].minutes: "),
        (periods({"minutes": "0.00001"}), "periods[0].minutes: is finer than a millisecond"),
        (periods({"minutes": 527_041}), "periods[0].minutes: "),
        (periods({"minutes": 300_000}, {"minutes": 300_000}), "longer than 527040 minutes"),
        (periods({"energy_kwh": "0.0000001"}), "periods[0].energy_kwh: is finer than a mWh"),
        (periods({"current_a": "0.0001"}), "periods[0].current_a: is finer than a mA"),
        (periods({"power_w": "0.0001"}), "periods[0].power_w: is finer than a mW"),
        (periods({"power_w": -1}), "periods[0].power_w: "),
        (periods({"kind": "IDLE"}), "periods[0].kind: "),
        (periods({"energy_kw": 1}), "periods[0].energy_kw: there is no such field; did you mean energy_kwh?"),
        (periods({"kind": "RESERVATION"}), "periods[0]: a reservation has only minutes"),
        (json.dumps(PLAIN | {"periods": [{"kind": "CHARGING"}]}), "periods[0].minutes: is missing"),
        (json.dumps(PLAIN | {"periods": [CHARGING, {"kind": "RESERVATION", "minutes": 1}]}), "put its periods first"),
        (
            json.dumps(PLAIN | {"periods": [{"kind": "RESERVATION_EXPIRED", "minutes": 1}, CHARGING]}),
            "write RESERVATION if it was used",
        ),
        (
            json.dumps(PLAIN | {"periods": [{"kind": f"RESERVATION{end}", "minutes": 1} for end in ("", "_EXPIRED")]}),
            "write all its periods of one kind",
        ),
    ],
)
def test_a_wrong_usage_is_refused_with_the_place_and_the_mend(text: str, message: str) -> None:
    said = refusal(text)
    assert message in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"currency": "eur"}, "currency: "),
        ({"elements": []}, "elements: "),
        ({"price": 1}, "price: there is no such field"),
        ({"min_price": {"excl_vat": 2, "incl_vat": 1}}, "min_price: incl_vat is below excl_vat"),
        (
            {"elements": [{"price_components": [{"type": "ENERGY", "price": "0.1234567", "step_size": 1}]}]},
            "elements[0].price_components[0].price: at most 6 digits after the point",
        ),
        (
            {"elements": [{"price_components": [], "restriction": {}}]},
            "elements[0].restriction: there is no such field; did you mean restrictions?",
        ),
    ],
)
def test_a_wrong_tariff_is_refused_with_the_place(change: dict[str, Any], message: str) -> None:
    element = {"price_components": [{"type": "ENERGY", "price": 0.25, "step_size": 1}]}
    said = refusal(json.dumps({"currency": "EUR", "elements": [element]} | change), Tariff)
    assert message in said
    assert "\n" not in said


def test_bytes_that_are_no_text_are_not_json() -> None:
    with pytest.raises(BadDocument, match="is not JSON"):
        read_document(Tariff, b"\xff\xfe\x00")


@pytest.mark.parametrize(
    ("value", "digits", "text"), [(250_000, 6, "0.25"), (10_000_000, 6, "10"), (0, 6, "0"), (100, 0, "100")]
)
def test_plain_numbers_have_no_zeros_at_the_end(value: int, digits: int, text: str) -> None:
    assert format_plain(value, digits) == text
