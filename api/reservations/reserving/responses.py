"""Responses made from reservations. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from api.idle_fees import IdleFee
from api.reservations.life.rule import Reservation, Terms, late_at
from api.reservations.parking.models import VehicleStay
from api.reservations.parking.stay import Stay
from api.reservations.places.free_times import FreeTime
from api.reservations.reserving import models
from kit.clock import format_rfc3339
from kit.web.errors import Conflict


class Taken(Conflict):
    """It is reserved or in use then; `next_free` says when it is free."""

    def __init__(self, message: str, next_free: Sequence[FreeTime]) -> None:
        super().__init__(message)
        self.next_free = next_free

    @property
    def extensions(self) -> Mapping[str, Any]:
        """The next free times."""
        return {
            "next_free": [
                {
                    "station_id": one.place.station_id,
                    "connector_id": one.place.connector_id,
                    "bay": one.place.bay,
                    "starts_at": format_rfc3339(one.starts_at),
                    "latest_start": format_rfc3339(one.latest_start),
                }
                for one in self.next_free
            ]
        }


def details_of(
    reservation: Reservation, terms: Terms, fee: IdleFee | None, stay: Stay | None
) -> models.ReservationDetails:
    """The response for a reservation, with what is known of its driver's vehicle there."""
    shown = None
    if stay is not None:
        shown = VehicleStay(**{name: getattr(stay.parking, name) for name in VehicleStay.model_fields})
    return models.ReservationDetails(**reservation_of(reservation, terms).model_dump(), idle_fee=fee, stay=shown)


def reservation_of(reservation: Reservation, terms: Terms) -> models.Reservation:
    """The response for a reservation."""
    return models.Reservation(
        id=reservation.id,
        driver_id=reservation.driver_id,
        station_id=reservation.place.station_id,
        connector_id=reservation.place.connector_id,
        bay=reservation.place.bay,
        starts_at=reservation.starts_at,
        ends_at=reservation.ends_at,
        state=reservation.state,
        revision=reservation.revision,
        held_until=reservation.held_until,
        cancel_free_until=reservation.starts_at - terms.cancel_free,
        late_at=late_at(reservation, terms),
        reason=reservation.reason,
        moved_from=reservation.moved_from,
        session_id=reservation.session_id,
        charged=reservation.charged,
        created_at=reservation.created_at,
    )
