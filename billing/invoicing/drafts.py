"""From an event to the claim it makes, rated by us. Pure."""

from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

from billing.currency import can_be_paid
from billing.documents import CdrStatus, ChargeDraft, Rated, SubjectKind
from billing.errors import BadEvent
from kit.clock import parse_rfc3339
from schemas.events import Consumption, ReservationConfirmed, SessionCompleted
from schemas.tariff import MICROS

_NAMESPACE: Final = UUID("c8d0a0f4-6c5b-4c62-9d5e-0b1c7b1f4e2a")


def reservation_subject(reservation_id: str) -> UUID:
    """What a reservation's documents are kept under."""
    return uuid5(_NAMESPACE, reservation_id)


def session_claim(session: SessionCompleted, rated: Rated | None, total_max: int) -> ChargeDraft:
    """What a completed session comes to. `rated`: its consumption by us, None where it has no pricing; `total_max`:
    whole units of the currency beyond which nobody is sent an invoice unseen. Raises BadEvent."""
    pricing = session.pricing
    if (pricing is None) != (rated is None):
        raise ValueError(f"session {session.id}: rated without a price, or the other way round")
    status = CdrStatus.UNPRICED
    if pricing is not None and rated is not None:
        stream = (pricing.cost.currency, pricing.cost.excl_vat_micros, pricing.cost.incl_vat_micros)
        agrees = stream == (rated.currency, rated.excl_micros, rated.incl_micros)
        status = _bounded(rated, total_max) if agrees else CdrStatus.DRIFT
    return ChargeDraft(
        kind=SubjectKind.SESSION,
        subject_id=session.id,
        reservation_id=None,
        revision=session.revision,
        status=status,
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
        rated=rated,
        stream_excl_micros=None if pricing is None else pricing.cost.excl_vat_micros,
        stream_incl_micros=None if pricing is None else pricing.cost.incl_vat_micros,
    )


def reservation_claim(
    reservation: ReservationConfirmed, consumption: tuple[Consumption, ...], rated: Rated, total_max: int
) -> ChargeDraft:
    """What a reservation comes to; FREE where the tariff asks nothing for one. Raises BadEvent."""
    return ChargeDraft(
        kind=SubjectKind.RESERVATION,
        subject_id=reservation_subject(reservation.reservation_id),
        reservation_id=reservation.reservation_id,
        revision=1,
        status=_bounded(rated, total_max) if rated.lines else CdrStatus.FREE,
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
        rated=rated,
        stream_excl_micros=None,
        stream_incl_micros=None,
    )


def _bounded(rated: Rated, total_max: int) -> CdrStatus:
    sendable = rated.incl_micros <= total_max * MICROS and can_be_paid(rated.currency)
    return CdrStatus.INVOICED if sendable else CdrStatus.REVIEW


def _moment(text: str) -> datetime:
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise BadEvent(f"{text!r} is {error}") from error
