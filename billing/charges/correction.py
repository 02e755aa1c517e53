"""Prices a charge by what a person says was delivered. Pure.

The energy is spread evenly over the time from start to end, as between two readings of a register (docs/adr/0009): the
power that holds all the time is energy over time; the time is charging, or parking where nothing was delivered. No
current is known.
"""

from datetime import datetime
from typing import Any, Final

import msgspec

from billing import rating
from billing.charges.models import Correction
from billing.documents import ChargeDraft, SubjectKind
from billing.invoices.stored_cdr import tariff_of
from billing.invoicing.amounts import charge_amount, to_consumption
from billing.invoicing.derivation import reserved_of
from billing.rating.usage import EnergyStretch, TimeStretch, Usage, UsageInterval
from kit.clock import to_ms
from kit.web.errors import BadQuery, Conflict
from schemas.session import UsageKind

UJ_PER_MWH: Final = 3_600_000
SESSION_MS_MAX: Final = 366 * 86_400_000
_MWH_DIGITS: Final = 3


def corrected(draft: ChargeDraft, row: Any, wanted: Correction) -> ChargeDraft:
    """The charge with this energy and these times. `row`: the CDR's columns with its tariff.

    Raises BadQuery, and Conflict where there is nothing to price it by.
    """
    if draft.kind is SubjectKind.RESERVATION:
        raise Conflict("a reservation has no energy to correct: approve it or void it")
    if row["tariff"] is None:
        raise Conflict("no tariff was in force when the session began, so that nothing can be priced: void it")
    started_at, ended_at = wanted.started_at or draft.started_at, wanted.ended_at or draft.ended_at
    energy_mwh = milliwatt_hours(wanted.energy_wh)
    tariff, zone = tariff_of(row)
    reserved = reserved_of(row["reserved_excl_micros"], row["reserved_incl_micros"])
    used, rated = rating.rate_usage(tariff, zone, even_usage(started_at, ended_at, energy_mwh), reserved)
    return msgspec.structs.replace(
        draft,
        started_at=started_at,
        ended_at=ended_at,
        energy_uj=energy_mwh * UJ_PER_MWH,
        consumption=to_consumption(used),
        computed=None,
        amount=charge_amount(rated),
    )


def even_usage(started_at: datetime, ended_at: datetime, energy_mwh: int) -> Usage:
    """Energy spread evenly over the time. Raises BadQuery."""
    start_ms, end_ms = to_ms(started_at), to_ms(ended_at)
    if not 0 <= end_ms - start_ms <= SESSION_MS_MAX:
        raise BadQuery(f"a session from {started_at} to {ended_at} cannot be: give started_at and ended_at in order")
    if energy_mwh and start_ms == end_ms:
        raise BadQuery("energy takes time: give started_at and ended_at")
    power_mw = energy_mwh * UJ_PER_MWH // (end_ms - start_ms) if energy_mwh else 0
    kind = UsageKind.CHARGING if energy_mwh else UsageKind.PARKING
    time = TimeStretch(start_ms, end_ms, kind, power_mw, 0)
    energy = EnergyStretch(start_ms, end_ms, energy_mwh, power_mw, 0) if energy_mwh else None
    return Usage(start_ms, power_mw, 0, (UsageInterval(time, energy),))


def milliwatt_hours(energy_wh: str) -> int:
    """mWh of a decimal text of Wh with at most three digits after the point."""
    whole, _, fraction = energy_wh.partition(".")
    return int(whole + fraction.ljust(_MWH_DIGITS, "0"))
