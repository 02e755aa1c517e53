"""Documents for tests without a database."""

from collections.abc import Sequence
from uuid import UUID, uuid4

import msgspec

from billing.documents import (
    CdrStatus,
    ChargeAmount,
    ChargeDraft,
    Document,
    DocumentLine,
    Number,
    SubjectKind,
    make_invoice,
)
from tests.billing.making import START
from tests.billing.running import NOW

_NOBODY = UUID(int=0)


def invoice_of_lines(lines: Sequence[DocumentLine], currency: str) -> Document:
    """The first invoice of a session with these lines."""
    amount = ChargeAmount(
        currency, tuple(lines), sum(line.excl_micros for line in lines), sum(line.incl_micros for line in lines)
    )
    return make_invoice(uuid4(), Number(2026, 1, NOW), draft(amount), uuid4(), 1, None, None)


def draft(amount: ChargeAmount | None, **changes: object) -> ChargeDraft:
    """A session's charge of this amount."""
    made = ChargeDraft(
        kind=SubjectKind.SESSION,
        subject_id=_NOBODY,
        reservation_id=None,
        revision=1,
        status=CdrStatus.INVOICED,
        reason="",
        driver_id=None,
        station_id="NL-1",
        connector_id=1,
        device_session_id=None,
        started_at=START,
        ended_at=START,
        end_reason="ended",
        estimated=False,
        energy_uj=0,
        readings=2,
        flagged=0,
        tariff_version=None,
        time_zone=None,
        consumption=(),
        amount=amount,
        stream_excl_micros=None,
        stream_incl_micros=None,
    )
    return msgspec.structs.replace(made, **changes)
