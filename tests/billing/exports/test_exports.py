"""Laws of exports: every document once, to the last digit, in every format, whatever is in its texts."""

import asyncio
import csv
import io
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from billing.exports import service as exports
from billing.exports.ocpi import Party
from billing.exports.service import Export, ExportFormat, ExportService
from billing.exports.store import ExportFilter, snapshot
from kit.errors import Overloaded
from tests.billing.exports.conftest import EXPORT, Office, add_many, fill
from tests.billing.running import RunningBilling
from tests.waiting import eventually

FORMATS = list(ExportFormat)
MANY = 20_000
Row = Mapping[str, Any]


def read(format_: ExportFormat, body: bytes) -> list[Row]:
    """A file's rows, amounts as Decimal."""
    if format_ is ExportFormat.CSV:
        return list(csv.DictReader(io.StringIO(body.decode(), newline="")))
    if format_ is ExportFormat.JSONL:
        return [json.loads(line) for line in body.decode().split("\n")[:-1]]
    if format_ is ExportFormat.PARQUET:
        rows: list[Row] = parquet.read_table(pa.BufferReader(body)).to_pylist()
        return rows
    return [
        {
            "number": cdr["invoice_reference_id"],
            "total_excl_vat": cdr["total_cost"]["excl_vat"],
            "total_incl_vat": cdr["total_cost"]["incl_vat"],
        }
        for cdr in json.loads(body, parse_float=Decimal, parse_int=Decimal)
    ]


def sums(rows: list[Row]) -> tuple[Decimal, Decimal]:
    return (
        sum((Decimal(row["total_excl_vat"]) for row in rows), Decimal()),
        sum((Decimal(row["total_incl_vat"]) for row in rows), Decimal()),
    )


async def whole(export: Export) -> bytes:
    return b"".join([chunk async for chunk in export.chunks])


@pytest.mark.parametrize("format_", FORMATS)
async def test_an_export_holds_every_document_once_in_order_and_sums_to_the_invoices(
    office: Office, format_: ExportFormat
) -> None:
    await fill(office.billing)
    answer = await office.ask(EXPORT, format=format_)
    rows = read(format_, answer.content)
    documents = office.billing.documents()
    assert [row["number"] for row in rows] == [document["number"] for document in documents]
    micros = [sum(document[f"total_{kind}_micros"] for document in documents) for kind in ("excl", "incl")]
    assert sums(rows) == tuple(Decimal(total) / 1_000_000 for total in micros)
    totals = json.loads(answer.headers["Voltstream-Totals"])
    assert totals["documents"] == len(documents)
    euros = totals["currencies"]["EUR"]
    assert (Decimal(euros["total_excl_vat"]), Decimal(euros["total_incl_vat"])) == sums(rows)
    assert Decimal(euros["payable"]) * 100 == sum(document["payable_minor"] for document in documents)
    assert euros["credit_notes"] == sum(document["kind"] == "credit_note" for document in documents) > 0


@pytest.mark.parametrize("format_", FORMATS)
async def test_an_export_of_nothing_is_a_whole_file(office: Office, format_: ExportFormat) -> None:
    answer = await office.ask(EXPORT, format=format_)
    assert read(format_, answer.content) == []
    assert json.loads(answer.headers["Voltstream-Totals"]) == {"documents": 0, "currencies": {}}


@pytest.mark.parametrize("format_", [ExportFormat.JSONL, ExportFormat.PARQUET])
async def test_texts_come_out_as_they_are(office: Office, format_: ExportFormat) -> None:
    await fill(office.billing)
    rows = read(format_, (await office.ask(EXPORT, format=format_)).content)
    for row, document in zip(rows, office.billing.documents(), strict=True):
        for name in ("driver_id", "station_id", "reservation_id", "reason", "kind", "status", "currency", "version"):
            assert row[name] == document[name]
        for name in ("id", "cdr_id", "session_id", "credits", "replaces"):
            assert row[name] == (None if document[name] is None else str(document[name]))
        minor = 10 ** document["minor_digits"]
        assert Decimal(row["payable"]) * minor == document["payable_minor"]
        assert Decimal(row["total_vat"]) == Decimal(row["total_incl_vat"]) - Decimal(row["total_excl_vat"])


async def test_no_text_of_a_csv_is_a_formula(office: Office) -> None:
    await fill(office.billing)
    rows = read(ExportFormat.CSV, (await office.ask(EXPORT)).content)
    guarded = 0
    for row, document in zip(rows, office.billing.documents(), strict=True):
        for name in ("driver_id", "station_id", "reason"):
            text, exported = document[name] or "", row[name]
            assert exported.removeprefix("'") == text
            assert exported[:1] not in ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d")
            guarded += exported != text
    assert guarded >= 4


