"""Products and quotients of columns that leave an int64, and the price of a session without a tariff."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.tariffs import tariff_versions
from streams.kernels.allocation import product_over
from streams.kernels.cost import half_up_over, price
from streams.kernels.tariff_table import NONE
from streams.kernels.tariff_usage import TariffUsage
from streams.tariffs.compiled import CompiledTariffs

AMOUNTS = st.integers(0, 2**52)


@given(st.lists(st.tuples(AMOUNTS, AMOUNTS, st.integers(1, 2**60)), min_size=1, max_size=20))
def test_quotients_of_products_are_exact_however_large(rows: list[tuple[int, int, int]]) -> None:
    rows = [(a, b, max(c, a * b >> 60)) for a, b, c in rows]  # the quotient fits
    a, b, c = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    assert product_over(a, b, c).tolist() == [x * y // z for x, y, z in rows]
    assert half_up_over(a, b, c).tolist() == [(2 * x * y + z) // (2 * z) for x, y, z in rows]


def test_the_usage_of_a_session_without_a_tariff_costs_nothing() -> None:
    tariffs = CompiledTariffs()
    tariffs.add(tariff_versions(1, seconds=60, power_w=11_000)[0])
    moments = np.zeros(2, np.int64)
    usage = TariffUsage.fresh(np.array([NONE, 0]), moments, 40)  # 40: an earlier session's tariff, long forgotten
    usage.volume[0] = usage.volume[1, 0] = 5_000_000
    costs = price(tariffs.table(usage.tariff, moments, moments), usage)
    assert costs.excl_vat_micros[0] == costs.incl_vat_micros[0] == costs.parts_micros[0].sum() == 0
    assert costs.excl_vat_micros[1] > 0
