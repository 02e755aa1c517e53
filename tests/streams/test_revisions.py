"""What a repeated pass changes of old rows, where these are compressed."""

import psycopg

from streams.storage.store import Store
from streams.storage.tables import WEEK_MS
from tests.streams.lake_fleet import DAY_MS, START_MS, WEEK, feed, feed_fleet, fleet
from tests.streams.timescale import compress, only_in

# Of each week, the bytes that are not compressed.
_PLAIN = """
SELECT floor(extract(epoch FROM range_start) * 1000 / %s)::int,
       sum(pg_relation_size(format('%%I.%%I', chunk_schema, chunk_name)::regclass))
FROM timescaledb_information.chunks WHERE hypertable_schema = 'telemetry' AND hypertable_name = %s GROUP BY 1
"""


def test_a_late_reading_decompresses_rows_of_its_own_week_alone(store: Store, telemetry_url: str, seed: int) -> None:
    only_in("community", telemetry_url)
    feed_fleet(store, seed)
    compress(telemetry_url)
    # Between two of a session's: what the second delivered since the one before it is less.
    mine = [
        one for one in fleet(seed)[0] if one["connector_id"] == 1 and one["ts_ms"] >= START_MS + WEEK_MS + 2 * DAY_MS
    ]
    late = mine[0] | {"ts_ms": mine[0]["ts_ms"] + 1, "energy_mwh": mine[0]["energy_mwh"] + 1, "seq": None, "boot": None}
    with psycopg.connect(telemetry_url) as connection:
        revised = (
            "SELECT sum(hashtext(r::text)) FROM telemetry.reading AS r WHERE ts <> to_timestamp(%s::bigint / 1000.0)"
        )
        before = connection.execute(revised, (late["ts_ms"],)).fetchone()
        connection.commit()
        feed(store, 0, [late], START_MS + 30 * DAY_MS, "late")
        assert connection.execute(revised, (late["ts_ms"],)).fetchone() != before
        for table in ("reading", "window_1m"):
            plain = {week: size for week, size in connection.execute(_PLAIN, (WEEK_MS, table)) if size}
            assert set(plain) <= {WEEK + 1}, table
