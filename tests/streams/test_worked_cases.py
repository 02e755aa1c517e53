"""The worked cases of the OCPI specification, by the cost kernel."""

import json
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rating import Usage, rate_usage, reservation_usage
from billing.rating.json_io import read_document
from billing.rating.periods import WrittenUsage, usages_of
from schemas.session import UsageKind
from schemas.tariff import Reservation, Tariff
from streams.kernels.allocation import allocate
from streams.kernels.cost import Costs, price
from streams.kernels.runs import NULL
from streams.kernels.tariff_usage import TariffUsage
from streams.kernels.usage_intervals import UsageIntervals
from streams.tariffs.compiled import CompiledTariffs
from streams.tariffs.version import TariffVersion
from tests.billing.rating.making import utc_ms
from tests.billing.rating.strategies import MOMENTS, gaps_ms, reservation_tariffs, tariffs
from tests.billing.rating.test_worked_cases import CASES, assert_states, period, tariff_of, there

KINDS = {
    None: UsageKind.CHARGING,
    Reservation.RESERVATION: UsageKind.RESERVATION,
    Reservation.RESERVATION_EXPIRES: UsageKind.RESERVATION_EXPIRED,
}


def intervals_of(usage: Usage) -> UsageIntervals:
    """As readings would close them: the first, which closes none, and one at the end of each period."""
    known = (NULL if usage.power_mw is None else usage.power_mw, NULL if usage.current_ma is None else usage.current_ma)
    rows = [(NULL, usage.start_ms, int(KINDS[usage.reservation]), *known, NULL, 0, 0)]
    mwh = 0
    for interval in usage.intervals:
        assert interval.time is not None
        before_mwh, mwh = mwh, mwh + (interval.energy.energy_mwh if interval.energy else 0)
        time = interval.time
        anchor_ms = interval.energy.start_ms if interval.energy else NULL
        rows.append(
            (time.start_ms, time.end_ms, int(time.kind), time.power_mw, time.current_ma, anchor_ms, before_mwh, mwh)
        )
    return UsageIntervals(
        np.zeros(len(rows), np.int64), *(np.array(column, np.int64) for column in zip(*rows, strict=True))
    )


def cost_of(version: TariffVersion, usage: Usage) -> Costs:
    tariffs = CompiledTariffs()
    place = np.array([tariffs.add(version, KINDS[usage.reservation])])
    used = TariffUsage.fresh(place, np.array([usage.start_ms]), tariffs.width)
    table = tariffs.table(place, np.array([usage.start_ms]), np.array([usage.end_ms]))
    allocate(table, used, intervals_of(usage))
    return price(table, used)


@given(reservation_tariffs() | tariffs(), st.sampled_from(sorted(MOMENTS)), gaps_ms(), st.booleans(), st.data())
def test_a_reservation_costs_what_it_costs_by_the_independent_rating(
    tariff: Tariff, zone: str, length_ms: int, expired: bool, data: st.DataObject
) -> None:
    start_ms = utc_ms(data.draw(st.sampled_from(MOMENTS[zone]))) - data.draw(st.integers(0, 10_000_000))
    usage = reservation_usage(start_ms, start_ms + length_ms, expired=expired)
    _, rated = rate_usage(tariff, ZoneInfo(zone), usage)
    costs = cost_of(TariffVersion.of(1, UUID(int=1), zone, tariff.model_dump_json(exclude_none=True)), usage)
    assert int(costs.excl_vat_micros[0]) == rated.total_excl_micros
    assert int(costs.incl_vat_micros[0]) == rated.total_incl_micros


def test_a_used_reservation_has_the_maximum_price_and_no_minimum() -> None:
    element = {
        "price_components": [{"type": "TIME", "price": 2, "vat": 0, "step_size": 1}],
        "restrictions": {"reservation": "RESERVATION"},
    }
    totals = []
    for bounds in ({"max_price": {"excl_vat": 1}}, {"min_price": {"excl_vat": 5}}):
        tariff = Tariff.model_validate({"currency": "EUR", "elements": [element], **bounds})
        version = TariffVersion.of(1, UUID(int=1), "UTC", tariff.model_dump_json(exclude_none=True))
        for expired in (False, True):
            usage = reservation_usage(0, 3_600_000, expired=expired)
            _, rated = rate_usage(tariff, ZoneInfo("UTC"), usage)
            assert int(cost_of(version, usage).excl_vat_micros[0]) == rated.total_excl_micros
            totals.append(rated.total_excl_micros)
    assert totals == [1_000_000, 2_000_000, 2_000_000, 2_000_000]


@there
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
def test_a_worked_case_costs_what_the_specification_states(case: dict[str, Any]) -> None:
    zone = "Europe/Amsterdam"
    periods = [period(segment) for segment in case["segments"]]
    written = {"start": case["start_local"], "time_zone": zone, "periods": periods}
    usages = usages_of(read_document(WrittenUsage, json.dumps(written)))
    version = TariffVersion.of(1, UUID(int=1), zone, tariff_of(case).model_dump_json(exclude_none=True))
    costs = [cost_of(version, usage) for usage in usages if usage is not None]
    assert_states(sum(int(cost.excl_vat_micros[0]) for cost in costs), case["expected_excl_vat"])
    assert_states(sum(int(cost.incl_vat_micros[0]) for cost in costs), case["expected_incl_vat"])
