"""What every operation of billing has in common: it is described, and no question breaks it; and no float is money."""

import ast
import asyncio
import random
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from billing.balances import routes as balance_routes
from billing.balances.models import Balance
from billing.charges import examples as charge_examples
from billing.charges.models import ChargeDetail, ChargePage
from billing.currency import format_micros, format_minor, minor_digits, to_minor
from billing.exports import examples as export_examples
from billing.exports.models import LeftOutPage
from billing.invoices import examples as invoice_examples
from billing.invoices.models import Explanation, Invoice, InvoiceDetail, InvoicePage
from billing.payments import examples as payment_examples
from billing.payments.models import Payment, PaymentDetail, WebhookResult
from billing.statements import routes as statement_routes
from billing.statements.models import IssuedStatements
from tests.billing.making import reservation, session
from tests.billing.serving import CHARGE, Service
from tests.billing.sessions import completed, readings
from tests.described import answers_as_described, cases_of

BILLING = Path(__file__).parents[2] / "billing"
OPERATIONS = {
    ("GET", "/api/v1/billing/invoices"),
    ("GET", "/api/v1/billing/invoices/{id}"),
    ("GET", "/api/v1/billing/invoices/{id}/explain"),
    ("GET", "/api/v1/billing/charges"),
    ("GET", "/api/v1/billing/export/left-out"),
    ("GET", "/api/v1/billing/charges/{id}"),
    ("POST", "/api/v1/billing/charges/{id}/approve"),
    ("POST", "/api/v1/billing/charges/{id}/correct"),
    ("POST", "/api/v1/billing/charges/{id}/void"),
    ("POST", "/api/v1/billing/cancel"),
    ("POST", "/api/v1/billing/invoices/{id}/credit"),
    ("POST", "/api/v1/billing/payments/{id}/refund"),
    ("GET", "/api/v1/billing/balance"),
    ("POST", "/api/v1/billing/statements"),
    ("POST", "/api/v1/billing/charge"),
    ("GET", "/api/v1/billing/payments/{id}"),
    ("POST", "/api/v1/billing/payments/{provider}/webhook"),
    ("GET", "/api/v1/billing/customers"),
    ("POST", "/api/v1/billing/customers"),
    ("GET", "/api/v1/billing/customers/{id}"),
    ("PUT", "/api/v1/billing/customers/{id}"),
}

FILES = {
    ("GET", "/api/v1/billing/export"),
    ("GET", "/api/v1/billing/invoices/{id}/pdf"),
    ("GET", "/api/v1/billing/invoices/{id}/xml"),
}
WITHOUT_BODY = {("DELETE", "/api/v1/billing/customers/{id}")}


async def test_every_operation_is_described_with_an_example_and_its_problems(service: Service) -> None:
    paths = (await service.ask("GET", "/openapi.json", 200, None)).json()["paths"]
    found = {(method.upper(), path) for path in paths if path.startswith("/api/") for method in paths[path]}
    assert found == OPERATIONS | FILES | WITHOUT_BODY
    for method, path in OPERATIONS:
        operation = paths[path][method.lower()]
        assert operation["summary"], path
        assert operation["description"], path
        assert "security" in operation or path.endswith("webhook"), path
        done = "201" if method == "POST" and not path.endswith("webhook") else "200"
        assert "example" in operation["responses"][done]["content"]["application/json"], path
        assert {"401", "403", "422", "503"} <= set(operation["responses"]), path


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (InvoicePage, invoice_examples.PAGE),
        (InvoiceDetail, invoice_examples.DETAIL),
        (Explanation, invoice_examples.EXPLANATION),
        (Invoice, invoice_examples.CREDIT_NOTE),
        (Balance, balance_routes.EXAMPLE),
        (IssuedStatements, statement_routes.EXAMPLE),
        (ChargePage, charge_examples.PAGE),
        (LeftOutPage, export_examples.LEFT_OUT),
        (ChargeDetail, charge_examples.DETAIL),
        (Payment, payment_examples.PAYMENT),
        (PaymentDetail, payment_examples.DETAIL),
        (WebhookResult, payment_examples.WEBHOOK_RESULT),
    ],
)
def test_examples_are_what_the_models_say(model: type[BaseModel], example: dict[str, Any]) -> None:
    model.model_validate(example)


