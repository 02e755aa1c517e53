"""Responses of the audit service, as OpenAPI shows them."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class AuditModel(BaseModel):
    """Base of the responses."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AuditEntry(AuditModel):
    """What somebody did, or was not allowed to do."""

    id: int
    at: datetime
    recorded_at: datetime = Field(description="when the row was written, by the database's clock")
    action: str = Field(description="request, request.refused, or the change: token.issued")
    actor: str = Field(description="kind of token and subject or token id; anonymous; cli/<account>; system")
    role: str = Field(description="the kind of token; empty: none")
    token: Literal["", "stored", "signed", "certificate"] = Field(description="how the actor is verified")
    token_id: UUID | None = Field(description="of a signed token that of its issuer and subject")
    method: str | None
    endpoint: str | None = Field(description="the route's template")
    status: int | None = Field(description="of the answer; 499: the client was gone. Null in a change's own entry")
    correlation_id: str
    address: str = Field(description="of the connection; of IPv6 the network")
    duration_us: int | None
    requests: int = Field(description="as many alike were refused within the minute")
    entity: str | None = Field(description="what was changed")
    before: Any = Field(description="null: there was none, or nothing is kept of it")
    after: Any
    reason: str | None


class AuditPage(AuditModel):
    """A page of entries, newest first."""

    entries: list[AuditEntry]
    next: str | None = Field(description="address of the next page; null on the last")
