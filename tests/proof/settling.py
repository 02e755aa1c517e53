"""What every proof begins and ends with: a load, and the laws once nothing is under way any more."""

import time
from collections.abc import Sequence

from schemas.topics import SESSION_COMPLETED
from tests.proof.cluster import Cluster
from tests.proof.laws import breaches, newest, outstanding
from tests.proof.load import Load, Promises
from tests.waiting import eventually

SETTLE_S = 180  # against hanging
_LEDGER, _LIVE = "/api/v1/telemetry/ledger", "/api/v1/telemetry/live?limit=1000"
_PAST_MS = 7 * 86_400_000  # the chargers' clocks run faster than ours; they must not overtake it


def load_for(urls: Sequence[str], token: str, seed: int) -> Load:
    """Clients of these gateways, whose chargers' time is a week ago."""
    return Load(urls, token, int(time.time() * 1_000) - _PAST_MS, seed)


async def broken_laws(cluster: Cluster, promises: Promises) -> list[str]:
    """Breaches once the ledger is closed and nothing waits; and services that ended by themselves."""

    async def closed() -> bool:
        ledger = await cluster.asked(_LEDGER)
        # A gateway says what it has accepted up to a tenth of a second later: closed may be of what was before.
        return bool(ledger) and ledger["total"]["closed"] and ledger["total"]["accepted"] >= promises.items

    async def stale() -> dict[tuple[str, int], str]:
        """Connectors of which the live view does not show the newest reading."""
        told = (await cluster.asked(_LIVE)).get("connectors", [])
        shown = {(c["station_id"], c["connector_id"]): c["ts"] for c in told}
        return {who: ts for who, ts in newest(cluster.database_url).items() if shown.get(who) != ts}

    async def up_to_date() -> bool:
        return not await stale()

    broken = [line for service in cluster.services.values() for line in service.unexpected]
    try:
        await eventually(closed, within_s=SETTLE_S)
        await eventually(lambda: outstanding(cluster.database_url) == 0, within_s=SETTLE_S)
    except AssertionError:
        broken.append(f"something is still under way: {await cluster.asked(_LEDGER)}")
    try:
        await eventually(up_to_date, within_s=SETTLE_S)  # a worker may show it a second after its commit
    except AssertionError:
        broken.append(f"the live view is stale: {await stale()}")
    return broken + breaches(cluster.database_url, promises, cluster.heard(SESSION_COMPLETED))
