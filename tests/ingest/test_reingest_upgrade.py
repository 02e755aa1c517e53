"""A database with readings and a quarantine from before there were replays: its ledger closes, then and after one."""

import shutil
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from api.pricing.declaration import SERVICE as PRICING
from api.stations.declaration import SERVICE as STATIONS
from api.telemetry.declaration import SERVICE as TELEMETRY
from api.telemetry.ledger import ledger_of
from api.telemetry.models import LedgerEntry
from ingest.reingest.declaration import SERVICE as REINGEST
from kit.clock import from_ms
from kit.database.migrations import Migrations, migrate
from streams.declaration import SERVICE as WORKER
from tests.api.rows import COARSER_WINDOWS_SQL
from tests.ingest.reingest_app import ALL, Stream, drain, reingesting
from tests.ingest.wire_strategies import NOW_MS, as_json
from tests.serving import make_schemas
from voltstream.runtime.database import sources_of

_SERVICES: list[Any] = [STATIONS, PRICING, WORKER, TELEMETRY, REINGEST]
_ITEM = {"station_id": "CP1", "connector_id": 1, "ts": NOW_MS, "boot": 1}


def _migrated_up_to(url: str, folder: Path, last: str) -> None:
    """All of the other sources, and of telemetry what there was then."""
    sources = []
    for source in sources_of([STATIONS, PRICING, WORKER]):
        if source.name != WORKER.owned_schema:
            sources.append(source)
            continue
        older = folder / "telemetry"
        older.mkdir()
        for path in source.folder.glob("*.sql"):
            if path.name[:4] <= last:
                shutil.copy(path, older)
        sources.append(Migrations(source.name, older, source.schema))
    migrate(url, sources)


def _ledger(url: str, counters: dict[str, bytes] | None = None) -> LedgerEntry:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        entries = connection.execute("SELECT * FROM telemetry.ledger").fetchall()
        sources = connection.execute("SELECT * FROM telemetry.ledger_source").fetchall()
    return ledger_of(entries, sources, counters or {}).total


@pytest.mark.parametrize("last", ["0012", "0013", "0014"])
async def test_a_ledger_from_before_replays_closes_after_the_upgrade_and_after_a_replay(
    database_url: str, tmp_path: Path, last: str
) -> None:
    """Of four items, 1 was released by then; the others are replayed after the upgrade."""
    _migrated_up_to(database_url, tmp_path, last)
    marked = "released_at" if last < "0013" else "replayed_at"
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO telemetry.ledger (partition, stored, quarantined, in_windows) VALUES (0, 7, 4, 7)"
        )
        connection.execute("INSERT INTO telemetry.ledger_source VALUES (0, 'a', 11, 11)")
        for number in range(1, 5):
            connection.execute(
                f"INSERT INTO telemetry.quarantine (partition, received_at, station_id, reason, detail, raw, {marked}) "
                "VALUES (0, %s, 'CP1', 'unclaimed', '', %s, %s)",
                (from_ms(NOW_MS), as_json(_ITEM | {"seq": number}), from_ms(NOW_MS) if number == 1 else None),
            )
    make_schemas(database_url, _SERVICES, prepared=COARSER_WINDOWS_SQL)
    ledger = _ledger(database_url)
    assert (ledger.closed, ledger.accepted, ledger.quarantined, ledger.replayed) == (True, 11, 4, 1)
    async with reingesting(database_url, stream := Stream()) as reingest:
        answers = await drain(reingest, **ALL)
    assert [one.replayed for one in answers] == [3]
    with psycopg.connect(database_url) as connection:  # as the worker has it
        connection.execute("UPDATE telemetry.ledger SET stored = stored + 3, in_windows = in_windows + 3")
        connection.execute("INSERT INTO telemetry.ledger_source VALUES (0, 'b', %s, 3)", (stream.accepted,))
    ledger = _ledger(database_url)
    assert (ledger.closed, ledger.accepted, ledger.quarantined, ledger.replayed) == (True, 14, 4, 4)
