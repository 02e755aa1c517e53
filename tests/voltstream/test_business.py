"""The services put together."""

from pathlib import Path

import psycopg
from prometheus_client import CollectorRegistry

from billing.invoicing.metrics import InvoicingMetrics
from kit.clock import SystemClock
from kit.database.postgres import open_database
from kit.messaging.bus import DIRECT, Handler
from kit.settings import load_settings
from schemas.topics import group_queue, routing_key
from voltstream.runtime.business import Business
from voltstream.runtime.database import bring_up_to_date
from voltstream.runtime.relays import HEARD, OUTBOXES
from voltstream.runtime.web import Web


class _Ears:
    """A bus that notes who wants to hear what."""

    def __init__(self) -> None:
        self.heard: set[tuple[str, str, str]] = set()

    async def subscribe(self, queue: str, exchange: str, routing_key: str, _: Handler, *, prefetch: int = 1) -> None:
        self.heard.add((queue, exchange, routing_key))


async def test_the_relay_makes_the_queue_of_everybody_who_hears(database_url: str, tmp_path: Path) -> None:
    bring_up_to_date(database_url, 4)
    database = await open_database(database_url, name="test")
    ears, web = _Ears(), Web("test", SystemClock())
    try:
        business = Business(database, database, database, InvoicingMetrics(CollectorRegistry()))
        await business.hear(load_settings(data_dir=tmp_path), ears, web)  # type: ignore[arg-type]  # all of a bus it needs
    finally:
        await database.close()
    assert ears.heard == {(group_queue(group, event), DIRECT, routing_key(event)) for group, event in HEARD}


def test_the_outbox_of_every_schema_that_has_one_is_relayed(database_url: str) -> None:
    bring_up_to_date(database_url, 4)
    with psycopg.connect(database_url) as connection:
        found = connection.execute("SELECT table_schema FROM information_schema.tables WHERE table_name = 'outbox'")
        schemas = {schema for (schema,) in found}
    assert schemas == {*OUTBOXES, "events"}  # dead letters have a relay of their own
