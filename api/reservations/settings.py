"""Settings of reservations."""

from typing import Final

from pydantic import BaseModel, Field

from kit.config.adjustable import adjustable

DURATION_S_MIN: Final = 300
DAY_S: Final = 86_400


class ReservationSettings(BaseModel):
    """Bounds, buffer times and terms of reservations. They count for what happens from then on."""

    reservation_horizon_days: int = Field(
        30,
        ge=1,
        le=365,
        description="a reservation begins so many days ahead at the latest",
        json_schema_extra=adjustable("reservations.horizon", unit="d"),
    )
    reservation_duration_s_max: int = Field(
        4 * 3_600,
        ge=DURATION_S_MIN,
        le=DAY_S,
        description="the longest reservation",
        json_schema_extra=adjustable("reservations.duration_max", unit="s"),
    )
    reservation_buffer_s: int = Field(
        300,
        ge=0,
        le=3_600,
        description="a connector is kept free so long before and after a reservation; its driver may use both",
        json_schema_extra=adjustable("reservations.buffer", unit="s"),
    )
    reservation_late_s: int = Field(
        900,
        ge=60,
        le=DAY_S,
        description="a driver who has not begun to charge so long after the start is a no-show",
        json_schema_extra=adjustable("reservations.late", unit="s", finance=True),
    )
    reservation_cancel_free_s: int = Field(
        1_800,
        ge=0,
        le=7 * DAY_S,
        description="cancelling is free until so long before the start",
        json_schema_extra=adjustable("reservations.cancel_free", unit="s", finance=True),
    )
    reservation_hold_s: int = Field(
        300,
        ge=30,
        le=3_600,
        description="a place that is held, or offered to a waiting driver, is given back unless confirmed so soon",
        json_schema_extra=adjustable("reservations.hold", unit="s"),
    )
    reservation_move_s: int = Field(
        3_600,
        ge=0,
        le=7 * DAY_S,
        description="a reservation of a connector that is out of order is moved so long before its start",
        json_schema_extra=adjustable("reservations.move", unit="s"),
    )
    reservation_session_s: int = Field(
        2_700,
        ge=DURATION_S_MIN,
        le=DAY_S,
        description="how long a session is expected to last, from when on its connector can be reserved",
        json_schema_extra=adjustable("reservations.session", unit="s"),
    )
    reservation_overstay_s: int = Field(
        600,
        ge=0,
        le=DAY_S,
        description="a vehicle overstays so long after charging, its reservation or the bay's time limit ended",
        json_schema_extra=adjustable("reservations.overstay", unit="s"),
    )
    reservation_per_driver_max: int = Field(
        5,
        ge=1,
        le=100,
        description="a driver's reservations that are not over",
        json_schema_extra=adjustable("reservations.per_driver_max"),
    )
    # Three years: after them nobody can claim anything of a reservation, as a rule.
    reservation_driver_retention_days: int = Field(
        1_096,
        ge=31,
        le=36_500,
        description="after so many days a reservation that is over is nobody's",
        json_schema_extra=adjustable("reservations.driver_retention", unit="d"),
    )
    waiting_retention_days: int = Field(
        30,
        ge=1,
        le=3_650,
        description="entries of the waiting list that are over are deleted so many days after they were made",
        json_schema_extra=adjustable("reservations.waiting_retention", unit="d"),
    )


GROUP = ReservationSettings
