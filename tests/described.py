"""Checks an API against its OpenAPI document with generated valid and invalid requests."""

from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance


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
