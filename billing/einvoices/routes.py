"""E-invoices over HTTP."""

from typing import Annotated, Final

from fastapi import APIRouter, Query
from fastapi.responses import Response

from billing.components import Provided
from billing.einvoices.service import XmlFormat
from billing.parameters import DocumentId, DocumentsReader
from kit.web.parameters import problems

_XML: Final = "application/xml"

router = APIRouter()


@router.get(
    "/invoices/{id}/xml",
    summary="A document as e-invoice",
    response_class=Response,
    responses={
        **problems(
            {404: "No such document, or none of yours", 409: "It lacks what EN 16931 wants; the detail says what"}
        ),
        200: {"content": {_XML: {"schema": {"type": "string"}}}},
    },
)
async def xml(
    id: DocumentId,
    principal: DocumentsReader,
    billing: Provided,
    format_: Annotated[XmlFormat, Query(alias="format", description="the syntax")] = XmlFormat.UBL,
) -> Response:
    """By EN 16931, as it was issued: UBL 2.1 (Peppol BIS Billing 3.0 where both parties are in Peppol and the customer
    has a reference) or UN/CEFACT CII (Factur-X, profile EN 16931)."""
    number, body = await billing.einvoices.xml(id, principal.own_driver, format_, principal.only)
    return Response(body, 200, {"Content-Disposition": f'inline; filename="{number}.{format_}.xml"'}, _XML)
