"""From an event to the draft of its charge. Pure."""

from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

from billing.documents import CdrStatus, ChargeAmount, ChargeDraft, ChargeReason, SubjectKind
from billing.errors import BadEvent
from billing.invoicing.rules import InvoicingRules
from kit.clock import parse_rfc3339
from schemas.events import Consumption, ReservationConfirmed, SessionCompleted

_NAMESPACE: Final = UUID("c8d0a0f4-6c5b-4c62-9d5e-0b1c7b1f4e2a")


def reservation_subject(reservation_id: str) -> UUID:
    """The subject id of a reservation's documents."""
    return uuid5(_NAMESPACE, reservation_id)


def unpriced_draft(session: SessionCompleted) -> ChargeDraft:
    """The charge of a session without a tariff. Raises BadEvent."""
    if session.void:
        return session_draft(session, None, CdrStatus.VOID)
    status = CdrStatus.HELD if session.held else CdrStatus.UNPRICED
    return session_draft(session, None, status, (*session.held, ChargeReason.NO_TARIFF))


def session_draft(
    session: SessionCompleted, amount: ChargeAmount | None, status: CdrStatus, reasons: tuple[str, ...] = ()
) -> ChargeDraft:
    """The charge of a completed session. `amount`: by billing; None without a tariff. Raises BadEvent."""
    pricing = session.pricing
    return ChargeDraft(
        kind=SubjectKind.SESSION,
        subject_id=session.id,
        reservation_id=None,
        revision=session.revision,
        status=status,
        reason="",
        reasons=reasons,
        driver_id=None,
        station_id=session.station_id,
        connector_id=session.connector_id,
        device_session_id=session.session_id,
        started_at=_moment(session.started_at),
        ended_at=_moment(session.ended_at),
        end_reason=session.end_reason,
        estimated=session.estimated,
        energy_uj=session.energy_uj,
        readings=session.readings,
        flagged=session.flagged,
        tariff_version=None if pricing is None else pricing.version,
        time_zone=None if pricing is None else pricing.time_zone,
        consumption=() if pricing is None else tuple(pricing.consumption),
        amount=amount,
        stream_excl_micros=None if pricing is None else pricing.cost.excl_vat_micros,
        stream_incl_micros=None if pricing is None else pricing.cost.incl_vat_micros,
    )


def reservation_draft(
    reservation: ReservationConfirmed, consumption: tuple[Consumption, ...], amount: ChargeAmount, rules: InvoicingRules
) -> ChargeDraft:
    """The charge of a reservation; FREE if the tariff has no price for it. Raises BadEvent."""
    status, reasons = rules.outcome_of(amount) if amount.lines else (CdrStatus.FREE, ())
    return ChargeDraft(
        kind=SubjectKind.RESERVATION,
        subject_id=reservation_subject(reservation.reservation_id),
        reservation_id=reservation.reservation_id,
        revision=1,
        status=status,
        reason="",
        reasons=reasons,
        driver_id=reservation.driver_id,
        station_id=reservation.station_id,
        connector_id=reservation.connector_id,
        device_session_id=None,
        started_at=_moment(reservation.starts_at),
        ended_at=_moment(reservation.ends_at),
        end_reason="expired" if reservation.expired else "used",
        estimated=False,
        energy_uj=0,
        readings=0,
        flagged=0,
        tariff_version=reservation.version,
        time_zone=reservation.time_zone,
        consumption=consumption,
        amount=amount,
        stream_excl_micros=None,
        stream_incl_micros=None,
    )


def _moment(text: str) -> datetime:
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise BadEvent(f"{text!r} is {error}") from error
