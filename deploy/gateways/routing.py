"""Which service answers which paths, where each is a process of its own. Derived from the routes that they declare."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, cast

from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts

from ingest.gateway import Gateway, make_router
from ingest.settings import IngestSettings
from kit.service import Service
from kit.web.route_rules import rules_of
from voltstream.services import all_services

API: Final = "/api/v1/"
# Its requests may be sent a second time though the first may have been taken: a reading is known by what it says, and
# is stored once (docs/adr/0005). Of any other POST only the client knows (Idempotency-Key).
REPEATABLE: Final = frozenset({"gateway"})


@dataclass(frozen=True, slots=True)
class Operation:
    """A public operation of a service."""

    service: str
    method: str
    path: str  # a template
    body_bytes_max: int


@dataclass(frozen=True, slots=True)
class Routing:
    """What goes to one service: `exact` paths, and all below `prefixes`, unless it is an exact path of another."""

    service: str
    exact: tuple[str, ...]
    prefixes: tuple[str, ...]
    body_bytes_max: int  # of all its operations
    repeatable: bool = False


def operations() -> Iterator[Operation]:
    """Of all services, in the order of the list."""
    for service in all_services():
        for route in iter_route_contexts(_app(service).routes):
            path = str(route.path_format)
            if path.startswith(API):
                for method in sorted(route.methods or ()):
                    yield Operation(service.name, method, path, rules_of(route).body_bytes_max)


def routings() -> tuple[Routing, ...]:
    """Of all services with routes, in the order of the list.

    A first part of a path is the service's that alone has it, or that alone has more than literal paths there; those
    of others are exact. Raises ValueError where that decides nothing.
    """
    declared = list(operations())
    owners = _owners(declared)
    found = []
    for name in dict.fromkeys(one.service for one in declared):
        own = [one for one in declared if one.service == name]
        exact = {one.path for one in own if owners[_prefix(one.path)] != name}
        prefixes = {_prefix(one.path) for one in own if owners[_prefix(one.path)] == name}
        longest = max(one.body_bytes_max for one in own)
        found.append(Routing(name, tuple(sorted(exact)), tuple(sorted(prefixes)), longest, name in REPEATABLE))
    return tuple(found)


def _owners(declared: list[Operation]) -> Mapping[str, str]:
    """Prefix -> the service that answers whatever is below it."""
    services: dict[str, set[str]] = defaultdict(set)
    with_parameters: dict[str, set[str]] = defaultdict(set)
    for one in declared:
        prefix = _prefix(one.path)
        services[prefix].add(one.service)
        if "{" in one.path:
            with_parameters[prefix].add(one.service)
    owners = {}
    for prefix, names in services.items():
        candidates = names if len(names) == 1 else with_parameters[prefix]
        if len(candidates) != 1:
            raise ValueError(f"{prefix}: of {', '.join(sorted(names))} one alone may have parameters in paths there")
        (owners[prefix],) = candidates
    return owners


def _prefix(path: str) -> str:
    """/api/v1/stations of /api/v1/stations/{station_id}."""
    return API + path.removeprefix(API).partition("/")[0]


def _app(service: Service[Any]) -> FastAPI:
    app = FastAPI()
    if isinstance(service.router, APIRouter):
        app.include_router(service.router)
    elif service.router is not None:  # the gateway's has its bound of bodies from the settings
        unopened = cast("Gateway", SimpleNamespace(take=None, handle=None))
        app.include_router(make_router(unopened, IngestSettings().body_bytes_max))
    return app
