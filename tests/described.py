"""Checks an API against its OpenAPI document with generated valid and invalid requests."""

from collections.abc import Collection, Mapping
from typing import Any

import httpx
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance


async def asked_only_by(
    client: httpx.AsyncClient, tokens: Mapping[Any, str], method: str, address: str, kinds: Collection[str]
) -> None:
    """Tokens of these kinds, and no others, are let through to an operation; one that nobody knows is refused."""
    for kind, token in tokens.items():
        answer = await client.request(method, address, headers={"authorization": f"Bearer {token}"}, json={})
        assert (answer.status_code == 403) == (kind not in kinds), (kind, answer.text)
    for authorization in ("Bearer vso_unknown", "Basic x"):
        answer = await client.request(method, address, headers={"authorization": authorization}, json={})
        assert answer.status_code == 401


async def described_are(client: httpx.AsyncClient, operations: Collection[tuple[str, str]]) -> None:
    """These (method, path), and no others, are in the OpenAPI document: with an example and the usual problems."""
    paths = (await client.get("/openapi.json")).json()["paths"]
    described = {(method, path) for path in paths for method in paths[path] if path.startswith("/api/")}
    assert described == set(operations)
    for method, path in operations:
        operation = paths[path][method]
        assert operation["summary"], path
        assert operation["description"], path
        assert operation["security"], path
        assert {"401", "403", "422", "503"} <= set(operation["responses"]), path
        for status, response in operation["responses"].items():
            if status in ("200", "201"):
                assert "example" in response["content"]["application/json"], path


def cases_of(operation: Any) -> st.SearchStrategy[schemathesis.Case[Any]]:
    """Requests that the operation allows, and requests that it does not."""
    return st.one_of([operation.as_strategy(generation_mode=mode) for mode in GenerationMode])


def answers_as_described(case: schemathesis.Case[Any], base_url: str, headers: dict[str, str]) -> None:
    """Send the request: no server error, and a response as the OpenAPI document describes it."""
    response = case.call(base_url=base_url, headers=headers)
    assert response.status_code < 500, response.text
    if "x-correlation-id" not in response.headers:  # a URL beyond 64 kB is refused by the HTTP server itself
        assert response.status_code == 400
        return
    case.validate_response(response, checks=[content_type_conformance, response_schema_conformance])
