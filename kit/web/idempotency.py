"""The Idempotency-Key of a POST: the effect once, and the same answer however often it is asked for.

The answer is written down in the transaction of the effect. So there is no moment at which one is there without the
other: a crash leaves neither, and whoever asks again with the key does the work, or reads what was answered.

The table stands in the service's own schema and is made by its migrations:

    CREATE TABLE <schema>.idempotency (
        principal    text NOT NULL,
        key          text COLLATE "C" NOT NULL,
        request_hash bytea NOT NULL,  -- SHA-256 of method, path, query and body
        status       smallint,        -- NULL only inside the transaction of the first request
        body         bytea,
        media_type   text,
        location     text,
        created_at   timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (principal, key)
    );
    CREATE INDEX ON <schema>.idempotency (created_at);

A route takes the dependency and hands over its work, which gets the open transaction:

    async def charge(self, body: Charge, once: Idempotent) -> Response:
        async def work(connection: Transaction) -> Answer:
            invoice = await self._service.charge(connection, body)
            return Answer(201, invoice.model_dump_json().encode(), location=f"/api/v1/billing/invoices/{invoice.id}")

        return await once.do(self._database, "billing", work)

- no key: the work is done, nothing is remembered;
- same key, same request: the stored answer with `Idempotency-Replayed: true`; who comes while the first is still at
  work waits for it;
- same key, another request: 409;
- the work raises, or its answer is an error (4xx, 5xx): everything is rolled back and the key stays free.
Keys are each principal's own, and known for KEEP_HOURS after their first use.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Header
from starlette.requests import Request
from starlette.responses import Response

from kit.auth.authenticator import Authenticator
from kit.auth.token_store import Principal
from kit.database.names import checked_name
from kit.database.postgres import Database
from kit.errors import Overloaded
from kit.messaging.outbox import Transaction
from kit.web.problem import Problem

KEY_HEADER: Final = "Idempotency-Key"
REPLAYED_HEADER: Final = "Idempotency-Replayed"
KEY_CHARS_MAX: Final = 128
KEEP_HOURS: Final = 48  # clients are told 24; a retry loop that is that old is nobody's
WAIT_S: Final = (
    10.0  # for the first request of the same key; a transaction takes milliseconds, a payment provider seconds
)

_ERROR_STATUS_MIN: Final = 400
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a POST answers: these bytes, now and on every repetition."""

    status: int
    body: bytes
    media_type: str = _JSON
    location: str | None = None  # the Location header, of what was made

    def response(self, *, replayed: bool = False) -> Response:
        """As HTTP has it."""
        headers = {"Location": self.location} if self.location is not None else {}
        if replayed:
            headers[REPLAYED_HEADER] = "true"
        return Response(self.body, self.status, headers, self.media_type)


Work = Callable[[Transaction], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """Which request this is. Without a key it is like no other."""

    principal: str
    key: str | None
    request_hash: bytes  # 32

    async def do(self, database: Database, schema: str, work: Work) -> Response:
        """The answer of `work`, done in one transaction with the note of it, or as it was answered before.

        Raises Problem 409 where the key was used for another request, Overloaded where the first request of the key is
        still at work after WAIT_S, Unavailable, and whatever `work` raises.
        """
        try:
            async with database.transaction() as connection:
                if self.key is not None and (known := await self._claim(connection, schema, self.key)) is not None:
                    return known.response(replayed=True)
                answer = await work(connection)
                if answer.status >= _ERROR_STATUS_MIN:
                    raise _RolledBack(answer)
                if self.key is not None:
                    await self._store(connection, schema, self.key, answer)
        except _RolledBack as rolled_back:
            return rolled_back.answer.response()
        return answer.response()

    async def _claim(self, connection: Transaction, schema: str, key: str) -> Answer | None:
        """None: the key is ours until the transaction ends. Else what was answered to it."""
        table = f"{checked_name(schema)}.idempotency"
        insert = (
            f"INSERT INTO {table} (principal, key, request_hash) VALUES ($1, $2, $3) "  # noqa: S608 - checked name
            "ON CONFLICT DO NOTHING"
        )
        try:  # waits for the end of another transaction that holds the key
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
        if row is None:  # forgotten between the two statements
            raise Overloaded(f"this {KEY_HEADER} has just expired; try again")
        request_hash, code, body, media_type, location = row
        if request_hash != self.request_hash:
            raise Problem(409, f"this {KEY_HEADER} was used for another request; take a new key for a new request")
        return Answer(code, body, media_type, location)

    async def _store(self, connection: Transaction, schema: str, key: str, answer: Answer) -> None:
        update = (
            f"UPDATE {checked_name(schema)}.idempotency SET status = $3, body = $4, media_type = $5, location = $6 "  # noqa: S608 - checked name
            "WHERE principal = $1 AND key = $2"
        )
        await connection.execute(
            update, self.principal, key, answer.status, answer.body, answer.media_type, answer.location
        )


class _RolledBack(Exception):
    """Carries an error's answer out of the transaction that it ends."""

    def __init__(self, answer: Answer) -> None:
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
            pattern=r"^[\x20-\x7e]+$",
            description="Makes the request safe to repeat: the same key and body give the same answer, once done",
        ),
    ] = None,
) -> RequestIdentity:
    """FastAPI dependency. The Authenticator is `app.state.authenticator`. Raises Problem 401; 422 for a bad key."""
    authenticator: Authenticator = request.app.state.authenticator
    principal = await authenticator.authenticate(request)
    return RequestIdentity(_name_of(principal), key, hash_of(request, await request.body()))


Idempotent = Annotated[RequestIdentity, Depends(request_identity)]
"""The parameter of a route whose work is to be done once."""


def hash_of(request: Request, body: bytes) -> bytes:
    """What makes two requests the same one: SHA-256 of method, path, query and body."""
    path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    query: bytes = request.scope["query_string"]
    return hashlib.sha256(b"%s %s?%s\n%s" % (request.method.encode(), path, query, body)).digest()


async def forget_old(connection: Transaction, schema: str) -> None:
    """Delete what is older than KEEP_HOURS: once a day, by the service itself."""
    delete = f"DELETE FROM {checked_name(schema)}.idempotency WHERE created_at < now() - make_interval(hours => $1)"  # noqa: S608 - checked
    await connection.execute(delete, KEEP_HOURS)


def _name_of(principal: Principal) -> str:
    """Drivers by who they are, all others by their token."""
    return f"{principal.kind}/{getattr(principal, 'subject', None) or principal.token_id}"