@pytest.mark.parametrize(("method", "path"), sorted(OPERATIONS))
async def test_no_question_is_a_server_error_or_answered_otherwise_than_described(
    service: Service, seed: int, method: str, path: str
) -> None:
    """`known`: of a document or payment that there is."""
    event = completed(service.telemetry, readings(random.Random(seed)))
    await service.billing.deliver(event, session(), reservation("R-1"))
    known = [str(document["id"]) for document in service.billing.documents()]
    payment = await service.post(CHARGE, {"invoice_id": known[0], "provider": "stripe"})
    schema = schemathesis.openapi.from_dict((await service.ask("GET", "/openapi.json", 200, None)).json())
    cases = cases_of(schema[path][method])
    headers = {"authorization": f"Bearer {service.tokens['finance']}"}

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(case=cases, which=st.sampled_from([None, *known]), provider=st.sampled_from([None, "stripe", "manual"]))
    def ask(case: schemathesis.Case[Any], which: str | None, provider: str | None) -> None:
        if which is not None and "{id}" in path:
            case.path_parameters = {"id": payment["id"] if "payments" in path else which}
        if provider is not None and "{provider}" in path:
            case.path_parameters = {"provider": provider}
        if which is not None and method == "POST" and isinstance(case.body, dict) and "invoice_id" in case.body:
            case.body["invoice_id"] = which
        answers_as_described(case, service.server.url, headers)

    await asyncio.to_thread(ask)


# A page's layout is of millimetres and points; its amounts are text.
LENGTHS = (BILLING / "exports/document_pdf.py",)
_GIVE_FLOATS = ("total_seconds", "timestamp")


def _floats(tree: ast.AST, *, lengths: bool = False) -> list[str]:
    """Where a float is made: a literal, float(), a true division, a module or method that gives one.

    `lengths`: literals and annotations are of lengths there.
    """
    found = []
    for node in ast.walk(tree):
        literal = isinstance(node, ast.Constant) and isinstance(node.value, float | complex)
        named = isinstance(node, ast.Name) and node.id in ("float", "complex")
        called = isinstance(node, ast.Call) and ast.unparse(node.func) in ("float", "complex")
        division = isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div)
        imported = isinstance(node, ast.Import | ast.ImportFrom) and "math" in ast.unparse(node).split()
        method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args
        gives = method and node.func.attr in _GIVE_FLOATS  # type: ignore[attr-defined]  # `method` says so
        if called or division or imported or gives or (not lengths and (literal or named)):
            found.append(f"line {getattr(node, 'lineno', 0)}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("path", sorted(BILLING.rglob("*.py")), ids=lambda path: str(path.relative_to(BILLING)))
def test_no_float_is_under_billing(path: Path) -> None:
    # A division of paths is none of numbers, and is written in one place.
    tree = ast.parse(path.read_text(encoding="utf-8"))
    floats = _floats(tree, lengths=path in LENGTHS)
    assert [place for place in floats if "Path(__file__)" not in place and ".parent" not in place] == []


@pytest.mark.parametrize(
    "code", ["a = 0.5", "a = float(b)", "a = b / c", "a /= 2", "import math", "x: float = 1", "a.total_seconds()"]
)
def test_the_check_for_floats_finds_them(code: str) -> None:
    assert _floats(ast.parse(code))


@given(st.integers(0, 10**18), st.sampled_from(["EUR", "JPY", "KWD", "CLF"]))
def test_payable_is_the_total_rounded_half_up_once(micros: int, currency: str) -> None:
    total = Decimal(micros).scaleb(-6)
    coin = Decimal(1).scaleb(-minor_digits(currency))
    assert Decimal(to_minor(micros, currency)) * coin == total.quantize(coin, ROUND_HALF_UP)


@pytest.mark.parametrize(
    ("minor", "digits", "text"),
    [(1234, 2, "12.34"), (-5, 2, "-0.05"), (7, 0, "7"), (-1200, 3, "-1.200"), (0, 2, "0.00")],
)
def test_minor_units_as_text(minor: int, digits: int, text: str) -> None:
    assert format_minor(minor, digits) == text
    assert format_micros(-1) == "-0.000001"
