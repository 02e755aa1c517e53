"""The probe of both ledgers: figures of the one, and a sample of connectors of the other, as metrics with alerts.

Readings: an item that was accepted a while ago has an outcome by now, and is in its window (deploy/prometheus compares
the figures with those of 15 minutes before). Energy: over an hour that is past, a connector's windows have the energy
that its readings account for, and that is what its register rose by. Late readings reach their windows seconds after
they are stored, so a connector counts once it was found twice, with the same hour.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from api.telemetry.service import TelemetryService
from api.telemetry.store import EnergyBalance, TelemetryStore
from kit.clock import Clock
from kit.instants import floor_to
from kit.observability.logs import get_logger

EVERY_S: Final = 60.0
SAMPLE: Final = 20  # connectors a look: an hour of 20 at a reading a second is 72,000 rows, ~50 ms
HOUR: Final = timedelta(hours=1)
SETTLED: Final = timedelta(minutes=15)  # since the end of the hour that is looked at

_log = get_logger(__name__)


class LedgerMetrics:
    """What the probe found."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.readings = Gauge(
            "ledger_readings",
            "The ledger of readings, by state: accepted, accounted (stored, duplicate or quarantined), stored, "
            "in_windows",
            ("partition", "state"),
            registry=registry,
        )
        self.checked = Counter(
            "energy_ledger_checked_connectors",
            "Connectors of which an hour of the ledger of energy was added up",
            registry=registry,
        )
        self.unbalanced = Counter(
            "energy_ledger_unbalanced_connectors",
            "Those of which it did not close, twice: an alert on any",
            registry=registry,
        )


class LedgerProbe:
    """Looks at the ledgers, a sample of connectors each time and all of them in turn."""

    def __init__(self, service: TelemetryService, store: TelemetryStore, clock: Clock, metrics: LedgerMetrics) -> None:
        self._service = service
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._after = 0  # the last connector that was looked at
        self._suspects: dict[int, datetime] = {}  # connectors, and the hour of which

    async def look(self) -> None:
        """One look at both. Raises Unavailable."""
        try:
            partitions = (await self._service.ledger()).partitions
        except (ValueError, RecursionError) as error:  # something else wrote the live view: the API answers 500
            _log.warning("ledger_unreadable", error=str(error))
            partitions = []
        for entry in partitions:
            figures = {
                "accepted": entry.accepted,
                "accounted": entry.accepted - entry.in_flight,
                "stored": entry.stored,
                "in_windows": entry.in_windows,
            }
            for state, count in figures.items():
                self._metrics.readings.labels(str(entry.partition), state).set(count)
        await self._look_again()
        start = floor_to(self._clock.now() - SETTLED - HOUR, timedelta(minutes=1))
        connectors = await self._store.connectors_after(self._after, SAMPLE)
        self._after = connectors[-1] if len(connectors) == SAMPLE else 0
        unbalanced = await self._unbalanced(connectors, start)
        self._metrics.checked.inc(len(connectors))
        self._suspects |= {one.connector_key: start for one in unbalanced}

    async def _look_again(self) -> None:
        suspects, self._suspects = self._suspects, {}
        for start in set(suspects.values()):
            for one in await self._unbalanced([key for key, hour in suspects.items() if hour == start], start):
                self._metrics.unbalanced.inc()
                _log.error(
                    "energy_ledger_does_not_close",
                    **{name: getattr(one, name) for name in EnergyBalance._fields},
                    start=start.isoformat(),
                    end=(start + HOUR).isoformat(),
                )

    async def _unbalanced(self, connectors: Sequence[int], start: datetime) -> list[EnergyBalance]:
        balances = await self._store.energy_balances(connectors, start, start + HOUR)
        return [one for one in balances if not one.closes]
