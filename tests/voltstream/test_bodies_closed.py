"""What a request says and nobody reads is refused: it sets no field that its operation does not name."""

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, FastAPI

from ingest.gateway import PATH as READINGS
from voltstream.services import all_services

SERVICES = all_services()  # imports what starts a process as it is imported, which a test of this kind may not
OPEN = {
    READINGS,  # unknown fields of a reading are kept as what the device said, and set nothing
    "/api/v1/billing/webhooks/{provider}",  # a provider's own document, read by fields
    "/api/v1/stations/import",  # a file; its documents are StationDocument, which is closed, or OCPI's
}
# Maps, whose keys are the caller's own.
MAPS = {"variables", "modes"}


def _schemas(value: Any, defined: dict[str, Any], path: str, seen: frozenset[str]) -> Iterator[tuple[str, Any]]:
    """The schemas of objects in a schema, with their places."""
    if isinstance(value, list):
        for one in value:
            yield from _schemas(one, defined, path, seen)
    if not isinstance(value, dict):
        return
    name = str(value.get("$ref", "")).rpartition("/")[2]
    if name and name not in seen:
        yield from _schemas(defined[name], defined, path, seen | {name})
    if value.get("type") == "object":
        yield path, value
        for field, inner in value.get("properties", {}).items():
            yield from _schemas(inner, defined, f"{path}/{field}", seen)
    for key in ("anyOf", "oneOf", "allOf", "items", "prefixItems"):
        yield from _schemas(value.get(key), defined, path, seen)


def test_no_body_may_have_a_field_that_its_operation_does_not_name() -> None:
    """Mass assignment."""
    looked_at, wrong = 0, []
    for service in SERVICES:
        if not isinstance(service.router, APIRouter):
            continue
        app = FastAPI()
        app.include_router(service.router)
        document = app.openapi()
        defined = document.get("components", {}).get("schemas", {})
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                content = operation.get("requestBody", {}).get("content", {})
                for media in content.values() if path not in OPEN else ():
                    for place, schema in _schemas(media.get("schema"), defined, f"{method} {path}", frozenset()):
                        looked_at += 1
                        if schema.get("additionalProperties") is not False and place.rpartition("/")[2] not in MAPS:
                            wrong.append(place)
    assert looked_at > 30
    assert wrong == []
