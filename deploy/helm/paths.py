"""Which paths of the API lead to which service, as an Ingress says it: an exact path beats a prefix, a longer prefix a
shorter one."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts

from ingest.gateway import PATH
from kit.service import Service
from voltstream.services import all_services

_SEGMENTS: Final = 4  # of "/api/v1/stations", the empty one before the first slash among them


class IngressPath(NamedTuple):
    """One rule of an Ingress."""

    path: str
    kind: str  # Exact or Prefix


def paths_of(one: Service[Any]) -> list[dict[str, str]]:
    """The rules of one service. A prefix that several services share is that of the service with most routes below it;
    the others have their paths one by one. Raises ValueError where such a path has a parameter."""
    all_routes = _all_routes()
    rules = set()
    for route in all_routes[one.name]:
        prefix = _prefix(route)
        below = {name: sum(_prefix(path) == prefix for path in paths) for name, paths in all_routes.items()}
        if max(below, key=below.__getitem__) == one.name:
            rules.add(IngressPath(prefix, "Prefix"))
        elif "{" in route:
            raise ValueError(f"{one.name}: an Ingress cannot tell {route} from the paths of another service")
        else:
            rules.add(IngressPath(route, "Exact"))
    return [{"path": rule.path, "type": rule.kind} for rule in sorted(rules)]


def destination(path: str, rules: Iterable[tuple[str, IngressPath]]) -> str:
    """The service to which an Ingress of these rules, each with its service, passes a request; empty: none."""
    found: Sequence[tuple[bool, int, str]] = [
        (rule.kind == "Exact", len(rule.path), name)
        for name, rule in rules
        if path == rule.path or (rule.kind == "Prefix" and path.startswith(f"{rule.path}/"))
    ]
    return max(found, default=(False, 0, ""))[2]


def routes_of(one: Service[Any]) -> list[str]:
    """Templates of the paths that it serves, `/api/v1/stations/{station_id}`, each once."""
    if one.router is None:
        return []
    if not isinstance(one.router, APIRouter):
        return [PATH]  # the gateway's, which is made as it opens
    app = FastAPI(openapi_url=None)
    app.include_router(one.router)
    return sorted({str(route.path_format) for route in iter_route_contexts(app.routes)})


@cache  # an app of each service takes a tenth of a second
def _all_routes() -> dict[str, list[str]]:
    return {one.name: routes_of(one) for one in all_services()}


def _prefix(route: str) -> str:
    return "/".join(route.split("/")[:_SEGMENTS])
