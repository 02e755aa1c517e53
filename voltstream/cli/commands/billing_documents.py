"""`voltstream billing invoices | balance | pay | credit | refund | cancel | statements`: documents and their money."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Final
from uuid import UUID, uuid4

import typer

from voltstream.cli.commands.billing_rows import Only, print_list, print_rows
from voltstream.cli.connection import Url
from voltstream.cli.options import MOMENT, MOMENT_HELP, AsJson, DataDir, period
from voltstream.cli.output import print_json, print_line, print_note
from voltstream.cli.platform_api import FinanceToken, PlatformApi, finance_api
from voltstream.errors import WrongUsage
from voltstream.settings import load_settings

_BILLING: Final = "/api/v1/billing"
INVOICES_EXAMPLE: Final = "Example: voltstream billing invoices --driver driver-42 --status open"
BALANCE_EXAMPLE: Final = "Example: voltstream billing balance --driver driver-42"
PAY_EXAMPLE: Final = "Example: voltstream billing pay 2026-0000017"
CREDIT_EXAMPLE: Final = "Example: voltstream billing credit 2026-0000017 --amount 2.50 --reason 'blocked for an hour'"
REFUND_EXAMPLE: Final = "Example: voltstream billing refund 2026-0000017 --amount 2.50 --reason 'blocked for an hour'"
CANCEL_EXAMPLE: Final = "Example: voltstream billing cancel 2026-0000017 --reason 'wrong driver'"
STATEMENTS_EXAMPLE: Final = "Example: voltstream billing statements"

Number = Annotated[
    str, typer.Argument(metavar="NUMBER", help="of an invoice or credit note, or its id", show_default=False)
]
Reason = Annotated[str, typer.Option(help="stands on the credit note", show_default=False)]


def invoices(
    driver: Annotated[str | None, typer.Option(help="only of this driver")] = None,
    station: Annotated[str | None, typer.Option(help="only of this station")] = None,
    status: Annotated[str | None, typer.Option(help="open, paid, credited, cancelled or settled")] = None,
    kind: Annotated[str | None, typer.Option(help="invoice or credit_note")] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar=MOMENT, help=f"issued then or later{MOMENT_HELP}")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar=MOMENT, help="issued before")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="at most so many")] = 100,
    only: Only = None,
    url: Url = None,
    token: FinanceToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List invoices and credit notes, newest first."""
    since, until = period(start, end)
    bounds = {name: None if at is None else at.isoformat() for name, at in (("from", since), ("to", until))}
    wanted = {"driver_id": driver, "station_id": station, "status": status, "kind": kind, "limit": limit, **bounds}
    with finance_api(load_settings(data_dir=data_dir), url, token) as api:
        page = api.get(f"{_BILLING}/invoices", wanted)
    found, headings = page["invoices"], ("number", "kind", "status", "station", "driver", ">payable", ">due", "")
    table = partial(print_rows, headings, [_row(invoice) for invoice in found], more=page["next"] is not None)
    print_list(found, only, as_json, table)


