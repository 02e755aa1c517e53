"""Quality flags of a stored reading: one bit each, never a silent repair.

A flagged reading is stored. If the flag concerns its energy register, that register is not billed.
"""

from enum import IntFlag


class Quality(IntFlag):
    """Why a stored reading is doubtful. Bits are persisted: never renumber."""

    METER_ROLLBACK = 1  # register below the last good one, and not a restart of the meter
    METER_RESET = 2  # the meter restarted (replaced, reset): metering continues from the new register
    PLACEHOLDER_ZERO = 4  # register exactly 0 between higher ones: the device had no value
    IMPLAUSIBLE_POWER = 8  # register rose faster than any charger delivers, or power_w above the plausible limit
    CLOCK_SKEW = 16  # the device's clock runs ahead of ours by more than the tolerance
    OUTSIDE_SESSION = 32  # energy or power while no session is open, or after the session's end
    LATE = 64  # behind its station's watermark when it arrived
    ESTIMATED = 128  # its energy is integrated from power: the device sent no register
    FOREIGN_ID = 256  # it names another session than the one that holds its connector
    EXPORT_IMPLAUSIBLE = 512  # its register of exported energy does not fit the ones before


# With one of these flags, windows and sessions ignore the reading's register.
REGISTER_UNUSABLE = Quality.METER_ROLLBACK | Quality.PLACEHOLDER_ZERO | Quality.IMPLAUSIBLE_POWER

QUALITY_NAMES = tuple(flag.name.lower() for flag in Quality if flag.name)


def names_of(flags: int) -> list[str]:
    """The names of the set bits, in bit order."""
    return [flag.name.lower() for flag in Quality if flags & flag and flag.name]
