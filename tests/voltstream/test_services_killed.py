"""One service after the other is stopped or killed while the others run, and started again: nothing lost or doubled.

Each is a process of its own, over PostgreSQL and RabbitMQ. What they are asked for here (`Work`) has events that others
live by, so that the same few questions tell whether everything is caught up, whichever service was away.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import psycopg
import pytest

from tests.private_servers import fresh_database
from tests.voltstream.platform import ENOUGH_S
from tests.voltstream.service_processes import ENDINGS, ServiceProcesses
from tests.waiting import eventually
from voltstream.runtime.database import bring_up_to_date

NAMES: Final = ("stations", "pricing", "config", "reservations", "sessions", "notifications", "reporting", "relay")
CONSUMERS: Final = ("stations", "pricing", "reservations", "notifications", "reporting")  # of what happens here
SCHEMAS: Final = (
    *("stations", "pricing", "config", "reservations", "sessions", "notifications", "reporting", "events"),
)
DEPOT: Final = "KILLED-DEPOT"  # the station whose connectors are reserved, one by each piece of work
CONNECTORS: Final = 200
TAKEN: Final = {"station_id": DEPOT, "connector_id": CONNECTORS}  # reserved from the beginning
LATE_S: Final = 3_000  # no reservation is given up before the tests end
AT_ONCE: Final = 5  # pieces of work whose events are on their way when the service ends
HISTORY_MAX: Final = 100  # as many versions as a page has; all rounds together make 96
POSITION: Final = {"latitude": "52.5", "longitude": "13.4"}
EVSE: Final = {"standard": "IEC_62196_T2_COMBO", "format": "CABLE", "power_type": "DC", "rated_power_w": 150_000}


class Platform(ServiceProcesses):
    """The services' processes, and what was done on them so far."""

    def __init__(self, settings: dict[str, str], logs: Path, stack: ExitStack) -> None:
        super().__init__(settings, logs, stack)
        self.works: list[Work] = []
        self.lates_s: list[int] = []  # set for `reservations.late`, oldest first
        self.versions: list[str] = []  # of the tariff of all stations, oldest first

    def reserve_taken(self) -> None:
        """Have a driver reserve what is TAKEN; repeated, the same reservation."""
        body = {**TAKEN, "duration_s": 3_600, "driver_id": "KILLED-D0"}
        self.ask("reservations", "POST", "/reservations", 201, json=body, headers={"Idempotency-Key": "killed"})

    def in_force(self) -> tuple[str, float]:
        """What others have of pricing and config: the price of 10 kWh, and how late a driver may be, in seconds."""
        query = {**POSITION, "radius_m": "10", "limit": "1"}
        (nearest,) = self.ask("stations", "GET", "/stations/search", 200, params=query)["stations"]
        reservations = self.ask("reservations", "GET", "/reservations", 200, params={"driver_id": "KILLED-D0"})
        (taken,) = reservations["reservations"]
        late = datetime.fromisoformat(taken["late_at"]) - datetime.fromisoformat(taken["starts_at"])
        return nearest["price_10_kwh"]["amount"], late.total_seconds()

    def set_last(self) -> tuple[str, float]:
        """What `in_force` has to come to."""
        return f"{10 * len(self.versions)}.000000", float(self.lates_s[-1])

    def history(self) -> tuple[list[int], list[str]]:
        """As config and pricing have it: `lates_s` and `versions`."""
        changes = self.ask("config", "GET", "/config/history", 200, params={"limit": HISTORY_MAX})["changes"]
        versions = self.ask("pricing", "GET", "/pricing/versions", 200, params={"limit": HISTORY_MAX})["versions"]
        return [one["after"]["value"] for one in changes[::-1]], [one["id"] for one in versions[::-1]]

    @contextmanager
    def consumers_held(self, schema: str) -> Iterator[Callable[[], bool]]:
        """Within the block its consumers get no further than their inbox: whether one has come so far."""
        waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = %s::regclass LIMIT 1"
        inbox = f"{schema}.events_processed"
        with psycopg.connect(self._settings["database_url"]) as connection:
            connection.execute(f"LOCK TABLE {inbox} IN ACCESS EXCLUSIVE MODE".encode())
            yield lambda: bool(self.rows(waiting, inbox))


