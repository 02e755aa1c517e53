"""A file of OCPI CDRs: while the store reads a batch of documents, the one before it is assembled and written."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from billing.exports.export_batches import DocumentBatch, keep_lines, parse_lines
from billing.exports.locations import location_json, locations_of, place_of, places
from billing.exports.ocpi import Party, Tariffs, cdrs
from billing.exports.ocpi_tariffs import ocpi_tariff
from billing.exports.store import Output, Snapshot
from kit.columnar_json import Pieces, Texts, encode_rows, json_of, merge_pieces

T = TypeVar("T")

TARIFFS_MAX: Final = 1_000  # kept while an export runs, ~2 kB each; and those of one more batch
PART_BYTES: Final = 262_144  # written at once, if all have the batch's longest tariff: fits a core's cache
PLACES_MAX: Final = 10_000  # kept while an export runs, ~600 B each; and those of one more batch
CDR_BYTES: Final = 1_024  # of one without its tariff, about


class _Tariff(NamedTuple):
    """A tariff as in CDRs, JSON."""

    id: str
    document: str


class _Batch(NamedTuple):
    """A batch with its tariffs."""

    documents: DocumentBatch
    lines: bytearray  # as read
    tariffs: Tariffs
    tariff_chars_max: int
    locations: Texts  # JSON, a dictionary's; null where the station lacks a fact


async def write_cdrs(source: Snapshot, party: Party, output: Output) -> None:
    """A JSON array of CDRs, in the order of the documents' numbers, each in a line of its own."""
    before = b"["
    async with aclosing(_ahead(_read(source, party))) as batches:
        async for batch in batches:
            pieces, rows = await asyncio.to_thread(_rows, batch, party)
            count = max(PART_BYTES // (CDR_BYTES + batch.tariff_chars_max), 1)
            for start in range(0, rows, count):
                part = encode_rows(pieces, start, count)
                await output(before + part[1:] if before else part)
                before = b""
    await output(b"[]\n" if before else b"\n]\n")


def _rows(batch: _Batch, party: Party) -> tuple[Pieces, int]:
    """The CDRs of the documents whose stations lack no fact, and their number."""
    documents, tariffs, locations = batch.documents, batch.tariffs, batch.locations
    lines = parse_lines(documents, batch.lines)
    whole = np.asarray(locations.dictionary.is_valid().take(locations.indices))
    if not whole.any():
        return (), 0
    if not whole.all():
        documents, lines, kept = documents.keep(whole), keep_lines(lines, whole), pa.array(whole)
        tariffs, locations = Tariffs(*(column.filter(kept) for column in tariffs)), locations.filter(kept)
    return merge_pieces((",\n", *cdrs(documents, lines, tariffs, locations, party))), documents.count


async def _read(source: Snapshot, party: Party) -> AsyncGenerator[_Batch, None]:
    known: dict[str, _Tariff] = {}
    registered: dict[str, str | None] = {}
    async with aclosing(source.batches()) as batches:
        async for batch in batches:
            documents = await asyncio.to_thread(DocumentBatch, batch.documents)
            versions = documents.texts("tariff_version").dictionary_encode()
            if len(known) > TARIFFS_MAX:
                known.clear()
            if new := [version for version in versions.dictionary.to_pylist() if version not in known]:
                known |= await asyncio.to_thread(_tariffs, await source.tariffs(new), party)
            tariffs = [known[version] for version in versions.dictionary.to_pylist()]
            longest = max((len(tariff.document) for tariff in tariffs), default=0)
            locations = await _locations(source, documents, registered)
            yield _Batch(documents, batch.lines, _of_documents(tariffs, versions.indices), longest, locations)


async def _locations(source: Snapshot, documents: DocumentBatch, registered: dict[str, str | None]) -> Texts:
    """Of each document; `registered` keeps those of earlier batches, None where a fact is missing."""
    keys = await asyncio.to_thread(places, documents)
    names = keys.dictionary.to_pylist()
    if len(registered) > PLACES_MAX:
        registered.clear()
    if new := [name for name in names if name not in registered]:
        asked = [place_of(name) for name in new]
        for name, place, facts in zip(new, asked, await source.places(asked), strict=True):
            registered[name] = None if facts["missing"] else location_json(place, facts)
    return locations_of([registered[name] for name in names], keys)


async def _ahead(items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """The same items; the next is fetched while one is processed."""
    following = asyncio.ensure_future(anext(items, None))
    try:
        while (item := await following) is not None:
            following = asyncio.ensure_future(anext(items, None))
            yield item
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await items.aclose()


def _of_documents(tariffs: list[_Tariff], places: Any) -> Tariffs:
    """`places`: of each document's tariff, null where it has none."""
    ids = pa.array([tariff.id for tariff in tariffs], pa.string())
    documents = pa.array([*(tariff.document for tariff in tariffs), ""])
    return Tariffs(ids.take(places), pa.DictionaryArray.from_arrays(places.fill_null(len(tariffs)), documents))


def _tariffs(rows: Iterable[Mapping[str, Any]], party: Party) -> dict[str, _Tariff]:
    """By version."""
    tariffs: dict[str, _Tariff] = {}
    for row in rows:
        published, version = json.loads(row["tariff"], parse_float=Decimal), str(row["version"])
        tariff = ocpi_tariff(published, version, row["heard_at"], party._asdict())
        tariffs[version] = _Tariff(json_of(tariff["id"]), json_of(tariff))
    return tariffs
