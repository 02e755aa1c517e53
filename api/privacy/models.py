"""Responses of the privacy service, as OpenAPI shows them."""

from datetime import date, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class PrivacyModel(BaseModel):
    """Base of the responses."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RecordsOfKind(PrivacyModel):
    """The records of one kind that one service holds."""

    service: str
    kind: str
    summary: str
    records: list[dict[str, Any]] = Field(description="as they are stored; amounts are millionths of the currency")


class PersonalDataExport(PrivacyModel):
    """All that is held of a driver, as of one moment."""

    subject: str
    exported_at: datetime
    data: list[RecordsOfKind] = Field(description="kinds of which there is something")


class ErasedKind(PrivacyModel):
    """Records of a kind that were erased."""

    kind: str
    summary: str
    records: int = Field(description="changed or deleted, over all services")


class KeptKind(PrivacyModel):
    """What stays."""

    kind: str
    summary: str
    reason: str
    until: date | None = Field(description="the first day on which nothing of it is kept; null: no day is set")


class Erasure(PrivacyModel):
    """What was erased of a driver, and what stays. To ask again gets the same."""

    subject: str
    erased_at: datetime = Field(description="when anything was erased last")
    erased: list[ErasedKind]
    kept: list[KeptKind]
