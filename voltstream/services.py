"""The one list of services. Everything else about a service is in its folder, in its declaration."""

from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from pydantic import BaseModel

from kit.service import Consumes, Service
from schemas.topics import group_queue
from voltstream.errors import WrongUsage

# In the order in which one process opens them; it closes them the other way round. Where each is declared.
SERVICES: Final = {
    "telemetry": "api.telemetry.declaration:SERVICE",
    "stations": "api.stations.declaration:SERVICE",
    "pricing": "api.pricing.declaration:SERVICE",
    "sessions": "api.sessions.declaration:SERVICE",
    "billing": "billing.declaration:SERVICE",
    "worker": "streams.declaration:SERVICE",
    "gateway": "ingest.declaration:GATEWAY",
    "bridge": "ingest.declaration:BRIDGE",
    "relay": "voltstream.runtime.relay:SERVICE",
}
# Names for several: what serves the API, but for the gateway.
SUBSETS: Final = {"api": ("telemetry", "stations", "pricing", "sessions", "billing")}


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


def settings_groups() -> list[type[BaseModel]]:
    """The groups of settings, `GROUP` of the module `settings` beside a declaration. They are apart from it, because
    every process knows all settings and imports only what it runs."""
    folders = dict.fromkeys(place.partition(":")[0].rpartition(".")[0] for place in SERVICES.values())
    modules = [f"{folder}.settings" for folder in folders]
    return [import_module(module).GROUP for module in modules if find_spec(module)]


def loaded(place: str) -> Any:
    """The object at `folder.module:NAME`."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