async def test_filters_keep_what_they_say(office: Office) -> None:
    await fill(office.billing)
    documents = office.billing.documents()
    middle = documents[len(documents) // 2]["issued_at"]

    async def numbers(**params: Any) -> list[str]:
        rows = read(ExportFormat.JSONL, (await office.ask(EXPORT, format="jsonl", **params)).content)
        return [row["number"] for row in rows]

    def expected(**wanted: Any) -> list[str]:
        return [row["number"] for row in documents if all(row[name] == value for name, value in wanted.items())]

    assert await numbers(station_id="nl-1") == expected(station_id="NL-1")
    assert await numbers(driver_id="ann") == expected(driver_id="ann")
    assert await numbers(driver_id="' OR true --") == []
    assert await numbers(kind="credit_note", status="settled") == expected(kind="credit_note", status="settled")
    early, late = await numbers(end=middle.isoformat()), await numbers(start=middle.isoformat())
    assert early + late == expected()
    assert late[0] == next(row["number"] for row in documents if row["issued_at"] == middle)
    await office.ask(EXPORT, 422, start=middle.isoformat(), end=middle.isoformat())
    await office.ask(EXPORT, 422, format="xls")


async def test_only_finance_and_operators_export(office: Office) -> None:
    for who, status in (("finance", 200), ("operator", 200), ("device", 403), ("ann", 403)):
        await office.ask(EXPORT, status, who)


@pytest.mark.parametrize("format_", FORMATS)
async def test_an_export_is_of_one_moment(billing: RunningBilling, format_: ExportFormat) -> None:
    await fill(billing, 4)
    async with ExportService(billing.database, Party("DE", "MUL")).export(ExportFilter(), format_) as export:
        await fill(billing, 3)
        rows = read(format_, await whole(export))
    assert len(rows) == export.totals.documents
    assert len(billing.documents()) > len(rows)


async def test_however_many_there_are_only_some_chunks_are_in_memory(
    billing: RunningBilling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that stands still holds the writer up after the queue's bound, and gets everything when it goes on."""
    add_many(billing, MANY)
    monkeypatch.setattr("billing.exports.parquet.GROUP_BYTES", 500_000)
    put_by_now: list[int] = []
    original = asyncio.Queue.put

    async def put(queue: "asyncio.Queue[Any]", item: Any) -> None:
        await original(queue, item)
        put_by_now.append(len(item or b""))

    monkeypatch.setattr(asyncio.Queue, "put", put)
    service = ExportService(billing.database, Party("DE", "MUL"))
    for format_ in FORMATS:
        put_by_now.clear()
        async with service.export(ExportFilter(), format_) as export:
            first = await anext(export.chunks)
            await eventually(lambda: len(put_by_now) > exports.CHUNKS_MAX)
            await asyncio.sleep(0.1)  # in which a writer without a bound would write everything
            assert len(put_by_now) == exports.CHUNKS_MAX + 1
            assert max(put_by_now) < 1_000_000
            rest = [chunk async for chunk in export.chunks]
        assert len(rest) > exports.CHUNKS_MAX
        rows = read(format_, b"".join([first, *rest]))
        assert len(rows) == MANY == export.totals.documents
        euros = export.totals.currencies["EUR"]
        assert sums(rows) == (Decimal(euros.total_excl_vat), Decimal(euros.total_incl_vat))


async def test_a_reader_that_goes_away_frees_everything(billing: RunningBilling) -> None:
    add_many(billing, MANY)
    service = ExportService(billing.database, Party("DE", "MUL"))
    for format_ in FORMATS:
        for _ in range(billing.database._pool.get_max_size() + 1):
            async with service.export(ExportFilter(), format_) as export:
                assert await anext(export.chunks)
    busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
    assert await billing.database.fetchval(busy) == 0


async def test_more_exports_than_may_be_at_once_are_told_to_wait(office: Office, billing: RunningBilling) -> None:
    service = ExportService(billing.database, Party("DE", "MUL"), wait_s=0)
    async with service.export(ExportFilter(), ExportFormat.CSV), service.export(ExportFilter(), ExportFormat.CSV):
        with pytest.raises(Overloaded):
            async with service.export(ExportFilter(), ExportFormat.CSV):
                pass
    async with service.export(ExportFilter(), ExportFormat.CSV) as export:
        assert await whole(export)


async def test_an_export_waits_for_one_that_is_just_ending(billing: RunningBilling) -> None:
    service = ExportService(billing.database, Party("DE", "MUL"), wait_s=600)

    async def another() -> bytes:
        async with service.export(ExportFilter(), ExportFormat.JSONL) as export:
            return await whole(export)

    async with service.export(ExportFilter(), ExportFormat.CSV):
        async with service.export(ExportFilter(), ExportFormat.CSV):
            waiting = [asyncio.create_task(another()) for _ in range(2)]
            await eventually(lambda: len(service._slots._waiters or ()) == 2)
        assert await asyncio.gather(*waiting) == [b"", b""]


async def test_a_snapshot_can_write_nothing(billing: RunningBilling) -> None:
    with pytest.raises(Exception, match="read-only"):
        async with snapshot(billing.database, ExportFilter()) as view:
            await view._connection.execute("DELETE FROM billing.invoice_line")
