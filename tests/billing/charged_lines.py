"""Lines of documents, as tariffs make them."""

from hypothesis import strategies as st

from billing.currency import to_minor
from billing.documents import DocumentLine
from billing.vat import PayableAmounts, payable_amounts

RATES = st.sampled_from([None, 0, 50_000, 100_000, 190_000, 210_000, 255_000])
DIGITS = {"EUR": 2, "JPY": 0, "KWD": 3}


def component(excl_micros: int, vat_ppm: int | None, dimension: str = "ENERGY") -> DocumentLine:
    vat_micros = (2 * excl_micros * (vat_ppm or 0) + 1_000_000) // 2_000_000
    return DocumentLine(dimension, 0, 1, 1, 1, vat_ppm, excl_micros, excl_micros + vat_micros)


def bound(dimension: str, excl_micros: int, incl_micros: int) -> DocumentLine:
    return DocumentLine(dimension, None, 1, 1, None, None, excl_micros, incl_micros)


def amounts_of(lines: list[DocumentLine], currency: str = "EUR") -> PayableAmounts:
    payable = to_minor(sum(line.incl_micros for line in lines), currency)
    return payable_amounts(lines, payable, DIGITS[currency])


@st.composite
def documents(draw: st.DrawFn) -> list[DocumentLine]:
    lines = draw(st.lists(st.builds(component, st.integers(0, 10**9), RATES), min_size=1, max_size=6))
    excl, incl = (sum(getattr(line, name) for line in lines) for name in ("excl_micros", "incl_micros"))
    kind = draw(st.sampled_from(["none", "MIN_PRICE", "MAX_PRICE"]))
    if kind == "MIN_PRICE":
        raised = draw(st.integers(1, 10**8))
        lines.append(bound(kind, raised, raised + draw(st.integers(0, raised // 4))))
    elif kind == "MAX_PRICE" and excl:
        lines.append(bound(kind, -draw(st.integers(0, excl)), -draw(st.integers(0, incl))))
    return lines
