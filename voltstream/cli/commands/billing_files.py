"""`voltstream billing export | pdf | einvoice | validate`: documents as files."""

import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Annotated, Any, Final, TypeVar
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from billing.components import party_of
from billing.declaration import SERVICE
from billing.einvoices.service import EInvoiceService, XmlFormat
from billing.einvoices.validation import CannotValidate, broken_rules
from billing.exports.models import LeftOutDocument
from billing.exports.pdf_service import PdfService
from billing.exports.service import ExportFormat, ExportService
from billing.exports.store import ExportFilter
from billing.exports.totals import DocumentTotals, Totals
from billing.invoices.service import DocumentReader, place_of
from billing.invoices.store import InvoiceFilter, InvoiceStore
from billing.settings import BillingSettings, seller_of, terms_of
from kit.clock import format_rfc3339
from kit.database.postgres import Database
from kit.settings import Settings, group_of
from kit.web.errors import BadQuery, Conflict
from voltstream.cli.connection import with_database
from voltstream.cli.options import MOMENT, MOMENT_HELP, AsJson, DataDir, one_of, period
from voltstream.cli.output import make_table, print_json, print_line, print_table
from voltstream.errors import WrongUsage
from voltstream.runtime.database import sources_of
from voltstream.services import service
from voltstream.settings import load_settings

T = TypeVar("T")

STDOUT: Final = "-"
LEFT_OUT_MAX: Final = 1_000  # documents that are listed, ~300 B each; all of them are at /billing/export/left-out
_PLACES_SHOWN_MAX: Final = 20  # connectors that are listed for people
_INCOMPLETE: Final = 1  # exit code: the file lacks documents that it could have
_OF_SEVERAL: Final = "single_charge"  # what a collective invoice lacks, and always will
_INVALID: Final = 1  # exit code: a rule is broken
_LINE_END: Final = b"\n"
EXPORT_EXAMPLE: Final = "Example: voltstream billing export --format ocpi --from 2026-03-01 --out march.json"
VALIDATE_EXAMPLE: Final = "Example: voltstream billing validate invoice.xml receipt.pdf"
EINVOICE_EXAMPLE: Final = "Example: voltstream billing einvoice 2026-0000017 --format ubl --out invoice.xml"
PDF_EXAMPLE: Final = "Example: voltstream billing pdf 2026-0000017 --out receipt.pdf"


