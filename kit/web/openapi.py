"""The OpenAPI document: FastAPI's own, in which every operation names each status that it may be answered with, and
every error is a Problem.

What follows from how requests are served, from the rules of a route, its parameters and its body is derived here, for
all routes; a route declares only what is its own (`kit.web.parameters.problems`).
"""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path

from kit.web.problem import MEDIA_TYPE
from kit.web.route_rules import RouteRules, rules_of

# Of every operation: most of them before it is known which one is meant (kit/web/serving, kit/web/limits).
_SERVED: Final[Mapping[int, str]] = {
    400: "Not HTTP, or a body that is not JSON",
    408: "The request, or its body, came too slowly",
    421: "Addressed to another host",
    429: "More requests or connections than are allowed; see Retry-After",
    431: "The head of the request is too long",
    500: "An error on our side; it is logged under the correlation id",
    503: "A dependency does not answer, or a bound is reached; see Retry-After",
}
_OF_TOKENS: Final[Mapping[int, str]] = {
    401: "No token, or one that is unknown, expired or revoked",
    403: "A token without the scope that this needs, which the detail names, or for other stations",
}
_OF_BODIES: Final[Mapping[int, str]] = {413: "The body is longer than this operation takes"}
_OF_PATHS: Final[Mapping[int, str]] = {404: "There is nothing of that name"}
_OF_INPUT: Final[Mapping[int, str]] = {
    422: "Something in the request is wrong; the detail says what and how to put it right"
}
_API: Final = "/api/"  # whose operations refuse parameters that they do not have
_BY_FASTAPI: Final = "Validation Error"  # its description of 422, which says less

_PROBLEM_SCHEMA: Final = {
    "title": "Problem",
    "description": "RFC 9457 problem details",
    "type": "object",
    "required": ["type", "title", "status", "detail", "correlation_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "examples": ["about:blank"]},
        "title": {"type": "string", "examples": ["Unprocessable Entity"]},
        "status": {"type": "integer", "minimum": 400, "maximum": 599, "examples": [422]},
        "detail": {"type": "string", "description": "What is wrong with this request, and how to fix it"},
        "correlation_id": {"type": "string", "description": "As in the X-Correlation-ID header and in our logs"},
        "errors": {
            "type": "array",
            "description": "Each thing that is wrong, where there are several",
            "items": {
                "type": "object",
                "required": ["location", "detail"],
                "properties": {"location": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
    "additionalProperties": True,
}
_UNUSED_SCHEMAS: Final = ("HTTPValidationError", "ValidationError")


def install_openapi(app: FastAPI) -> None:
    """Make `app.openapi` describe every status."""
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend the schema


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Made once."""
    if app.openapi_schema:
        return app.openapi_schema
    schema = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
    )
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in _UNUSED_SCHEMAS:
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM_SCHEMA
    rules = dict(_rules(app))
    for path, operations in schema.get("paths", {}).items():
        for method, operation in operations.items():
            _describe_errors(operation["responses"], _statuses(path, operation, rules.get((method, path))))
    app.openapi_schema = schema
    return schema


def _rules(app: FastAPI) -> Iterator[tuple[tuple[str, str], RouteRules]]:
    for route in iter_route_contexts(app.routes):
        _, path, _ = compile_path(str(route.path))  # as the document has it: without converters
        for method in route.methods or ():
            yield (method.lower(), path), rules_of(route)


def _statuses(path: str, operation: Mapping[str, Any], rules: RouteRules | None) -> dict[int, str]:
    """What an operation may be answered with, besides what it declares."""
    found = dict(_SERVED)
    if rules is not None and rules.scope is not None:
        found |= _OF_TOKENS
    if "{" in path:
        found |= _OF_PATHS
    if "requestBody" in operation:
        found |= {**_OF_BODIES, **_OF_INPUT}
    if path.startswith(_API) or operation.get("parameters"):
        found |= _OF_INPUT
    return found


def _describe_errors(responses: dict[str, Any], statuses: Mapping[int, str]) -> None:
    if responses.get("422", {}).get("description") == _BY_FASTAPI:
        del responses["422"]
    for status, text in sorted(statuses.items()):
        responses.setdefault(str(status), {"description": text})
    for name, response in responses.items():
        if name[0] in "45" and MEDIA_TYPE not in response.get("content", {}):
            schema, example = {"$ref": "#/components/schemas/Problem"}, _example(int(name), response["description"])
            response["content"] = {MEDIA_TYPE: {"schema": schema, "example": example}}


def _example(status: int, detail: str) -> dict[str, Any]:
    title, correlation_id = HTTPStatus(status).phrase, "c40b5d0b4f2f4b6b8f0d6a4f0a6c7d21"
    return {"type": "about:blank", "title": title, "status": status, "detail": detail, "correlation_id": correlation_id}
