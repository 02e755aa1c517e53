"""`voltstream lake status | move | query`: readings that were moved to Parquet files."""

from collections.abc import Callable
from datetime import date, datetime
from functools import partial
from typing import Annotated, Any, Final, TypeVar

import typer
from psycopg import Connection
from psycopg.rows import dict_row
from rich.console import Console

from kit.clock import SystemClock, format_rfc3339, from_ms
from kit.database.postgres import connect_sync, outages
from kit.errors import ConfigError
from kit.lake.folder import LakeFolder
from kit.settings import Settings, group_of
from schemas.settings import Retention
from streams.settings import WorkerSettings
from streams.storage.connections import Connections, open_writer
from streams.storage.lake_move import LakeFile, LakeMover, Move, MoveStep
from streams.storage.lake_rows import READINGS, WINDOWS
from voltstream.cli.options import AsJson, DataDir
from voltstream.cli.output import make_table, print_json, print_line, print_note, print_table
from voltstream.runtime.database import any_database
from voltstream.settings import load_settings

T = TypeVar("T")

_EXAMPLE: Final = "Example: voltstream lake status"
_ROWS_MAX: Final = 10_000  # of an answer, as a table or JSON
app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Show, fill and query the lake of raw readings.", epilog=_EXAMPLE
)

_STATUS: Final = """
SELECT s.attempted_at, s.moved_at, s.fault, f.*, w.*, o.border_ms
FROM telemetry.lake_status AS s
CROSS JOIN (SELECT count(*) AS files, coalesce(sum(rows), 0)::bigint AS readings,
                   coalesce(sum(bytes), 0)::bigint AS bytes, min(first_ts) AS first_reading_at,
                   max(last_ts) AS last_reading_at
            FROM telemetry.lake_file WHERE kind = 'reading') AS f
CROSS JOIN (SELECT coalesce(sum(rows), 0)::bigint AS windows, coalesce(sum(bytes), 0)::bigint AS window_bytes
            FROM telemetry.lake_file WHERE kind = 'window_1m') AS w
CROSS JOIN (SELECT max(border_ms) AS border_ms FROM telemetry.stream_offset) AS o
"""
_PATHS: Final = "SELECT kind, path FROM telemetry.lake_file ORDER BY path"


@app.command(epilog=_EXAMPLE)
def status(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show what is in the lake, and how the last move went."""
    found = _asked(load_settings(data_dir=data_dir), _status)
    if as_json:
        print_json(found)
        return
    table = make_table("lake", "")
    for name, value in found.items():
        table.add_row(
            name.replace("_", " "), "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
        )
    print_table(table)


def _status(connection: Connection[Any]) -> dict[str, Any]:
    row = connection.cursor(row_factory=dict_row).execute(_STATUS).fetchone()
    if row is None:
        raise ConfigError("the database is not prepared: run voltstream migrate")
    border_ms = row.pop("border_ms")
    shown = {name: _text(value) for name, value in row.items()}
    shown["bytes_per_reading"] = round(row["bytes"] / row["readings"], 2) if row["readings"] else None
    shown["refused_before"] = None if border_ms is None or border_ms < 0 else format_rfc3339(from_ms(border_ms))
    return shown


def _text(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_rfc3339(value)
    return value.isoformat() if isinstance(value, date) else value


@app.command(epilog="Example: voltstream lake move --json")
def move(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Move the readings that are due now, instead of waiting for a worker to do it."""
    settings = load_settings(data_dir=data_dir)
    retention = group_of(settings, WorkerSettings)
    folder = _folder(retention)
    files: list[LakeFile] = []
    with any_database(settings) as url, Console(stderr=True).status("moving") as shown:

        def progress(step: MoveStep, file: LakeFile | None) -> None:
            if file is not None:
                files.append(file)
                if as_json:
                    print_json({"file": file.path, "rows": file.rows, "bytes": file.file_bytes})
            rows = sum(one.rows for one in files)
            shown.update(f"{step}: {len(files):,} files, {rows:,} rows")

        connections = Connections(partial(open_writer, url), 1)
        try:
            mover = LakeMover(connections, folder, progress)
            moved = mover.move(
                SystemClock().now(),
                retention.lake_after_days,
                retention.raw_retention_days,
                retention.window_1m_retention_days,
            )
        finally:
            connections.close()
    if as_json:
        print_json({"moves": [_described(one) for one in moved]})
    elif not moved:
        print_note(f"No week is older than {retention.lake_after_days} days and not moved.")
    else:
        table = make_table("rows", "from", "to", ">files", ">number", ">bytes each", ">kept")
        for one in moved:
            figures = _described(one)
            table.add_row(*(str(value) for value in figures.values()))
        print_table(table)


def _described(moved: Move) -> dict[str, Any]:
    octets = sum(file.file_bytes for file in moved.files)
    return {
        "kind": moved.kind,
        "from": moved.start.date().isoformat(),
        "to": moved.end.date().isoformat(),
        "files": len(moved.files),
        "rows": moved.rows,
        "bytes_per_row": round(octets / moved.rows, 2) if moved.rows else None,
        "kept": moved.kept,
    }


@app.command(epilog='Example: voltstream lake query "SELECT station_id, count(*) FROM readings GROUP BY ALL"')
def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="of DuckDB, over `readings` and `windows`")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Answer a question about moved readings, by DuckDB (an extra: pip install 'voltstream[lake]')."""
    try:
        import duckdb
    except ImportError:
        raise ConfigError("`voltstream lake query` needs DuckDB: pip install 'voltstream[lake]'") from None
    import pyarrow.dataset as ds

    settings = load_settings(data_dir=data_dir)
    folder = _folder(group_of(settings, Retention))
    tables = {"readings": READINGS, "windows": WINDOWS}
    found = _asked(settings, lambda connection: connection.execute(_PATHS).fetchall())
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, one in tables.items():
            paths = [folder.place_of(path) for kind, path in found if kind == one.kind]
            connection.register(name, ds.dataset(paths, one.schema, "parquet", folder.files))
        try:
            answer = connection.execute(sql)
            names = [column[0] for column in answer.description or ()]
            rows = answer.fetchmany(_ROWS_MAX + 1) if names else []
        except duckdb.Error as error:
            raise ConfigError(f"DuckDB: {error}") from None
    if len(rows) > _ROWS_MAX:
        print_note(f"The first {_ROWS_MAX:,} rows; write LIMIT, or sum them up.")
    _print_rows(names, rows[:_ROWS_MAX], as_json)


def _print_rows(names: list[str], rows: list[tuple[Any, ...]], as_json: bool) -> None:
    if as_json:
        for row in rows:
            print_json(dict(zip(names, map(_text, row), strict=True)))
        return
    if not names:
        print_line("Done.")
        return
    table = make_table(*names)
    for row in rows:
        table.add_row(*("" if value is None else str(_text(value)) for value in row))
    print_table(table)


def _folder(retention: Retention) -> LakeFolder:
    if not retention.lake_url:
        raise ConfigError(
            "there is no lake: set VOLTSTREAM_LAKE_URL to a folder, or to a URL such as s3://bucket/folder"
        )
    return LakeFolder.at(retention.lake_url)


def _asked(settings: Settings, question: Callable[[Connection[Any]], T]) -> T:
    with (
        any_database(settings) as url,
        connect_sync(url, name="voltstream lake", autocommit=True) as connection,
        outages(),
    ):
        return question(connection)