def export(
    out: Annotated[str, typer.Option(help="the file; - for stdout", show_default=False)],
    format_: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            parser=one_of("--format", ExportFormat),
            metavar="|".join(ExportFormat),
            help="csv is safe to open in a spreadsheet",
        ),
    ] = ExportFormat.CSV,
    start: Annotated[
        str | None, typer.Option("--from", metavar=MOMENT, help=f"issued then or later{MOMENT_HELP}")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar=MOMENT, help="issued before")] = None,
    station: Annotated[str | None, typer.Option(help="only of this station")] = None,
    driver: Annotated[str | None, typer.Option(help="only of this driver")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Write invoices and credit notes into a file, in order of their numbers, and say what they sum to.

    OCPI files hold CDRs, and Credit CDRs for credit notes. Documents whose station or connector lacks a fact
    that a CDR has to have are left out and listed: exit code 1. Register it (`voltstream station`), and export
    again. Of a collective invoice each charge is a CDR; a part credited of one is of no single charge, and in no
    file of CDRs. A file that cannot be finished is not left behind.
    """
    since, until = period(start, end)
    settings = load_settings(data_dir=data_dir)
    wanted = ExportFilter(since, until, driver, None if station is None else station.upper())

    async def work(database: Database) -> tuple[Totals, int, list[LeftOutDocument]]:
        with _file(out) as file, _progress(format_, shown=not as_json and sys.stderr.isatty()) as progress:
            exports = ExportService(database, party_of(group_of(settings, BillingSettings)))
            async with exports.export(wanted, format_) as opened:
                left_out = await opened.left_out(LEFT_OUT_MAX)
                size_bytes = lines = 0
                async for chunk in opened.chunks:
                    file.write(chunk)
                    size_bytes += len(chunk)
                    lines += chunk.count(_LINE_END)
                    progress(lines, opened.totals.documents)
                return opened.totals, size_bytes, left_out

    totals, size_bytes, left_out = _with_database(settings, work)
    described = {
        "file": out,
        "format": format_.value,
        "bytes": size_bytes,
        "from": None if since is None else format_rfc3339(since),
        "to": None if until is None else format_rfc3339(until),
        "documents": totals.documents,
        "currencies": {name: _described(one) for name, one in totals.currencies.items()},
        "left_out": _left_out(totals, left_out),
    }
    if out == STDOUT:
        sys.stderr.write(totals.as_json().decode() + "\n")  # stdout is the file
    elif as_json:
        print_json(described)
    else:
        _print(out, totals)
    if totals.left_out is None:
        return
    lacking = [one for one in left_out if one.missing != [_OF_SEVERAL]]
    others = totals.left_out.documents - (len(left_out) - len(lacking))
    if not as_json:
        _print_left_out(others, totals.left_out.documents - others, lacking)
    if others:
        raise typer.Exit(_INCOMPLETE)


def pdf(
    document: Annotated[str, typer.Argument(metavar="NUMBER", help="of an invoice or credit note, or its id")],
    out: Annotated[Path, typer.Option(help="the file", show_default=False)],
    facturx: Annotated[bool, typer.Option("--facturx", help="with the e-invoice inside (Factur-X, EN 16931)")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Write a document as PDF, as a receipt for its driver."""

    async def read(reader: DocumentReader, id_: UUID) -> tuple[str, bytes]:
        if facturx:
            return await EInvoiceService(reader).facturx(id_, None)
        return await PdfService(reader).pdf(id_, None)

    _write_document(document, out, read, data_dir, as_json)


def einvoice(
    document: Annotated[str, typer.Argument(metavar="NUMBER", help="of an invoice or credit note, or its id")],
    out: Annotated[Path, typer.Option(help="the file", show_default=False)],
    format_: Annotated[
        XmlFormat,
        typer.Option("--format", parser=one_of("--format", XmlFormat), metavar="|".join(XmlFormat), help="the syntax"),
    ] = XmlFormat.UBL,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Write a document as e-invoice by EN 16931: UBL 2.1, or the CII of Factur-X."""

    async def read(reader: DocumentReader, id_: UUID) -> tuple[str, bytes]:
        return await EInvoiceService(reader).xml(id_, None, format_)

    _write_document(document, out, read, data_dir, as_json)


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="UBL, CII, or a PDF with either inside")],
    as_json: AsJson = False,
) -> None:
    """Hold e-invoices to their schemas and to EN 16931's rules, as their authors publish both. Exit code 1 where a rule
    is broken."""
    valid = True
    for file in files:
        try:
            broken = broken_rules(file.read_bytes())
        except OSError as error:
            raise WrongUsage(f"{file}: {error.strerror}") from None
        except CannotValidate as error:
            raise WrongUsage(f"{file}: {error}") from None
        valid = valid and not broken
        if as_json:
            print_json({"file": str(file), "valid": not broken, "broken": broken})
        else:
            print_line(f"{file}: valid by its schema and EN 16931" if not broken else f"{file}: not valid")
            for rule in broken:
                print_line(f"  {rule}")
    if not valid:
        raise typer.Exit(_INVALID)


def _write_document(
    document: str,
    out: Path,
    read: Callable[[DocumentReader, UUID], Awaitable[tuple[str, bytes]]],
    data_dir: Path | None,
    as_json: bool,
) -> None:
    settings = load_settings(data_dir=data_dir)

    async def work(database: Database) -> tuple[str, bytes]:
        store, billing = InvoiceStore(database), group_of(settings, BillingSettings)
        reader = DocumentReader(store, seller_of(billing), terms_of(billing))
        try:
            return await read(reader, await _id_of(store, document))
        except Conflict as error:
            raise WrongUsage(str(error)) from None

    number, body = _with_database(settings, work)
    with _file(str(out)) as file:
        file.write(body)
    if as_json:
        print_json({"number": number, "file": str(out), "bytes": len(body)})
    else:
        print_line(f"{number}: {out}")


async def _id_of(store: InvoiceStore, document: str) -> UUID:
    try:
        return UUID(document)
    except ValueError:
        pass
    try:
        found = await store.list_invoices(InvoiceFilter(place=place_of(document)), None, 1)
    except BadQuery as error:
        raise WrongUsage(str(error)) from None
    if not found:
        raise WrongUsage(f"there is no document {document}")
    return found[0].id


def _with_database(settings: Settings, work: Callable[[Database], Awaitable[T]]) -> T:
    need = sources_of([SERVICE, service("stations")])
    return with_database(settings, "billing", work, need=need, role=SERVICE.role)


@contextmanager
def _file(name: str) -> Iterator[IO[bytes]]:
    """To be written; it has its name once it is whole. A device or a pipe is written to, not replaced by a file."""
    if name == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(name)
    if path.exists() and not path.is_file():
        try:
            with path.open("wb") as device:
                yield device
        except OSError as error:
            raise WrongUsage(f"{name}: {error.strerror}") from None
        return
    path = path.resolve()  # a link stays one
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(path)
    except OSError as error:
        raise WrongUsage(f"{name}: {error.strerror}") from None
    finally:
        with suppress(OSError):
            unfinished.unlink()


@contextmanager
def _progress(format_: ExportFormat, *, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """By lines, of which all formats but Parquet have one a document."""
    if not shown:
        yield lambda _lines, _documents: None
        return
    columns = (TextColumn("documents"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("documents", total=None)
        if format_ is ExportFormat.PARQUET:
            yield lambda _lines, _documents: None
        else:
            yield lambda lines, documents: bar.update(task, completed=min(lines, documents), total=documents)


def _print(out: str, totals: Totals) -> None:
    if totals.currencies:
        table = make_table(
            "currency", ">documents", ">credit notes", ">excl. VAT", ">incl. VAT", ">payable", ">set off"
        )
        for currency, one in totals.currencies.items():
            counts = (f"{one.documents:,}", f"{one.credit_notes:,}")
            table.add_row(currency, *counts, one.total_excl_vat, one.total_incl_vat, one.payable, one.set_off)
        print_table(table)
    print_line(f"{totals.documents:,} documents: {out}")


def _left_out(totals: Totals, listed: list[LeftOutDocument]) -> dict[str, Any]:
    """All of their sums, and the first of them."""
    outside = totals.left_out or DocumentTotals(0, {})
    return {
        "documents": outside.documents,
        "currencies": {name: _described(one) for name, one in outside.currencies.items()},
        "charges": [one.model_dump(mode="json") for one in listed],
    }


def _print_left_out(count: int, collective: int, listed: list[LeftOutDocument]) -> None:
    """For people, on stderr: the connectors with what they lack."""
    if collective:
        of = "parts credited of collective invoices are left out: a CDR is of a single charge"
        sys.stderr.write(f"{collective:,} {of}\n")
    if not count:
        return
    lacking = Counter((one.station_id, one.connector_id, ", ".join(one.missing)) for one in listed)
    sys.stderr.write(f"{count:,} documents are left out, because a CDR has to say what is not registered:\n")
    for (station_id, connector_id, missing), documents in lacking.most_common(_PLACES_SHOWN_MAX):
        connector = "" if connector_id is None else f", connector {connector_id}"
        sys.stderr.write(f"  {station_id}{connector}: {missing} ({documents:,})\n")
    if len(lacking) > _PLACES_SHOWN_MAX or count > len(listed):
        sys.stderr.write("  … all: GET /api/v1/billing/export/left-out\n")
    sys.stderr.write("Register it with `voltstream station set` or `connector`, and export again.\n")


def _described(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__struct_fields__}
