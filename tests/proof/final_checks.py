"""The load of the crash proofs, and their final checks: all invariants once nothing is in flight."""

import time
from collections.abc import Sequence

from schemas.topics import SESSION_COMPLETED
from tests.proof.cluster import Cluster
from tests.proof.load import DeliveryRecord, Load
from tests.proof.telemetry_invariants import newest, outstanding, violations
from tests.waiting import eventually

SETTLE_S = 180  # against hanging
_LEDGER, _LIVE = "/api/v1/telemetry/ledger", "/api/v1/telemetry/live?limit=1000"
_DAY_MS = 86_400_000
_PAST_MS = 7 * _DAY_MS  # the chargers' clocks run faster than real time, and must not overtake it
_BEFORE_MIDNIGHT_MS = 600_000  # the load is of two days: each connector sends a reading every ten seconds


def load_for(urls: Sequence[str], token: str, seed: int) -> Load:
    """A load on these gateways, whose chargers' clocks are a week behind, shortly before midnight."""
    midnight_ms = (int(time.time() * 1_000) - _PAST_MS) // _DAY_MS * _DAY_MS
    return Load(urls, token, midnight_ms - _BEFORE_MIDNIGHT_MS, seed)


async def final_violations(cluster: Cluster, record: DeliveryRecord) -> list[str]:
    """Violations once the ledger is closed and nothing is pending, and services that ended unexpectedly."""

    async def closed() -> bool:
        ledger = await cluster.query(_LEDGER)
        # A gateway reports what it accepted up to a tenth of a second later, so the ledger could close too early.
        return bool(ledger) and ledger["total"]["closed"] and ledger["total"]["accepted"] >= record.items

    async def stale() -> dict[tuple[str, int], str]:
        """Connectors whose newest reading the live view does not show."""
        connectors = (await cluster.query(_LIVE)).get("connectors", [])
        shown = {(c["station_id"], c["connector_id"]): c["ts"] for c in connectors}
        return {who: ts for who, ts in newest(cluster.database_url).items() if shown.get(who) != ts}

    async def up_to_date() -> bool:
        return not await stale()

    broken = [line for service in cluster.services.values() for line in service.unexpected]
    try:
        await eventually(closed, within_s=SETTLE_S)
        await eventually(lambda: outstanding(cluster.database_url) == 0, within_s=SETTLE_S)
    except AssertionError:
        broken.append(f"something is still in flight: {await cluster.query(_LEDGER)}")
    try:
        await eventually(up_to_date, within_s=SETTLE_S)  # a worker may update it a second after its commit
    except AssertionError:
        broken.append(f"the live view is stale: {await stale()}")
    return broken + violations(cluster.database_url, record, cluster.received(SESSION_COMPLETED))
