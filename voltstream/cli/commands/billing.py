"""`voltstream billing reconcile`, and the commands of files."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer
from prometheus_client import CollectorRegistry, Gauge, write_to_textfile
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from billing.currency import format_micros
from billing.declaration import SERVICE
from billing.invoices.store import InvoiceStore
from billing.readings_http import HttpReadingsSource
from billing.readings_source import SourceUnavailable
from billing.reconcile import Drift, Finding, Reconciler, Report, UninvoicedCharge
from kit.clock import format_rfc3339
from kit.database.postgres import Database
from kit.errors import ConfigError
from kit.settings import Settings
from voltstream.cli.commands.billing_charges import (
    APPROVE_EXAMPLE,
    CHARGES_EXAMPLE,
    CORRECT_EXAMPLE,
    VOID_EXAMPLE,
    approve,
    charges,
    correct,
    void,
)
from voltstream.cli.commands.billing_documents import (
    BALANCE_EXAMPLE,
    CANCEL_EXAMPLE,
    CREDIT_EXAMPLE,
    INVOICES_EXAMPLE,
    PAY_EXAMPLE,
    REFUND_EXAMPLE,
    STATEMENTS_EXAMPLE,
    balance,
    cancel,
    credit,
    invoices,
    pay,
    refund,
    statements,
)
from voltstream.cli.commands.billing_files import (
    EINVOICE_EXAMPLE,
    EXPORT_EXAMPLE,
    PDF_EXAMPLE,
    VALIDATE_EXAMPLE,
    einvoice,
    export,
    pdf,
    validate,
)
from voltstream.cli.connection import OperatorToken, Url, base_url_of, no_answer, with_database
from voltstream.cli.options import MOMENT, MOMENT_HELP, AsJson, DataDir, period
from voltstream.cli.output import print_json, print_line
from voltstream.runtime.database import sources_of
from voltstream.runtime.up_tokens import operator_token
from voltstream.settings import load_settings

_TIMEOUT_S: Final = 60  # of one answer: the readings of a session of days are some 10 MB
_DRIFT: Final = 1  # exit code

_EXAMPLE: Final = "Example: voltstream billing reconcile --from 2026-03-01 --to 2026-04-01"

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Finance's work: charges, documents, files.", epilog=_EXAMPLE
)

for _command, _example in (
    (charges, CHARGES_EXAMPLE),
    (approve, APPROVE_EXAMPLE),
    (correct, CORRECT_EXAMPLE),
    (void, VOID_EXAMPLE),
    (invoices, INVOICES_EXAMPLE),
    (balance, BALANCE_EXAMPLE),
    (pdf, PDF_EXAMPLE),
    (einvoice, EINVOICE_EXAMPLE),
    (validate, VALIDATE_EXAMPLE),
    (pay, PAY_EXAMPLE),
    (credit, CREDIT_EXAMPLE),
    (refund, REFUND_EXAMPLE),
    (cancel, CANCEL_EXAMPLE),
    (statements, STATEMENTS_EXAMPLE),
    (export, EXPORT_EXAMPLE),
):
    app.command(epilog=_example)(_command)


@app.command(epilog=_EXAMPLE)
def reconcile(
    start: Annotated[
        str, typer.Option("--from", metavar=MOMENT, help=f"began then or later{MOMENT_HELP}", show_default=False)
    ],
    end: Annotated[str, typer.Option("--to", metavar=MOMENT, help="began before", show_default=False)],
    url: Url = None,
    token: OperatorToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    metrics_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="write the outcome for node_exporter's textfile collector", show_default=False
        ),
    ] = None,
) -> None:
    """Compute every charge of a range again from the stored readings, and compare it with CDRs and invoices.

    Readings come from the API of the running platform, documents from the database. Exit code 1 where
    they differ.
    """
    since, until = period(start, end)
    assert since is not None  # noqa: S101  # both options are required
    assert until is not None  # noqa: S101  # both options are required
    settings = load_settings(data_dir=data_dir)
    headers = {"Authorization": f"Bearer {operator_token(settings, url, token)}"}
    base_url = base_url_of(settings, url)
    with _progress(shown=not as_json and sys.stderr.isatty()) as progress:
        report = _run(settings, base_url, headers, since, until, progress)
    if as_json:
        print_json(_document(report, since, until))
    else:
        _print(report)
    if metrics_file is not None:
        _write_metrics(metrics_file, report)
    if not report.agrees:
        raise typer.Exit(_DRIFT)


def _write_metrics(file: Path, report: Report) -> None:
    """Raises ConfigError where the file cannot be written."""
    registry = CollectorRegistry()
    Gauge("billing_reconcile_charges", "Charges of the last reconciliation", registry=registry).set(report.charges)
    drifts = Gauge("billing_reconcile_drifts", "Charges and documents of it that do not agree", registry=registry)
    drifts.set(report.outcomes[Finding.DRIFT] + len(report.money))
    finished = Gauge("billing_reconcile_finished_timestamp_seconds", "When it ended", registry=registry)
    finished.set_to_current_time()
    try:
        write_to_textfile(str(file), registry)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from None


def _run(
    settings: Settings,
    base_url: str,
    headers: dict[str, str],
    start: datetime,
    end: datetime,
    progress: Callable[[int, int], None],
) -> Report:
    async def work(database: Database) -> Report:
        async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=_TIMEOUT_S, trust_env=False) as client:
            return await Reconciler(InvoiceStore(database), HttpReadingsSource(client)).run(start, end, progress)

    try:
        return with_database(settings, "billing", work, need=sources_of([SERVICE]), role=SERVICE.role)
    except (SourceUnavailable, httpx.InvalidURL) as error:
        raise no_answer(base_url, error) from None


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[int, int], None]]:
    if not shown:
        yield lambda _done, _expected: None
        return
    columns = (TextColumn("charges"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("charges", total=None)
        yield lambda done, expected: bar.update(task, completed=done, total=expected)


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
        "documents": report.money,
        "drifts": [_described(drift) for drift in report.drifts],
        "held": [_held(held) for held in report.uninvoiced],
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
    for held in report.uninvoiced:
        name = held.reservation_id or held.subject_id
        print_line(f"{held.status}: {held.kind} {name} at {held.station_id}, began {format_rfc3339(held.started_at)}:")
        print_line(f"  {_figures(held)}")
    for difference in report.money:
        print_line(difference)
    for currency in sorted(report.derived_micros):
        booked, derived = report.booked_micros[currency], report.derived_micros[currency]
        print_line(f"{currency}: booked {format_micros(booked)}, computed {format_micros(derived)} incl. VAT")
    counted = ", ".join(f"{report.outcomes[outcome]:,} {outcome.value}" for outcome in Finding)
    print_line(f"{report.charges:,} charges: {counted}")
