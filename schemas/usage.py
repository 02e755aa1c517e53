"""How a stretch of a session is used, as tariffs tell it apart (docs/adr/0009)."""

from enum import IntEnum


class UsageKind(IntEnum):
    """What the time of a stretch counts as."""

    IDLE = 0  # out of order, or not occupied: nobody pays for the time
    CHARGING = 1  # TIME
    PARKING = 2  # PARKING_TIME: connected, not charging
    RESERVATION = 3  # TIME of the elements with a reservation restriction
    RESERVATION_EXPIRED = 4  # likewise, of a reservation that nobody came for
