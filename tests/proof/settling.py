"""What every proof begins and ends with: a load, and the laws once nothing is under way any more."""

import time
from collections.abc import Sequence

from tests.proof.cluster import Cluster
from tests.proof.laws import breaches, outstanding
from tests.proof.load import Load, Promises
from tests.waiting import eventually

SETTLE_S = 180  # against hanging
_PAST_MS = 7 * 86_400_000  # the chargers' clocks run faster than ours; they must not overtake it


def load_for(urls: Sequence[str], token: str, seed: int) -> Load:
    """Clients of these gateways, whose chargers' time is a week ago."""
    return Load(urls, token, int(time.time() * 1_000) - _PAST_MS, seed)


async def broken_laws(cluster: Cluster, promises: Promises) -> list[str]:
    """Breaches once the ledger is closed and nothing waits; and services that ended by themselves."""

    async def closed() -> bool:
        ledger = await cluster.ledger()
        return bool(ledger) and bool(ledger["closed"])

    broken = [line for service in cluster.services.values() for line in service.unexpected]
    try:
        await eventually(closed, within_s=SETTLE_S)
        await eventually(lambda: outstanding(cluster.database_url) == 0, within_s=SETTLE_S)
    except AssertionError:
        broken.append(f"something is still under way: {await cluster.ledger()}")
    return broken + breaches(cluster.database_url, promises, cluster.completed())
