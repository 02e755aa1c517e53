"""The relations of coarse windows: views of what the minutes of a quarter, an hour, a day came to.

From the windows of a minute, and from what is kept of minutes that were dropped. With TimescaleDB's community licence
continuous aggregates have that of the minutes computed already. They lose with the next refresh what minutes came to
that were dropped since, so that the views read them from the border on only: `telemetry.window_retained` says since
when no minute was dropped, and is written in the transaction that drops some.
"""

from datetime import timedelta
from typing import Any, Final, Literal

import psycopg

from streams.storage.tables import COARSE, WINDOW, kept_of, select_coarse

Layout = Literal["community", "apache", "plain"]
Connection = psycopg.Connection[tuple[Any, ...]]

_REFRESH_EVERY: Final = timedelta(minutes=5)  # how late a late reading shows in a coarse window that is materialised
_REFRESH_BEHIND: Final = timedelta(hours=1)  # newer than this, plus one bucket, is computed on request
# The end of a week, which is one of a day, too: no window reaches over it.
_BORDER: Final = "(SELECT to_timestamp(since_ms / 1000) FROM telemetry.window_retained WHERE width = '1m')"


def aggregate_of(name: str) -> str:
    """The continuous aggregate of a coarse window."""
    return f"telemetry.{name}_materialised"


def coarse_relations(layout: Layout) -> list[str]:
    """The DDL of the coarse windows."""
    return [*(_continuous_aggregates() if layout == "community" else ()), *_views(layout), *_spans(layout)]


def renewed_coarse(layout: Layout, *, aggregates: bool = True) -> list[str]:
    """The DDL that makes the coarse windows again; each is dropped with the function of its rows.

    `aggregates`: the continuous ones, too, which are computed again from all minutes.
    """
    dropped = [f"DROP VIEW IF EXISTS telemetry.{name} CASCADE" for name in COARSE]
    if layout != "community" or not aggregates:
        return [*dropped, *_views(layout), *_spans(layout)]
    dropped += [f"DROP MATERIALIZED VIEW IF EXISTS {aggregate_of(name)} CASCADE" for name in COARSE]
    return [*dropped, *coarse_relations(layout)]


def renamed_aggregates() -> list[str]:
    """The DDL that gives the continuous aggregates their names where an older version gave them the views'."""
    return [
        f"""DO $$ BEGIN
    IF EXISTS (SELECT FROM timescaledb_information.continuous_aggregates
               WHERE view_schema = 'telemetry' AND view_name = '{name}') THEN
        DROP FUNCTION IF EXISTS telemetry.{name}_of(int, timestamptz, timestamptz);
        ALTER MATERIALIZED VIEW telemetry.{name} RENAME TO {aggregate_of(name).removeprefix("telemetry.")};
    END IF;
END $$"""
        for name in COARSE
    ]


def renew_coarse(connection: Connection, layout: Layout) -> None:
    """Make the coarse windows again where they lack columns that those of a minute have got since, or do not know what
    is kept of minutes that were dropped. They are computed from both, so that nothing is lost."""
    name = next(iter(COARSE))
    if _is_complete(connection, f"telemetry.{name}") and _knows_kept(connection, name):
        return
    if layout == "community":
        for statement in renamed_aggregates():
            connection.execute(statement.encode())
    for statement in renewed_coarse(layout, aggregates=not _is_complete(connection, aggregate_of(name))):
        connection.execute(statement.encode())


def _is_complete(connection: Connection, relation: str) -> bool:
    """Whether it is there, with the columns of windows."""
    found = connection.execute(
        "SELECT array_agg(attname::text) FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0", (relation,)
    ).fetchone()
    return found is not None and set(found[0] or ()) >= {field.name for field in WINDOW.fields}


def _knows_kept(connection: Connection, name: str) -> bool:
    found = connection.execute(
        "SELECT strpos(pg_get_viewdef(to_regclass(%s)), %s) > 0", (f"telemetry.{name}", f"{name}_kept")
    ).fetchone()
    return found == (True,)


def _views(layout: Layout) -> list[str]:
    return [f"CREATE VIEW telemetry.{name} AS\n{_rows_of(name, layout)}" for name in COARSE]


def _spans(layout: Layout) -> list[str]:
    """`telemetry.window_1h_of(connector, since, until)` and its like: the rows of one connector.

    A condition on a view's bucket reaches neither index nor partitions, so that an hour would cost the connector's
    whole history; the function puts it where they are, on the minutes of the buckets in [since, until).
    """
    functions = []
    for name, width in COARSE.items():
        first, last = (
            f"date_bin('{width}', {bound} - interval '1 microsecond', 'epoch') + interval '{width}'"
            for bound in ("since", "until")
        )
        minutes = ("connector_key = connector", f"bucket >= {first}", f"bucket < {last}")
        buckets = ("connector_key = connector", "bucket >= since", "bucket < until")
        signature = f"telemetry.{name}_of(connector int, since timestamptz, until timestamptz)"
        functions.append(
            f"CREATE FUNCTION {signature} RETURNS SETOF telemetry.{name} LANGUAGE sql STABLE AS $$\n"
            f"{_rows_of(name, layout, minutes, buckets)}\n$$"
        )
    return functions


def _rows_of(name: str, layout: Layout, minutes: tuple[str, ...] = (), buckets: tuple[str, ...] = ()) -> str:
    """SQL: the windows `name` of these minutes, which are those of these buckets."""
    if layout != "community":
        return select_coarse(COARSE[name], timescale=False, where=_where(minutes), kept=kept_of(name))
    before = select_coarse(
        COARSE[name], timescale=False, where=_where((*minutes, f"bucket < {_BORDER}")), kept=kept_of(name)
    )
    since = _where((*buckets, f"bucket >= {_BORDER}"))
    return f"SELECT {WINDOW.columns} FROM {aggregate_of(name)} {since}\nUNION ALL\n{before}"  # noqa: S608  # our own names


def _where(conditions: tuple[str, ...]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _continuous_aggregates() -> list[str]:
    """Materialised up to `_REFRESH_BEHIND`, computed beyond: an answer never lacks the newest minutes."""
    made: list[str] = []
    for name, width in COARSE.items():
        made.append(
            f"CREATE MATERIALIZED VIEW {aggregate_of(name)} WITH (timescaledb.continuous, "
            f"timescaledb.materialized_only = false) AS\n{select_coarse(width, timescale=True)}\nWITH NO DATA"
        )
        # From the beginning, because late readings may be of any time. What was not written since is not computed.
        made.append(
            f"SELECT add_continuous_aggregate_policy('{aggregate_of(name)}', start_offset => NULL, "
            f"end_offset => {interval(_REFRESH_BEHIND)}, schedule_interval => {interval(_REFRESH_EVERY)})"
        )
    return made


def interval(duration: timedelta) -> str:
    """SQL: a duration of whole seconds."""
    return f"INTERVAL '{int(duration.total_seconds())} seconds'"
