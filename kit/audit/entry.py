"""An entry of the audit, and the names of its contract in SQL."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from kit.database.migrations import Migrations

AUDIT: Final = Migrations("audit", Path(__file__).parent / "migrations")
RECORD: Final = "audit.record(jsonb)"
RECORD_BATCH: Final = "audit.record_batch(text,bigint,jsonb)"
COUNT_TELEMETRY: Final = "audit.count_telemetry(timestamp with time zone,text,uuid[],bigint[],bigint)"
RECORD_SQL: Final = "SELECT audit.record($1::jsonb)"

REQUEST: Final = "request"
REFUSED: Final = "request.refused"
LOST: Final = "audit.lost"
ANONYMOUS: Final = "anonymous"
SIDE_BYTES_MAX: Final = 64 * 1024  # of `before` and of `after`: a tariff of 1,000 elements is 60 kB

Token = Literal["", "stored", "signed", "certificate"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acted, and from where. `name`: kind, and subject or the token's id; or anonymous, system, cli/<account>."""

    name: str = ANONYMOUS
    role: str = ""  # the kind of token; empty: none
    token: Token = ""
    token_id: UUID | None = None
    address: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry as it is recorded; fields as the columns of audit.entry."""

    at: datetime | None  # None: now, by the database's clock
    action: str
    actor: str
    role: str
    token: Token
    token_id: UUID | None
    address: str
    correlation_id: str
    method: str | None = None
    endpoint: str | None = None
    status: int | None = None
    duration_us: int | None = None
    requests: int = 1
    entity: str | None = None
    before: Any = None
    after: Any = None
    reason: str | None = None


def entry_of(actor: Actor, *, at: datetime | None, action: str, correlation_id: str, **more: Any) -> Entry:
    """The entry of what this actor did."""
    return Entry(
        at=at,
        action=action,
        actor=actor.name,
        role=actor.role,
        token=actor.token,
        token_id=actor.token_id,
        address=actor.address,
        correlation_id=correlation_id,
        **more,
    )


def encoded(entries: list[Entry]) -> str:
    """The argument of audit.record and audit.record_batch."""
    return msgspec.json.encode(entries, enc_hook=str).decode()


def side(document: Any) -> Any:
    """What is kept of a `before` or `after`: all of it, or its size and hash where it is longer than SIDE_BYTES_MAX."""
    if document is None:
        return None
    plain = msgspec.json.encode(document, enc_hook=str)
    if len(plain) <= SIDE_BYTES_MAX:
        return msgspec.Raw(plain)
    return {"omitted_bytes": len(plain), "sha256": hashlib.sha256(plain).hexdigest()}
