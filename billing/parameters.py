"""Parameters that several routes of billing share, and whose tokens they accept."""

import re
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends
from pydantic import BeforeValidator

from kit.auth.requirements import require_scope
from kit.auth.token_store import Principal

NUMBER: Final = re.compile(r"([0-9]{4})-([0-9]{7,15})", re.ASCII)
"""Of a document, as printed on it: year and sequence."""


def _not_a_number(value: object) -> object:
    """Raises ValueError for a document's number."""
    if isinstance(value, str) and NUMBER.fullmatch(value):
        raise ValueError(f"{value} is a number and no id: find the document by /api/v1/billing/invoices?number={value}")
    return value


DocumentId = Annotated[UUID, BeforeValidator(_not_a_number)]
"""In a path."""

Reader = Annotated[Principal, Depends(require_scope("billing:read"))]
"""Reads what is a driver's: a driver their own, anyone else all."""
DocumentsReader = Annotated[Principal, Depends(require_scope("billing:read", heeds_stations=True))]
"""Reads documents: a driver their own, anyone else those of the token's stations."""
Payer = Annotated[Principal, Depends(require_scope("billing:pay"))]
"""Has money moved: a driver for what they owe, anyone else for any document."""
Office = Annotated[Principal, Depends(require_scope("billing:read_all", heeds_stations=True))]
"""Reads what concerns all drivers, at the token's stations."""
Reviewer = Annotated[Principal, Depends(require_scope("billing:review", heeds_stations=True))]
Canceller = Annotated[Principal, Depends(require_scope("billing:cancel"))]
Creditor = Annotated[Principal, Depends(require_scope("billing:credit"))]
Refunder = Annotated[Principal, Depends(require_scope("billing:refund"))]
Issuer = Annotated[Principal, Depends(require_scope("billing:issue"))]
CustomersReader = Annotated[Principal, Depends(require_scope("customers:read"))]
CustomersEditor = Annotated[Principal, Depends(require_scope("customers:write"))]
