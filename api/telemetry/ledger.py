"""The arithmetic of the two ledgers: how many readings were accepted and what became of them, and whose the energy is
that meters measured. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from api.telemetry.models import ConnectorEnergy, Energy, EnergyEntry, Ledger, LedgerEntry, LedgerPartition
from schemas.energy import ENERGY_SHARES, EnergyShare, RejectReason
from schemas.reading import MAIN_METER, MILLI

_OUTCOMES = ("stored", "duplicate", "quarantined")
_COUNTS = (*_OUTCOMES, "replayed", "in_windows")


class _Counter(msgspec.Struct):
    items_total: int


_counters = msgspec.json.Decoder(_Counter)


def ledger_of(
    entries: Iterable[Mapping[str, Any]], sources: Iterable[Mapping[str, Any]], counters: Mapping[str, bytes]
) -> Ledger:
    """The ledger from the rows of telemetry.ledger and telemetry.ledger_source and the gateways' live counters.

    A source has accepted the larger of its own counter (key "source/partition") and the figure of its newest frame that
    a worker has stored: either may be behind, neither is ever ahead. Raises msgspec.MsgspecError where a live counter
    is not `{"items_total": n}`.
    """
    accepted: dict[tuple[int, str], int] = defaultdict(int)
    for row in sources:
        accepted[row["partition"], row["source"]] = row["items_total"]
    for key, document in counters.items():
        source, _, partition = key.rpartition("/")
        known = (int(partition), source)
        accepted[known] = max(accepted[known], _counters.decode(document).items_total)
    outcomes = {row["partition"]: row for row in entries}
    partitions = [
        LedgerPartition(partition=partition, **_entry(_accepted_of(partition, accepted), outcomes.get(partition, {})))
        for partition in sorted({partition for partition, _ in accepted} | set(outcomes))
    ]
    sums = {name: sum(getattr(entry, name) for entry in partitions) for name in _COUNTS}
    total = LedgerEntry(**_entry(sum(entry.accepted for entry in partitions), sums))
    return Ledger(total=total, partitions=partitions)


def _accepted_of(partition: int, accepted: Mapping[tuple[int, str], int]) -> int:
    return sum(items for (known, _), items in accepted.items() if known == partition)


def _entry(accepted: int, outcomes: Mapping[str, int]) -> dict[str, Any]:
    counts = {name: outcomes.get(name, 0) for name in _COUNTS}
    in_flight = accepted - sum(counts[name] for name in _OUTCOMES)
    closed = in_flight == 0 and counts["in_windows"] == counts["stored"]
    return {"accepted": accepted, **counts, "in_flight": in_flight, "closed": closed}


def energy_of(
    station_id: str,
    start: datetime,
    end: datetime,
    connectors: Iterable[tuple[int, int]],
    sums: Mapping[int, Mapping[str, Any]],
) -> Energy:
    """The ledger of energy. `connectors`: (connector_key, connector_id); `sums`: by key, in mWh, of those with any."""
    nothing = dict.fromkeys(ENERGY_SHARES, 0)
    energies = {number: [sums.get(key, nothing)[name] for name in ENERGY_SHARES] for key, number in connectors}
    own = {number: parts for number, parts in energies.items() if number != MAIN_METER}
    return Energy.model_validate(
        {
            "station_id": station_id,
            "from": start,
            "to": end,
            "total": _energy([sum(column) for column in zip(*own.values(), strict=True)] or list(nothing.values())),
            "connectors": [
                ConnectorEnergy(connector_id=number, **_energy(parts).model_dump())
                for number, parts in sorted(own.items())
            ],
            "main_meter": _energy(energies[MAIN_METER]) if MAIN_METER in energies else None,
        }
    )


def _energy(energy_mwh: Sequence[int]) -> EnergyEntry:
    """From the energy of each of ENERGY_SHARES."""
    shares = dict(zip(ENERGY_SHARES.values(), energy_mwh, strict=True))
    rejected = {reason: shares[EnergyShare("rejected", reason)] for reason in RejectReason}
    return EnergyEntry(
        rise_wh=sum(energy_mwh) / MILLI,
        in_sessions_wh=shares[EnergyShare("session")] / MILLI,
        outside_wh=shares[EnergyShare("outside")] / MILLI,
        rejected_wh=sum(rejected.values()) / MILLI,
        rejected_by_reason_wh={reason: energy / MILLI for reason, energy in rejected.items()},
    )
