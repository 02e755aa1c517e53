"""The event of an overstay."""

from datetime import datetime

import msgspec

from api.idle_fees import IdleFee
from api.reservations.life.events import event_of
from api.reservations.parking.stay import Stay
from kit.clock import format_rfc3339
from kit.messaging.outbox import OutboxEvent
from schemas.events import ParkingOverstayed
from schemas.topics import PARKING_OVERSTAYED


def parking_overstayed(stay: Stay, fee: IdleFee | None, now: datetime) -> OutboxEvent:
    """parking.overstayed.v1 of a vehicle that overstays. Raises ValueError for another."""
    parking, place = stay.parking, stay.place
    if parking.reason is None or parking.overstay_from is None:
        raise ValueError(f"nobody overstays at {place}")
    payload = ParkingOverstayed(
        station_id=place.station_id,
        connector_id=place.connector_id,
        bay=place.bay,
        driver_id=stay.driver_id,
        session_id=stay.session_id,
        reason=parking.reason,
        since=_written(parking.since),
        idle_since=_written(parking.idle_since),
        overstay_from=format_rfc3339(parking.overstay_from),
        fee_per_hour=None if fee is None else fee.price_per_hour,
        currency=None if fee is None else fee.currency,
    )
    name = f"{place.key}/{format_rfc3339(now)}"  # of one place there is one at a time
    return event_of(PARKING_OVERSTAYED, name, msgspec.to_builtins(payload), now)


def _written(moment: datetime | None) -> str | None:
    return None if moment is None else format_rfc3339(moment)
