"""From the results of rating to what documents contain: consumption as in events, lines, totals. Pure."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from billing import rating
from billing.documents import ChargeAmount, DocumentLine
from billing.errors import BadEvent
from kit.clock import format_rfc3339, parse_rfc3339, to_ms
from schemas.events import Consumption, ReservationConfirmed
from schemas.tariff import Tariff


def price_consumption(tariff: Tariff, consumption: Sequence[Consumption]) -> ChargeAmount:
    """The price of a session's consumption. Raises BadEvent if it cannot be consumption of this tariff."""
    if any(used.volume < 0 for used in consumption):
        raise BadEvent("a consumption below 0")
    try:
        return charge_amount(rating.price(tariff, consumption))
    except ValueError as error:
        raise BadEvent(str(error)) from error


def rate_reservation(tariff: Tariff, reservation: ReservationConfirmed) -> tuple[tuple[Consumption, ...], ChargeAmount]:
    """The consumption of a reservation by its times, and its price. Raises BadEvent."""
    try:
        start_ms, end_ms = (to_ms(parse_rfc3339(text)) for text in (reservation.starts_at, reservation.ends_at))
        usage = rating.reservation_usage(start_ms, end_ms, expired=reservation.expired)
    except ValueError as error:
        raise BadEvent(f"reservation {reservation.reservation_id}: {error}") from error
    used, rated = rating.rate_usage(tariff, zone_of(reservation.time_zone), usage)
    return to_consumption(used), charge_amount(rated)


def zone_of(name: str) -> ZoneInfo:
    """The time zone of that name. Raises BadEvent."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # a name that is no path, a path that is no zone
        raise BadEvent(f"there is no time zone {name!r}") from error


def to_consumption(used: Sequence[rating.ComponentUsage]) -> tuple[Consumption, ...]:
    """Consumption as in events."""
    return tuple(
        Consumption(
            element=one.element,
            dimension=str(one.dimension),
            volume=one.volume,
            since=format_rfc3339(one.since_ms),
            last=one.last,
        )
        for one in used
    )


def charge_amount(rated: rating.RatedUsage) -> ChargeAmount:
    """Totals with the lines of components, then those of a minimum or maximum price."""
    lines = [
        DocumentLine(
            line.dimension,
            line.element,
            line.volume - line.added,
            line.volume,
            line.price_micros,
            line.vat_millionths,
            line.amount_excl_micros,
            line.amount_excl_micros + line.vat_micros,
        )
        for line in rated.lines
    ]
    lines += [
        DocumentLine(one.bound, None, 1, 1, None, None, one.amount_excl_micros, one.amount_excl_micros + one.vat_micros)
        for one in rated.adjustments
    ]
    return ChargeAmount(rated.currency, tuple(lines), rated.total_excl_micros, rated.total_incl_micros)
