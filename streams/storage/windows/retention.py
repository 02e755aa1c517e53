"""Retention of windows, a width at a time: where minutes go, what they came to in coarser ones stays."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from kit.clock import from_ms, to_ms
from streams.storage.connections import DELETED_ROWS_MAX, Connection
from streams.storage.table_drops import dropping
from streams.storage.tables import COARSE, WEEK_MS, WINDOW, kept_of, select_coarse

MINUTE: Final = "1m"
_NOTE: Final = """
UPDATE telemetry.window_retained SET since_ms = greatest(since_ms, %s) WHERE width = %s
"""
_DELETE: Final = """
DELETE FROM {kept} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {kept} WHERE bucket < %s LIMIT %s))
"""


def drop_windows_before(connection: Connection, now: datetime, days: Mapping[str, int]) -> int:
    """Drop the windows that are older than the days of their width (0: none); how many weeks of minutes."""
    dropped = 0
    if days.get(MINUTE):
        before = now - timedelta(days=days[MINUTE])
        weeks = [week for (week,) in connection.execute("SELECT telemetry.weeks_of('window_1m')")]
        due = sorted(week for week in weeks if from_ms((week + 1) * WEEK_MS) <= before)
        with dropping(connection) as alone:
            for week in due if alone else ():
                drop_week(connection, week)
                dropped += 1
    for name in COARSE:
        width = name.removeprefix("window_")
        if days.get(width):
            day = (now - timedelta(days=days[width])).replace(hour=0, minute=0, second=0, microsecond=0)
            with connection.transaction():
                connection.execute(_NOTE, (to_ms(day), width))
                connection.execute(_DELETE.format(kept=kept_of(name)).encode(), (day, DELETED_ROWS_MAX))
    return dropped


def drop_week(connection: Connection, week: int, moved: int | None = None) -> None:
    """Drop the windows of a minute of this week, and keep what they come to in the coarse ones.

    `moved`: only those that telemetry.lake_cut lets go, which are so many. They are behind the border and change no
    more, so that writers wait for their drop alone; else for all of this."""
    start, end = from_ms(week * WEEK_MS), from_ms((week + 1) * WEEK_MS)
    bounds = f"bucket >= '{start.isoformat()}' AND bucket < '{end.isoformat()}'"
    chosen, deleted = f"WHERE {bounds}", f"WHERE {bounds}"
    if moved is not None:
        chosen = f"JOIN telemetry.lake_cut AS k USING (connector_key) WHERE {bounds} AND bucket < k.until"
        deleted = (
            f"AS w USING telemetry.lake_cut AS k WHERE {bounds} AND w.connector_key = k.connector_key "
            "AND bucket < k.until"
        )
    with connection.transaction():
        connection.execute(_NOTE, (to_ms(end), MINUTE))
        if moved == 0:
            return
        if moved is None:
            connection.execute("SELECT telemetry.lock_windows()")
        for name, width in COARSE.items():
            # A week that was dropped before has rows again where some were left, or a late reading fell into it.
            kept = kept_of(name)
            source = select_coarse(width, timescale=False, where=chosen, kept=kept)
            columns = ", ".join(field.name for field in WINDOW.fields)
            connection.execute(f"CREATE TEMP TABLE kept_week ON COMMIT DROP AS {source}".encode())
            connection.execute(f"DELETE FROM {kept} {deleted}".encode())  # noqa: S608  # our own names
            connection.execute(f"INSERT INTO {kept} ({columns}) SELECT {columns} FROM kept_week".encode())  # noqa: S608  # our own names
            connection.execute("DROP TABLE kept_week")
        if moved is None:
            connection.execute("SELECT telemetry.drop_windows(%s)", (week,))
        else:
            connection.execute("SELECT telemetry.drop_moved('window_1m', 'bucket', %s, %s)", (week, moved))
