"""The ledger of energy (docs/adr/0014): what a meter rose by = in sessions + outside of any session + rejected."""

from enum import StrEnum
from typing import Final, NamedTuple


class RejectReason(StrEnum):
    """Why nobody is charged for energy that a register shows. Names are published: never rename."""

    REGISTER_LEAPT = "register_leapt"  # further than the connector can deliver, and it went on from there


class EnergyShare(NamedTuple):
    """One part of the sum."""

    owner: str
    reason: RejectReason | None = None  # of rejected energy


# By the column that readings have it in, and windows with `_sum`. A further reason is a further column.
ENERGY_SHARES: Final = {
    "in_session_mwh": EnergyShare("session"),
    "outside_mwh": EnergyShare("outside"),
    "rejected_mwh": EnergyShare("rejected", RejectReason.REGISTER_LEAPT),
}