def balance(
    driver: Annotated[str | None, typer.Option(help="this driver's", show_default=False)] = None,
    customer: Annotated[str | None, typer.Option(help="or of the customer of this id", show_default=False)] = None,
    url: Url = None,
    token: FinanceToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what a driver or a customer owes in all, or is owed: corrections net against each other."""
    with finance_api(load_settings(data_dir=data_dir), url, token) as api:
        found = api.get(f"{_BILLING}/balance", {"driver_id": driver, "customer_id": customer})
    if as_json:
        print_json(found)
        return
    names = ("invoiced", "credited", "paid", "paid_by_credit_notes", "refunded", "set_off", "open_amount", "collected")
    titles = (name.removesuffix("_amount").replace("_", " ") for name in names)
    headings = ("currency", ">documents", *(f">{title}" for title in titles))
    rows = [
        (one["currency"], str(one["documents"]), *("" if one[name] is None else one[name] for name in names))
        for one in found["balances"]
    ]
    print_rows(headings, rows, more=False)


def pay(
    document: Number,
    url: Url = None,
    token: FinanceToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Record that an invoice was paid, or a credit note refunded, outside of voltstream: by bank transfer, in cash."""
    with finance_api(load_settings(data_dir=data_dir), url, token) as api:
        invoice = _document(api, document)
        payment = _moved(api, api.post(f"{_BILLING}/charge", {"invoice_id": invoice["id"], "provider": "manual"}))
    _print_payment(payment, invoice["number"], as_json)


def credit(
    document: Number,
    amount: Annotated[str, typer.Option(help="incl. VAT, in the currency of the invoice", show_default=False)],
    reason: Reason,
    url: Url = None,
    token: FinanceToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Credit a part of an invoice by a credit note."""
    with finance_api(load_settings(data_dir=data_dir), url, token) as api:
        path = f"{_BILLING}/invoices/{_document(api, document)['id']}/credit"
        note = api.post(path, {"amount": amount, "reason": reason}, key=str(uuid4()))
    _print_document(note, as_json)


def refund(
    document: Number,
    reason: Reason,
    amount: Annotated[str | None, typer.Option(help="default: all that is left of the invoice")] = None,
    url: Url = None,
    token: FinanceToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Give a part of what was paid for an invoice back, through the provider of the payment, with a credit note."""
    with finance_api(load_settings(data_dir=data_dir), url, token) as api:
        invoice = _document(api, document)
        paid = [one for one in invoice["payments"] if (one["kind"], one["status"]) == ("charge", "succeeded")]
        if not paid:
            raise WrongUsage(f"{invoice['number']} was not paid: nothing can be refunded; credit it instead")
        body = {"reason": reason} if amount is None else {"reason": reason, "amount": amount}
        payment = api.post(f"{_BILLING}/payments/{paid[-1]['id']}/refund", body, key=str(uuid4()))
        if payment["provider"] == "manual":
            payment = _moved(api, payment)
    _print_payment(payment, invoice["number"], as_json)


def cancel(
    document: Number,
    reason: Reason,
    url: Url = None,
    token: FinanceToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Cancel all that is left of an invoice by a credit note."""
    with finance_api(load_settings(data_dir=data_dir), url, token) as api:
        body = {"invoice_id": _document(api, document)["id"], "reason": reason}
        note = api.post(f"{_BILLING}/cancel", body, key=str(uuid4()))
    _print_document(note, as_json)


def statements(url: Url = None, token: FinanceToken = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Issue the collective invoices of months that have ended, without waiting for the hourly job."""
    with finance_api(load_settings(data_dir=data_dir), url, token) as api:
        issued = api.post(f"{_BILLING}/statements")
        invoices = list(issued["invoices"])
        while issued["more"]:
            issued = api.post(f"{_BILLING}/statements")
            invoices += issued["invoices"]
    for invoice in invoices:
        _print_document(invoice, as_json)
    if not invoices and not as_json:
        print_note("none is due")


def _document(api: PlatformApi, name: str) -> Any:
    """A document, whole, by its number or id. Raises WrongUsage."""
    try:
        id_ = str(UUID(name))
    except ValueError:
        found = api.get(f"{_BILLING}/invoices", {"number": name})["invoices"]
        if not found:
            raise WrongUsage(f"there is no document {name}; `voltstream billing invoices` lists them") from None
        id_ = found[0]["id"]
    return api.get(f"{_BILLING}/invoices/{id_}")


def _moved(api: PlatformApi, payment: Mapping[str, Any]) -> Any:
    """A payment by hand, once finance has said that it was made."""
    if payment["status"] == "pending":
        api.post(f"{_BILLING}/payments/manual/webhook", {"payment_id": payment["id"], "status": "succeeded"})
    return api.get(f"{_BILLING}/payments/{payment['id']}")


def _row(invoice: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        *(invoice["number"], invoice["kind"].replace("_", " "), invoice["status"], invoice["station_id"]),
        *(invoice["driver_id"] or "", invoice["payable"], invoice["amount_due"] or "", invoice["currency"]),
    )


def _print_document(document: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    kind = document["kind"].replace("_", " ")
    due = f", {document['set_off']} of it paid by credit notes" if (document["set_off"] or "0").strip("-0.") else ""
    payable = f"{document['payable']} {document['currency']}"
    print_line(f"{document['number']}: {kind} of {payable}{due}, {document['status']}")


def _print_payment(payment: Mapping[str, Any], number: str, as_json: bool) -> None:
    if as_json:
        print_json(payment)
        return
    kind = "refunded" if payment["kind"] == "refund" else "paid"
    print_line(f"{number}: {payment['amount']} {payment['currency']} {kind}, {payment['status']}")
