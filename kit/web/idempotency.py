"""The Idempotency-Key of a POST: one effect, and the same response however often the request is repeated.

The response is stored in the transaction of the effect, so neither exists without the other: a crash leaves neither,
and a repetition does the work or gets the stored response.

The table is `<schema>.idempotency` of kit/database/standard_tables.

A route depends on `Idempotent` and passes it a function, which gets the open transaction:

    async def charge(self, body: Charge, once: Idempotent) -> Response:
        async def work(connection: Transaction) -> StoredResponse:
            invoice = await self._service.charge(connection, body)
            return StoredResponse(201, invoice.model_dump_json().encode(), location=f"/api/v1/invoices/{invoice.id}")

        return await once.do(self._database, "billing", work)

- no key: the work is done, nothing is stored;
- same key, same request: the stored response with `Idempotency-Replayed: true`; a repetition during the first request
  waits for it;
- same key, another request: 409;
- the work raises, or its response is an error (4xx, 5xx): everything is rolled back and the key stays unused.
Each principal has its own keys. They are kept for `api.idempotency_retention` after their first use.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Header
from starlette.requests import Request
from starlette.responses import Response

from kit.auth.authenticator import Authenticator
from kit.database.names import checked_name
from kit.database.postgres import Database
from kit.errors import Overloaded
from kit.messaging.outbox import Transaction
from kit.patterns import worded
from kit.web.problem import Problem

KEY_HEADER: Final = "Idempotency-Key"
REPLAYED_HEADER: Final = "Idempotency-Replayed"
KEY_CHARS_MAX: Final = 128
WAIT_S: Final = (
    10.0  # for the first request of the same key; a transaction takes milliseconds, a payment provider seconds
)

_ERROR_STATUS_MIN: Final = 400
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The response of a POST: these bytes, the first time and on every repetition."""

    status: int
    body: bytes
    media_type: str = _JSON
    location: str | None = None  # the Location header of what was created

    def response(self, *, replayed: bool = False) -> Response:
        """The HTTP response."""
        headers = {"Location": self.location} if self.location is not None else {}
        if replayed:
            headers[REPLAYED_HEADER] = "true"
        return Response(self.body, self.status, headers, self.media_type)


Work = Callable[[Transaction], Awaitable[StoredResponse]]


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """Identifies a request. Without a key, every request is a new one."""

    principal: str
    key: str | None
    request_hash: bytes  # 32

    async def do(self, database: Database, schema: str, work: Work) -> Response:
        """The response of `work`, stored in the transaction in which the work is done; or the response stored before.

        Raises Problem 409 where the key was used for another request, Overloaded where the first request of the key is
        still not done after WAIT_S, Unavailable, and whatever `work` raises.
        """
        try:
            async with database.transaction() as connection:
                if self.key is not None and (known := await self._reserve(connection, schema, self.key)) is not None:
                    return known.response(replayed=True)
                answer = await work(connection)
                if answer.status >= _ERROR_STATUS_MIN:
                    raise _RolledBack(answer)
                if self.key is not None:
                    await self._store(connection, schema, self.key, answer)
        except _RolledBack as rolled_back:
            return rolled_back.answer.response()
        return answer.response()

    async def _reserve(self, connection: Transaction, schema: str, key: str) -> StoredResponse | None:
        """None: the key is reserved until the transaction ends. Else the response that is stored for it."""
        table = f"{checked_name(schema)}.idempotency"
        insert = (
            f"INSERT INTO {table} (principal, key, request_hash) VALUES ($1, $2, $3) "  # noqa: S608 - checked name
            "ON CONFLICT DO NOTHING"
        )
        try:  # waits for the end of another transaction with the same key
            status = await connection.execute(insert, self.principal, key, self.request_hash, timeout=WAIT_S)
        except TimeoutError:
            raise Overloaded(f"the first request with this {KEY_HEADER} is still at work; try again") from None
        if status == "INSERT 0 1":
            return None
        select = (
            f"SELECT request_hash, status, body, media_type, location FROM {table} "  # noqa: S608 - checked name
            "WHERE principal = $1 AND key = $2"
        )
        row = await connection.fetchrow(select, self.principal, key)
        if row is None:  # deleted between the two statements
            raise Overloaded(f"this {KEY_HEADER} has just expired; try again")
        request_hash, code, body, media_type, location = row
        if request_hash != self.request_hash:
            raise Problem(409, f"this {KEY_HEADER} was used for another request; take a new key for a new request")
        return StoredResponse(code, body, media_type, location)

    async def _store(self, connection: Transaction, schema: str, key: str, answer: StoredResponse) -> None:
        update = (
            f"UPDATE {checked_name(schema)}.idempotency SET status = $3, body = $4, media_type = $5, location = $6 "  # noqa: S608 - checked name
            "WHERE principal = $1 AND key = $2"
        )
        await connection.execute(
            update, self.principal, key, answer.status, answer.body, answer.media_type, answer.location
        )


class _RolledBack(Exception):
    """Carries an error response out of the transaction that it rolls back."""

    def __init__(self, answer: StoredResponse) -> None:
        super().__init__(answer.status)
        self.answer = answer


async def request_identity(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias=KEY_HEADER,
            min_length=1,
            max_length=KEY_CHARS_MAX,
            pattern=worded(r"^[\x20-\x7e]+$", "printable ASCII characters"),
            description="Makes the request safe to repeat: the same key and body give the same answer, once done",
        ),
    ] = None,
) -> RequestIdentity:
    """FastAPI dependency. The Authenticator is `app.state.authenticator`. Raises Problem 401; 422 for a bad key."""
    authenticator: Authenticator = request.app.state.authenticator
    principal = await authenticator.authenticate(request)
    return RequestIdentity(principal.name, key, hash_of(request, await request.body()))


Idempotent = Annotated[RequestIdentity, Depends(request_identity)]
"""The parameter of a route whose work must be done only once."""


def hash_of(request: Request, body: bytes) -> bytes:
    """SHA-256 of method, path, query and body: two requests with the same hash are the same request."""
    path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    query: bytes = request.scope["query_string"]
    return hashlib.sha256(b"%s %s?%s\n%s" % (request.method.encode(), path, query, body)).digest()
