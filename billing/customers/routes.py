"""Customers over HTTP. Thin: parameters in, one call of the service, one answer out."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Body, Query, Request
from fastapi.responses import Response

from billing.components import Provided
from billing.customers import examples
from billing.customers.models import Customer, CustomerPage, NewCustomer
from billing.parameters import CustomersEditor, CustomersReader
from kit.messaging.outbox import Transaction
from kit.web.idempotency import Idempotent, StoredResponse
from kit.web.json_body import JsonRoute
from kit.web.paging import link_header, next_url
from kit.web.parameters import JSON, CursorInQuery, example, problems
from kit.web.versions import ETAG, IfMatch, etag, version_of
from schemas.identifiers import DriverId

PREFIX: Final = "/api/v1/billing/customers"
CUSTOMERS_MAX: Final = 500  # ~1 kB each and up to 65 kB of drivers
CUSTOMERS_DEFAULT: Final = 100
_TAKEN: Final = {409: "A driver has another customer"}
_TAKEN_OR_USED: Final = {409: "A driver has another customer, or the Idempotency-Key was used otherwise"}
_VERSIONS: Final = {
    404: "No such customer",
    412: "The customer has changed since that version",
    428: "If-Match is missing",
}
_WITH_ETAG: Final[dict[str, Any]] = {
    **example(examples.CUSTOMER),
    "headers": ETAG,
}

Wanted = Annotated[NewCustomer, Body(openapi_examples={"a company": {"value": examples.NEW_CUSTOMER}})]

router = APIRouter(route_class=JsonRoute)


@router.post(
    "/customers",
    status_code=201,
    summary="Add a customer",
    response_model=Customer,
    responses={
        **problems(_TAKEN_OR_USED),
        201: example(examples.CUSTOMER),
    },
)
async def add_customer(wanted: Wanted, _: CustomersEditor, once: Idempotent, billing: Provided) -> Response:
    """Documents that are issued for the customer's drivers from now on name the customer as the buyer."""

    async def work(connection: Transaction) -> StoredResponse:
        customer = await billing.customers.add(connection, wanted)
        return StoredResponse(201, customer.model_dump_json().encode(), location=f"{PREFIX}/{customer.id}")

    return await once.do(billing.database, "billing", work)


@router.get(
    "/customers",
    summary="Customers, the oldest first",
    response_model=CustomerPage,
    responses={200: example(examples.PAGE)},
)
async def list_customers(
    request: Request,
    billing: Provided,
    _: CustomersReader,
    driver_id: Annotated[DriverId | None, Query(description="only this driver's")] = None,
    limit: Annotated[int, Query(ge=1, le=CUSTOMERS_MAX, description="customers on a page")] = CUSTOMERS_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """Pages never repeat a customer, whoever is added meanwhile."""
    customers, key = await billing.customers.list_customers(driver_id, limit, cursor)
    page = CustomerPage(customers=list(customers), next=next_url(request.url, key))
    return Response(page.model_dump_json(), headers=link_header(page.next), media_type=JSON)


@router.get(
    "/customers/{id}",
    summary="A customer",
    response_model=Customer,
    responses={**problems({404: "No such customer"}), 200: _WITH_ETAG},
)
async def get_customer(id: UUID, _: CustomersReader, billing: Provided) -> Response:
    """With the ETag that a change needs."""
    return _answer(await billing.customers.get_customer(id))


@router.put(
    "/customers/{id}",
    summary="Replace what is said of a customer",
    response_model=Customer,
    responses={**problems({**_VERSIONS, **_TAKEN}), 200: _WITH_ETAG},
)
async def replace_customer(
    id: UUID, wanted: Wanted, _: CustomersEditor, billing: Provided, if_match: IfMatch = None
) -> Response:
    """Documents that are issued already stay as they are."""
    return _answer(await billing.customers.replace(id, version_of(if_match), wanted))


@router.delete(
    "/customers/{id}",
    status_code=204,
    summary="Delete a customer",
    responses={**problems({**_VERSIONS, 409: "Charges wait for the customer's monthly invoice"})},
)
async def delete_customer(id: UUID, _: CustomersEditor, billing: Provided, if_match: IfMatch = None) -> Response:
    """Documents that are issued already keep naming the customer."""
    await billing.customers.delete(id, version_of(if_match))
    return Response(status_code=204)


def _answer(customer: Customer) -> Response:
    return Response(customer.model_dump_json(), headers=etag(customer.version), media_type=JSON)
