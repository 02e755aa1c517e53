"""`voltstream billing reconcile`, and the commands of files."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any, Final

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from billing.currency import format_micros
from billing.declaration import SERVICE
from billing.invoices.store import InvoiceStore
from billing.readings_http import HttpReadingsSource
from billing.readings_source import SourceUnavailable
from billing.reconcile import Drift, Finding, Reconciler, Report, UninvoicedCharge
from kit.clock import format_rfc3339
from kit.database.migrations import status
from kit.database.postgres import open_database
from kit.settings import Settings
from kit.web.instants import parse_instant
from voltstream.cli.commands.billing_files import EXPORT_EXAMPLE, PDF_EXAMPLE, export, pdf
from voltstream.cli.options import AsJson, DataDir
from voltstream.cli.output import print_json, print_line
from voltstream.errors import Refused, Usage
from voltstream.runtime.database import any_database, sources_of
from voltstream.runtime.up_tokens import operator_token
from voltstream.settings import load_settings

_TIMEOUT_S: Final = 60  # of one answer: the readings of a session of days are some 10 MB
_DRIFT: Final = 1  # exit code

_EXAMPLE: Final = "Example: voltstream billing reconcile --from 2026-03-01T00:00:00Z --to 2026-04-01T00:00:00Z"

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Check and export what was billed.", epilog=_EXAMPLE)


app.command(epilog=EXPORT_EXAMPLE)(export)
app.command(epilog=PDF_EXAMPLE)(pdf)


@app.command(epilog=_EXAMPLE)
def reconcile(
    start: Annotated[str, typer.Option("--from", metavar="MOMENT", help="began then or later", show_default=False)],
    end: Annotated[str, typer.Option("--to", metavar="MOMENT", help="began before", show_default=False)],
    url: Annotated[
        str | None, typer.Option(envvar="VOLTSTREAM_URL", help="the platform's base URL", show_default=False)
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="VOLTSTREAM_OPERATOR_TOKEN", help="an operator's; default: that of `up`", show_default=False
        ),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Compute every charge of a range again from the stored readings, and compare it with CDRs and invoices.

    Readings come from the API that runs, books from the database. Exit code 1 where anything is not what follows.
    """
    since, until = _moment("--from", start), _moment("--to", end)
    if since >= until:
        raise Usage(f"--from {start} is not before --to {end}")
    settings = load_settings(data_dir=data_dir)
    headers = {"Authorization": f"Bearer {operator_token(settings, url, token)}"}
    base_url = url or f"http://{settings.host}:{settings.port}"
    with _progress(shown=not as_json and sys.stderr.isatty()) as progress:
        report = _run(settings, base_url, headers, since, until, progress)
    if as_json:
        print_json(_document(report, since, until))
    else:
        _print(report)
    if not report.agrees:
        raise typer.Exit(_DRIFT)


def _run(
    settings: Settings,
    base_url: str,
    headers: dict[str, str],
    start: datetime,
    end: datetime,
    progress: Callable[[int, int], None],
) -> Report:
    async def run(database_url: str) -> Report:
        database = await open_database(database_url, name="voltstream billing", role=SERVICE.role, connections_max=2)
        try:
            async with httpx.AsyncClient(
                base_url=base_url, headers=headers, timeout=_TIMEOUT_S, trust_env=False
            ) as client:
                reconciler = Reconciler(InvoiceStore(database), HttpReadingsSource(client))
                return await reconciler.run(start, end, progress)
        finally:
            await database.close()

    with any_database(settings) as database_url:
        if not all(one.applied for one in status(database_url, sources_of([SERVICE]))):
            raise Usage("this database has no books of this version: run `voltstream migrate`")
        try:
            return asyncio.run(run(database_url))
        except (SourceUnavailable, httpx.InvalidURL) as error:
            mend = "start `voltstream up`, or name its address: --url"
            raise Refused(f"{base_url} does not answer ({error}); {mend}") from None


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[int, int], None]]:
    if not shown:
        yield lambda _done, _expected: None
        return
    columns = (TextColumn("charges"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("charges", total=None)
        yield lambda done, expected: bar.update(task, completed=done, total=expected)


def _moment(option: str, text: str) -> datetime:
    try:
        return parse_instant(text)
    except ValueError as error:
        raise Usage(f"{option} {text!r} {error}") from None


def _document(report: Report, start: datetime, end: datetime) -> dict[str, Any]:
    return {
        "from": format_rfc3339(start),
        "to": format_rfc3339(end),
        "charges": report.charges,
        "outcomes": {outcome.value: report.outcomes[outcome] for outcome in Finding},
        "agrees": report.agrees,
        "totals": {
            currency: {
                "booked_incl_vat": format_micros(report.booked_micros[currency]),
                "computed_incl_vat": format_micros(report.derived_micros[currency]),
            }
            for currency in sorted(report.derived_micros)
        },
        "drifts": [_described(drift) for drift in report.drifts],
        "held": [_held(held) for held in report.held],
    }


def _described(drift: Drift) -> dict[str, Any]:
    return {
        "kind": drift.kind.value,
        "session_id": None if drift.reservation_id else str(drift.subject_id),
        "reservation_id": drift.reservation_id,
        "station_id": drift.station_id,
        "started_at": format_rfc3339(drift.started_at),
        "differences": list(drift.differences),
    }


def _held(held: UninvoicedCharge) -> dict[str, Any]:
    return {
        "kind": held.kind.value,
        "session_id": None if held.reservation_id else str(held.subject_id),
        "reservation_id": held.reservation_id,
        "station_id": held.station_id,
        "started_at": format_rfc3339(held.started_at),
        "status": held.status.value,
        "currency": held.currency,
        "total_excl_vat": _micros(held.excl_micros),
        "total_incl_vat": _micros(held.incl_micros),
        "stream_excl_vat": _micros(held.stream_excl_micros),
        "stream_incl_vat": _micros(held.stream_incl_micros),
    }


def _figures(held: UninvoicedCharge) -> str:
    if held.excl_micros is None or held.incl_micros is None:
        return "no tariff was in force"
    ours = f"{format_micros(held.excl_micros)} excl., {format_micros(held.incl_micros)} incl."
    if held.stream_excl_micros is None or held.stream_incl_micros is None:
        return f"{held.currency}: {ours} VAT"
    stream = f"{format_micros(held.stream_excl_micros)} excl., {format_micros(held.stream_incl_micros)} incl."
    return f"{held.currency}: {ours}; by the stream {stream} VAT"


def _micros(micros: int | None) -> str | None:
    return None if micros is None else format_micros(micros)


def _print(report: Report) -> None:
    for drift in report.drifts:
        name = drift.reservation_id or drift.subject_id
        print_line(f"{drift.kind} {name} at {drift.station_id}, began {format_rfc3339(drift.started_at)}:")
        for difference in drift.differences:
            print_line(f"  {difference}")
    for held in report.held:
        name = held.reservation_id or held.subject_id
        print_line(f"{held.status}: {held.kind} {name} at {held.station_id}, began {format_rfc3339(held.started_at)}:")
        print_line(f"  {_figures(held)}")
    for currency in sorted(report.derived_micros):
        booked, derived = report.booked_micros[currency], report.derived_micros[currency]
        print_line(f"{currency}: booked {format_micros(booked)}, computed {format_micros(derived)} incl. VAT")
    counted = ", ".join(f"{report.outcomes[outcome]:,} {outcome.value}" for outcome in Finding)
    print_line(f"{report.charges:,} charges: {counted}")
