"""What TimescaleDB's jobs do at their time, done at once; nothing on a server without it."""

import psycopg
import pytest

from streams.storage.tables import COARSE
from streams.storage.windows.relations import Layout, aggregate_of


def layout_of(url: str) -> Layout:
    """How the database stores readings and windows."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT layout FROM telemetry.storage").fetchone()
    assert row is not None
    layout: Layout = row[0]
    return layout


def only_in(layout: Layout, url: str) -> None:
    """Skip a test that is about what one layout has, where the server makes another one."""
    if (found := layout_of(url)) != layout:
        pytest.skip(f"about the layout {layout}; this server makes it {found}")


def refresh(url: str) -> None:
    """Bring the continuous aggregates up to date."""
    if layout_of(url) == "community":
        with psycopg.connect(url, autocommit=True) as connection:
            for name in COARSE:
                connection.execute(f"CALL refresh_continuous_aggregate('{aggregate_of(name)}', NULL, NULL)".encode())


def compress(url: str) -> None:
    """Compress all readings and windows of a minute."""
    if layout_of(url) == "community":
        with psycopg.connect(url, autocommit=True) as connection:
            for table in ("reading", "window_1m"):
                query = (
                    f"SELECT compress_chunk(c, if_not_compressed => true) FROM show_chunks('telemetry.{table}') AS c"
                )
                connection.execute(query.encode())
