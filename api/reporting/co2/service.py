"""Publishing and listing factors of CO2e. No HTTP and no SQL here."""

from typing import Any, Final

from api.reporting.co2.factors import UNKNOWN
from api.reporting.co2.models import CountryFactor, FactorTable, FactorVersion, FactorVersions, NewFactors, YearFactor
from api.reporting.co2.shipped import MG_PER_G, add_shipped, rows_of
from api.reporting.co2.store import Co2Store, years
from api.reporting.rollups.store import RollUpStore
from kit.clock import Clock
from kit.messaging.outbox import Transaction
from kit.web.errors import Conflict, NotFound

VERSIONS_MAX: Final = 500  # ~800 B each in the list


class Co2Service:
    """The use cases, one method each, in the open transaction."""

    def __init__(self, store: Co2Store, rollups: RollUpStore, clock: Clock) -> None:
        self._store = store
        self._rollups = rollups
        self._clock = clock

    async def versions(self, connection: Transaction) -> FactorVersions:
        """All of them, newest first."""
        await add_shipped(self._store, connection, self._clock.now())
        rows = await self._store.versions(connection)
        return FactorVersions(versions=[FactorVersion(**row) for row in rows])

    async def table(self, connection: Transaction, version: int) -> FactorTable:
        """A version with its rows. Raises NotFound."""
        await add_shipped(self._store, connection, self._clock.now())
        row, rows = await self._store.version(connection, version)
        if row is None:
            raise NotFound(f"there is no version {version}: GET /api/v1/analytics/co2-factors lists them")
        return FactorTable(
            **row,
            fallback=[YearFactor(**_factor(one)) for one in rows if one["country"] == UNKNOWN],
            factors=[CountryFactor(country=one["country"], **_factor(one)) for one in rows if one["country"]],
        )

    async def publish(self, connection: Transaction, new: NewFactors, by: str) -> FactorTable:
        """A new version; hours of its years are computed again. Raises Conflict.

        Under the lock of roll-ups: what is being computed with the version before is stale, too, and versions have
        numbers without gaps.
        """
        await self._rollups.lock(connection)
        newest = (await self.versions(connection)).versions[0].version
        if newest >= VERSIONS_MAX:
            raise Conflict(f"there are {VERSIONS_MAX} versions already, which is the most that are kept")
        now = self._clock.now()
        await self._store.add(connection, newest + 1, new, rows_of(new), (now, by))
        await self._store.note_all_stale(connection, years(new.from_year, new.to_year), now)
        return await self.table(connection, newest + 1)


def _factor(row: Any) -> dict[str, Any]:
    return {"year": row["year"], "co2e_g_per_kwh": row["mg_per_kwh"] / MG_PER_G}