class Work:
    """What the services were asked for, and whether the others know."""

    def __init__(self, platform: Platform) -> None:
        platform.works.append(self)
        self._platform = platform
        self.number = number = len(platform.works)
        self.driver, self.station, self.group = f"KILLED-D{number}", f"KILLED-{number}", f"killed-{number}"
        self.subject = f"driver/{self.driver}"
        self.reservation = ""

    def ask(self, *names: str) -> None:
        """Have these services do their part of it. The relay has none: it is asked how it is."""
        parts: dict[str, Callable[[], None]] = {
            "stations": self._register,
            "pricing": self._publish,
            "config": self._configure,
            "reservations": self._reserve,
            "sessions": self._charge,
            "notifications": self._announce,
            "reporting": self._analyse,
            "relay": lambda: self._platform.ask_ready("relay"),
        }
        for name in names:
            parts[name]()

    def _register(self) -> None:
        facts = {"station_id": self.station, "name": f"Station {self.number}", "group": self.group, **POSITION}
        connectors = [{"connector_id": 1, **EVSE}]
        self._platform.ask("stations", "POST", "/stations", 201, json={**facts, "connectors": connectors})

    def _reserve(self) -> None:
        new = {"station_id": DEPOT, "connector_id": self.number, "duration_s": 3_600, "driver_id": self.driver}
        self.reservation = self._platform.ask("reservations", "POST", "/reservations", 201, json=new)["id"]

    def _publish(self) -> None:
        price = {"price_components": [{"type": "ENERGY", "price": len(self._platform.versions) + 1, "step_size": 1}]}
        tariff = {"currency": "EUR", "elements": [price]}
        version = {"target": {"default": True}, "time_zone": "UTC", "tariff": tariff}
        self._platform.versions.append(self._platform.ask("pricing", "POST", "/pricing", 201, json=version)["id"])

    def _configure(self) -> None:
        name, seconds = "reservations.late", LATE_S + self.number
        known = self._platform.ask("config", "GET", f"/config/{name}", 200)["version"]
        change = {"name": name, "value": seconds, "version": known, "reason": "a test"}
        self._platform.ask("config", "POST", "/config", 200, json=change)
        self._platform.lates_s.append(seconds)

    def _charge(self) -> None:
        """At a connector that is nobody's; one that is reserved for somebody else is refused, whoever is away."""
        other = {"driver_id": f"KILLED-S{self.number}"}
        self._platform.ask("sessions", "POST", "/sessions", 409, json={**other, **TAKEN})
        place = {"station_id": f"KILLED-OTHER-{self.number}", "connector_id": 1}
        self._platform.ask("sessions", "POST", "/sessions", 202, json={**other, **place})

    def _announce(self) -> None:
        said = {"subjects": [self.subject], "title": "Hello", "text": "World"}
        self._platform.ask("notifications", "POST", "/notifications", 202, json=said)

    def _analyse(self) -> None:
        query = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z", "by": "day"}
        self._platform.ask("reporting", "GET", "/analytics/sessions", 200, params=query)

    def known(self) -> dict[str, bool]:
        """Of each part, by the service that follows it: whether that has its event."""
        platform = self._platform
        group = platform.found("pricing", f"/pricing/groups/{self.group}") or {}
        parking = platform.found("reservations", f"/reservations/parking/{self.station}")
        name = "SELECT name FROM notifications.station WHERE station_id = %s"
        registered = "SELECT count(*) FROM reporting.station WHERE station_id = %s"
        counted = "SELECT DISTINCT station_id FROM reporting.subject WHERE subject_id = %s::uuid"
        connectors = platform.ask("stations", "GET", f"/stations/{DEPOT}/status", 200)["connectors"]
        booking = "SELECT connector_id, open FROM pricing.booking WHERE reservation_id = %s"
        return {
            "station, in pricing": group.get("stations") == [self.station],
            "station, in reservations": parking is not None,
            "station, in notifications": platform.rows(name, self.station) == [(f"Station {self.number}",)],
            "station, in reporting": platform.rows(registered, self.station) == [(1,)],
            "reservation, in reporting": platform.rows(counted, self.reservation) == [(DEPOT,)],
            "reservation, in stations": connectors[self.number - 1]["reserved_until"] is not None,
            "reservation, in pricing": platform.rows(booking, self.reservation) == [(self.number, True)],
            "reservation, its driver": "reservation_created" in self.told(),
        }

    def told(self) -> list[str]:
        """The kinds of what the driver was told."""
        query = {"subject": self.subject}
        found = self._platform.ask("notifications", "GET", "/notifications", 200, params=query)["notifications"]
        return sorted(one["kind"] for one in found)

    def counts(self) -> tuple[int, ...]:
        """Of what is there once: the station's changes, the driver's reservations, the other driver's requests."""
        ask = partial(self._platform.ask, method="GET", status=200)
        history = ask("stations", path=f"/stations/{self.station}/history")["changes"]
        reservations = ask("reservations", path="/reservations", params={"driver_id": self.driver})["reservations"]
        requests = ask("sessions", path="/sessions", params={"driver_id": f"KILLED-S{self.number}"})["sessions"]
        return len(history), len(reservations), len(requests)


