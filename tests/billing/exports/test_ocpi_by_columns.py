"""Laws of CDRs that are put together by the column: they say what the definition says, document by document."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.declaration import SERVICE
from billing.exports import ocpi_file
from billing.exports import store as exports_store
from billing.exports.models import LeftOutDocument
from billing.exports.ocpi import Party
from billing.exports.periods import hours
from billing.exports.service import ExportFormat, ExportService
from billing.exports.store import ExportFilter
from billing.exports.totals import DocumentTotals, Totals
from kit import columnar_json
from kit.clock import format_rfc3339, to_ms
from kit.database.postgres import open_database
from tests.billing.exports import cdr_oracle
from tests.billing.exports.cdr_oracle import expected, unordered
from tests.billing.exports.conftest import EXPORT, Office, fill
from tests.billing.exports.ocpi_model import read_checked
from tests.billing.exports.registry import Station, register
from tests.billing.exports.strategies import ODD, Document, documents, registries, store
from tests.billing.making import reservation, session
from tests.billing.running import RunningBilling

PARTY = Party("DE", "MUL")
_int64s = st.integers(-(2**63), 2**63 - 1) | st.integers(-(10**7), 10**7)


def _check_totals(stored: list[Document], totals: Totals, left_out: set[str]) -> None:
    """Those of the file and of what is left out are sums of the documents."""
    outside = totals.left_out or DocumentTotals(0, {})
    for of_part, inside in ((totals, True), (outside, False)):
        invoices = [one.invoice for one in stored if (one.invoice["number"] not in left_out) == inside]
        assert of_part.documents == len(invoices)
        assert set(of_part.currencies) == {one["currency"] for one in invoices}
        for currency, sums in of_part.currencies.items():
            micros = sum(one["total_incl_micros"] for one in invoices if one["currency"] == currency)
            assert Decimal(sums.total_incl_vat) == micros * cdr_oracle.MILLIONTH


async def exported(url: str) -> tuple[bytes, Totals, list[LeftOutDocument]]:
    database = await open_database(url, name="export", role=SERVICE.role, connections_max=1)
    try:
        async with ExportService(database, PARTY).export(ExportFilter(), ExportFormat.OCPI) as export:
            left_out = await export.left_out(1_000)
            return b"".join([chunk async for chunk in export.chunks]), export.totals, left_out
    finally:
        await database.close()


def test_any_documents_are_the_cdrs_that_the_definition_gives(
    billing_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(documents(), registries(), st.sampled_from([1, 3, 8_192]), st.sampled_from([1, 4_000, 262_144]))
    def check(stored: list[Document], registry: dict[str, Station], batch_documents: int, part_bytes: int) -> None:
        monkeypatch.setattr(exports_store, "BATCH_DOCUMENTS", batch_documents)
        monkeypatch.setattr(ocpi_file, "PART_BYTES", part_bytes)
        store(billing_url, stored)
        register(billing_url, registry)
        body, totals, left_out = asyncio.run(exported(billing_url))
        cdrs, wanted = read_checked(body), expected(billing_url, PARTY)
        assert unordered(cdrs) == unordered(wanted.cdrs)
        assert {one.number: list(one.missing) for one in left_out} == wanted.left_out
        assert len(cdrs) + len(left_out) == len(stored)
        _check_totals(stored, totals, {one.number for one in left_out})

    check()


async def test_what_is_served_is_what_the_definition_gives(office: Office) -> None:
    await fill(office.billing, 40)
    await office.billing.deliver(reservation("R-1"), reservation("R-2", minutes=90), session(energy_mwh=0, time_ms=0))
    body = (await office.ask(EXPORT, format="ocpi")).content
    wanted = expected(office.billing.url, PARTY)
    assert (read_checked(body), {}) == (wanted.cdrs, wanted.left_out)
    assert body.count(b"\n") == len(office.billing.documents()) + 2  # by which progress is counted


async def test_the_lines_of_components_are_what_was_consumed_in_its_order(billing: RunningBilling) -> None:
    """So the export need not read volumes twice."""
    await fill(billing)
    await billing.deliver(reservation("R-1"))
    rows = billing.rows(cdr_oracle.DOCUMENTS)
    for row in rows:
        sign = -1 if row["kind"] == "credit_note" else 1
        lines = [line for line in row["lines"] if line["element"] is not None]
        assert [line["line"] for line in lines] == list(range(1, len(lines) + 1))
        assert [(line["element"], line["dimension"], sign * line["volume"]) for line in lines] == [
            (used["element"], used["dimension"], used["volume"]) for used in row["consumption"]
        ]
    assert {row["kind"] for row in rows} == {"invoice", "credit_note"}


async def test_lines_of_nothing_consumed_are_refused_and_told(billing: RunningBilling) -> None:
    await billing.deliver(session())
    billing.rows("UPDATE billing.cdr SET consumption = '[]' RETURNING 1")
    (document,) = billing.documents()
    with pytest.raises(ValueError, match=document["number"]):
        await exported(billing.url)


@given(st.lists(_int64s))
def test_decimals_are_exact(micros: list[int]) -> None:
    texts = columnar_json.json_decimals(np.array(micros, np.int64)).to_pylist()
    assert [Decimal(text) for text in texts] == [micro * cdr_oracle.MILLIONTH for micro in micros]
    assert all(len(text.rpartition(".")[2]) == 6 for text in texts)


@given(st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 10**6)))
def test_hours_are_rounded_half_up_whatever_there_is_of_them(durations_ms: list[int]) -> None:
    millionths = hours(np.array(durations_ms, np.int64)).tolist()
    assert [micros * cdr_oracle.MILLIONTH for micros in millionths] == [cdr_oracle.hours(ms) for ms in durations_ms]


@given(st.lists(st.datetimes(datetime(1000, 1, 1), timezones=st.just(UTC))))  # noqa: DTZ001  # they are given one
def test_moments_are_as_everywhere(moments: list[datetime]) -> None:
    written = columnar_json.concatenate(
        columnar_json.json_timestamps(np.array([to_ms(one) for one in moments], np.int64))
    )
    assert written.to_pylist() == [f'"{format_rfc3339(one)}"' for one in moments]


@given(st.lists(st.none() | st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"]))))
def test_strings_are_read_as_they_were(texts: Sequence[str | None]) -> None:
    written = columnar_json.concatenate(columnar_json.json_strings(pa.array(texts, pa.string()))).to_pylist()
    assert [None if text is None else json.loads(text) for text in written] == list(texts)
