"""The coarse windows of a version in which no minutes were dropped: the aggregates have the names of the views."""

from streams.storage.tables import COARSE, select_coarse
from streams.storage.windows.relations import Layout

_POLICY = "start_offset => NULL, end_offset => INTERVAL '1 hour', schedule_interval => INTERVAL '5 minutes'"


def older_coarse(layout: Layout) -> list[str]:
    """The DDL."""
    made = []
    for name, width in COARSE.items():
        rows = select_coarse(width, timescale=layout == "community")
        if layout == "community":
            options = "timescaledb.continuous, timescaledb.materialized_only = false"
            made.append(f"CREATE MATERIALIZED VIEW telemetry.{name} WITH ({options}) AS\n{rows}\nWITH NO DATA")
            made.append(f"SELECT add_continuous_aggregate_policy('telemetry.{name}', {_POLICY})")
        else:
            made.append(f"CREATE VIEW telemetry.{name} AS\n{rows}")
        made.append(
            f"CREATE FUNCTION telemetry.{name}_of(connector int, since timestamptz, until timestamptz) "
            f"RETURNS SETOF telemetry.{name} LANGUAGE sql STABLE AS $$ "
            f"SELECT * FROM telemetry.{name} WHERE connector_key = connector AND bucket >= since AND bucket < until $$"
        )
    return made
