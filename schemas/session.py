"""Codes of a charging session: why it ended, and what the time of one of its intervals counts as."""

from collections.abc import Mapping
from enum import IntEnum, IntFlag
from typing import Final, Literal


class EndReason(IntEnum):
    """Why a session is closed. Values are persisted: never renumber."""

    OPEN = 0
    ENDED = 1  # the device said so
    FREED = 2  # a status freed the connector
    SUPERSEDED = 3  # another session began at the connector
    TIMEOUT = 4  # no reading came within the session time-out
    WITHDRAWN = 5  # late readings showed that its readings are other sessions'


EndReasonName = Literal["ended", "freed", "superseded", "timeout", "withdrawn"]
# As events and the API write them; an open session has none. A test compares them with EndReasonName, because a Literal
# must be spelled out.
END_REASON_NAMES: Final[Mapping[int, EndReasonName]] = {
    EndReason.ENDED: "ended",
    EndReason.FREED: "freed",
    EndReason.SUPERSEDED: "superseded",
    EndReason.TIMEOUT: "timeout",
    EndReason.WITHDRAWN: "withdrawn",
}
# These ends have a moment of their own; the others are inferred, so that the session counts as estimated.
EXPLICIT_ENDS: Final = frozenset({EndReason.ENDED, EndReason.FREED})


class HoldReason(IntFlag):
    """How a session contradicts itself, so that a person looks at it before it is billed (docs/adr/0014). Bits are
    persisted: never renumber."""

    REGISTER_UNCONFIRMED = 1  # its last register does not fit the ones before, and none came to confirm it
    REGISTER_AGAINST_POWER = 2  # register and integrated power differ by more than threefold
    REGISTER_LEAPT = 4  # the register leapt by more than the connector can deliver, and went on from there
    REGISTERS_MIXED = 8  # readings of two registers whose ends disagree
    ENDED_BEFORE_START = 16  # the clock was set back between start and end
    POWER_IMPLAUSIBLE = 32  # without a register, and powers above the rated one were left out
    SILENT = 64  # without a register, and a power stood for an hour or more without a reading
    REGISTER_LATE = 128  # its first register came late, and the rise to it is no session's, though it may be its own
    CLOCK_AHEAD = 256  # its start was stamped ahead of its arrival, and what came after was not
    REGISTER_MISSING = 512  # it has next to nothing, no register at its end, and may have what the meter rose by since


def hold_names(reasons: int) -> tuple[str, ...]:
    """The names of the set bits as events and the API write them, in bit order."""
    return tuple(reason.name.lower() for reason in HoldReason if reasons & reason and reason.name)


class UsageKind(IntEnum):
    """What the time of an interval counts as in a tariff (docs/adr/0009)."""

    IDLE = 0  # out of order, not occupied, preparing, or held back by the station: nobody pays for the time
    CHARGING = 1  # TIME
    PARKING = 2  # PARKING_TIME: connected, and the vehicle does not charge though it could
    RESERVATION = 3  # TIME of the elements with a reservation restriction
    RESERVATION_EXPIRED = 4  # likewise, of a reservation that was not used