@pytest.fixture(scope="module")
def platform(postgres_url: str, rabbitmq_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """All services of NAMES, and a station with connectors to reserve."""
    folder = tmp_path_factory.mktemp("services")
    with fresh_database(postgres_url) as database_url, ExitStack() as stack:
        bring_up_to_date(database_url, 1)
        settings = {
            "database_url": database_url,
            "rabbitmq_url": rabbitmq_url,
            "kafka_url": "127.0.0.1:1",  # nobody asks it
            "partitions": "1",
            "data_dir": str(folder / "data"),
        }
        running = Platform(settings, folder, stack)
        running.start(*NAMES)
        connectors = [{"connector_id": number, **EVSE} for number in range(1, CONNECTORS + 1)]
        station = {"station_id": DEPOT, "name": "Depot", **POSITION, "connectors": connectors}
        running.ask("stations", "POST", "/stations", 201, json=station)
        yield running


@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("name", NAMES)
async def test_while_one_service_is_away_the_others_go_on_and_all_is_caught_up_when_it_is_back(
    platform: Platform, name: str, how: signal.Signals
) -> None:
    await eventually(platform.all_ready, ENOUGH_S)
    await eventually(partial(platform.found, "reservations", f"/reservations/parking/{DEPOT}"), ENOUGH_S)
    platform.reserve_taken()
    works = [Work(platform) for _ in range(AT_ONCE)]
    # Who is killed has taken events and not handled them.
    held = platform.consumers_held(name) if how is signal.SIGKILL and name in CONSUMERS else nullcontext(lambda: True)
    with held as one_is_held:
        for work in works:
            work.ask(*NAMES)
        await eventually(one_is_held, ENOUGH_S)
        platform.end(name, how)

    others = [one for one in NAMES if one != name]
    meanwhile = Work(platform)
    with pytest.raises(httpx.ConnectError):
        meanwhile.ask(name)
    meanwhile.ask(*others)
    assert platform.ready() == dict.fromkeys(others, True)
    if name == "relay":
        assert not any(meanwhile.known().values())

    platform.start(name)
    await eventually(platform.all_ready, ENOUGH_S)
    if name != "relay":
        meanwhile.ask(name)
    with suppress(AssertionError):
        await eventually(lambda: not unknown([*works, meanwhile]), ENOUGH_S)
    assert unknown([*works, meanwhile]) == []
    await eventually(lambda: platform.in_force() == platform.set_last(), ENOUGH_S)
    await eventually(lambda: platform.outboxes(SCHEMAS) == 0, ENOUGH_S)
    assert platform.history() == (platform.lates_s, platform.versions)
    for work in platform.works[-2 * (AT_ONCE + 1) :]:  # once more those before, to which late events came meanwhile
        assert (work.told(), work.counts()) == (["announcement", "reservation_created"], (1, 1, 1))


def unknown(works: list[Work]) -> list[str]:
    """The events that a service has not taken yet."""
    return [f"{what} of {work.number}" for work in works for what, known in work.known().items() if not known]
