"""The one list of services. Everything else about a service is in its folder, in its declaration."""

from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

from pydantic import BaseModel

from kit.config.adjustable import adjustables_of
from kit.personal_data import PersonalData
from kit.retention import StandardTableSettings
from kit.service import Backend, Consumes, Service
from kit.web.limits.settings import RequestLimitSettings
from schemas.topics import group_queue
from voltstream.errors import WrongUsage

# In the order in which one process opens them; it closes them the other way round. Where each is declared.
SERVICES: Final = {
    "telemetry": "api.telemetry.declaration:SERVICE",
    "stations": "api.stations.declaration:SERVICE",
    "pricing": "api.pricing.declaration:SERVICE",
    "config": "api.config.declaration:SERVICE",
    "audit": "api.audit.declaration:SERVICE",
    "privacy": "api.privacy.declaration:SERVICE",
    "reservations": "api.reservations.declaration:SERVICE",
    "sessions": "api.sessions.declaration:SERVICE",
    "notifications": "api.notifications.declaration:SERVICE",
    "reporting": "api.reporting.declaration:SERVICE",
    "billing": "billing.declaration:SERVICE",
    "worker": "streams.declaration:SERVICE",
    "gateway": "ingest.declaration:GATEWAY",
    "reingest": "ingest.reingest.declaration:SERVICE",
    "bridge": "ingest.declaration:BRIDGE",
    "relay": "voltstream.runtime.relay:SERVICE",
}
# Names for several: what serves the API, but for the gateway.
SUBSETS: Final = {
    "api": (
        "telemetry",
        "stations",
        "pricing",
        "config",
        "audit",
        "privacy",
        "reservations",
        "sessions",
        "notifications",
        "reporting",
        "billing",
        "reingest",
    ),
}
_SERVERS_OF_BACKENDS: Final[dict[Backend, tuple[str, ...]]] = {
    "live": ("redis_url",),
    "log_writer": ("rabbitmq_url",),
    "log_reader": ("kafka_url",),
    "frames": ("rabbitmq_url", "kafka_url"),
    "config": (),
}
# Those with migrations, which a test holds to their declarations.
OWN_A_SCHEMA: Final = (
    "stations",
    "pricing",
    "config",
    "privacy",
    "reservations",
    "sessions",
    "notifications",
    "reporting",
    "billing",
    "worker",
    "reingest",
    "relay",
)


def service(name: str) -> Service[Any]:
    """The service of that name. Imported when it is asked for: each needs only a part of the product."""
    found: Service[Any] = loaded(SERVICES[name])
    return found


def all_services() -> list[Service[Any]]:
    """All services, in the order of the list."""
    return [service(name) for name in SERVICES]


def named(names: Sequence[str]) -> list[Service[Any]]:
    """These services, subsets among them, each once, in the order of the list. Raises WrongUsage."""
    known = (*SERVICES, *SUBSETS)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = f"{unknown[0]!r} is no service" if unknown else "name a service"
        raise WrongUsage(f"{what}: write one or more of {', '.join(known)}")
    wanted = _spread(names)
    return [service(name) for name in SERVICES if name in wanted]


def _spread(names: Iterable[str]) -> set[str]:
    return {one for name in names for one in SUBSETS.get(name, (name,))}


def queue_of(service: Service[Any], consumes: Consumes[Any]) -> str:
    """The queue of the service's consumer group for these events."""
    return group_queue(consumes.group or service.name, consumes.event_type)


def follows_config(service: Service[Any]) -> bool:
    """Whether operators may change settings of the service while it runs, or it shows them: then its process reads
    every change. One that serves routes has the limits of requests."""
    return (
        service.router is not None
        or "config" in service.backends
        or (service.settings is not None and bool(adjustables_of(service.settings)))
    )


def servers_needed(service: Service[Any]) -> tuple[str, ...]:
    """The settings that name the servers that it connects to and cannot do without, as its declaration has it."""
    needed: list[str] = []
    if service.has_database or service.router is not None:
        needed.append("database_url")
    if service.consumes or service.run_with_bus is not None:
        needed.append("rabbitmq_url")
    needed += (name for backend in sorted(service.backends) for name in _SERVERS_OF_BACKENDS[backend])
    if follows_config(service):
        needed += ("database_url", "rabbitmq_url")
    return tuple(dict.fromkeys(needed))


def settings_groups() -> list[type[BaseModel]]:
    """The groups of settings, `GROUP` of the module `settings` beside a declaration. They are apart from it, because
    every process knows all settings and imports only what it runs. The last two are of all that serve routes, and of
    all that own a schema."""
    return [*_groups_by_service().values(), RequestLimitSettings, StandardTableSettings]


def setting_owners() -> dict[str, tuple[str, ...]]:
    """The services that read a field of the settings, the first of the list, its owner, first."""
    owners: dict[str, tuple[str, ...]] = {}
    for name, group in _groups_by_service().items():
        for field in group.model_fields:
            owners[field] = (*owners.get(field, ()), name)
    return {
        **owners,
        **dict.fromkeys(RequestLimitSettings.model_fields, (*SUBSETS["api"], "gateway")),
        **dict.fromkeys(StandardTableSettings.model_fields, OWN_A_SCHEMA),
    }


def personal_data() -> dict[str, tuple[PersonalData, ...]]:
    """What services hold of drivers, `PERSONAL_DATA` of the module `personal_data` beside a declaration; apart from it
    as the settings are."""
    return {name: module.PERSONAL_DATA for name, module in _beside_declarations("personal_data").items()}


def _groups_by_service() -> dict[str, type[BaseModel]]:
    return {name: module.GROUP for name, module in _beside_declarations("settings").items()}


def _beside_declarations(module: str) -> dict[str, ModuleType]:
    """The modules of that name, by service. Of services in one folder, which share it, the first."""
    folders: dict[str, str] = {}
    for name, place in SERVICES.items():
        folders.setdefault(place.partition(":")[0].rpartition(".")[0], name)
    places = {name: f"{folder}.{module}" for folder, name in folders.items()}
    return {name: import_module(place) for name, place in places.items() if find_spec(place)}


def loaded(place: str) -> Any:
    """The object at `folder.module:NAME`."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
