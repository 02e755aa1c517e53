"""Which database this is."""

from kit.clock import format_rfc3339
from kit.database.postgres import connect_sync, outages
from streams.storage.schema import stored_partitions


def database_id_of(url: str) -> str:
    """What tells this database from every other, also from one of the same name that was dropped. Blocks.

    Raises ConfigError where it was not prepared.
    """
    with connect_sync(url, name="voltstream", autocommit=True) as connection, outages():
        stored_partitions(connection)
        row = connection.execute("SELECT prepared_at FROM telemetry.storage").fetchone()
    if row is None:
        raise AssertionError("stored_partitions found a row here")
    return format_rfc3339(row[0])
