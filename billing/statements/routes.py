"""Collective invoices over HTTP. Thin: parameters in, one call of the service, one answer out."""

from typing import Any, Final

from fastapi import APIRouter

from billing.components import Provided
from billing.invoices import examples
from billing.invoices.rendering import invoice_of
from billing.parameters import Issuer
from billing.statements.models import IssuedStatements
from kit.web.json_body import JsonRoute
from kit.web.parameters import example

ISSUED_MAX: Final = 100  # of one request: 100 of 5,000 charges each are ~30 s of the writers' lock
EXAMPLE: Final[dict[str, Any]] = {
    "invoices": [{**examples.INVOICE, "session_id": None, "driver_id": None, "station_id": ""}],
    "more": False,
}

router = APIRouter(route_class=JsonRoute)


@router.post(
    "/statements",
    status_code=201,
    summary="Issue the collective invoices that are due",
    response_model=IssuedStatements,
    responses={201: example(EXAMPLE)},
)
async def issue_statements(_: Issuer, billing: Provided) -> IssuedStatements:
    """What an hourly job does, at once: those of months that ended twelve hours ago or earlier. A request that is
    repeated issues nothing twice."""
    issued = await billing.statements.issue_due(ISSUED_MAX)
    return IssuedStatements(invoices=[invoice_of(invoice) for invoice in issued], more=len(issued) == ISSUED_MAX)
