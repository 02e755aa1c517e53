"""Parameters that several routes of billing share, and whose tokens they accept."""

import re
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends
from pydantic import BeforeValidator

from kit.auth.authenticator import require_kinds
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

Reader = Annotated[Principal, Depends(require_kinds("finance", "operator", "driver"))]
"""Reads documents: finance and operators all, a driver their own."""
Payer = Annotated[Principal, Depends(require_kinds("finance", "driver"))]
"""Has money moved: finance for any document, a driver for what they owe."""
Office = Annotated[Principal, Depends(require_kinds("finance", "operator"))]
"""Reads what concerns all drivers."""
Finance = Annotated[Principal, Depends(require_kinds("finance"))]
"""Cancels invoices."""
