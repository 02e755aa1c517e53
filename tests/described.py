"""An API held to its OpenAPI: questions that it allows or forbids, and answers as it says."""

from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance


def cases_of(operation: Any) -> st.SearchStrategy[schemathesis.Case[Any]]:
    """Questions as the operation allows them, and as it does not."""
    return st.one_of([operation.as_strategy(generation_mode=mode) for mode in GenerationMode])


def answers_as_described(case: schemathesis.Case[Any], base_url: str, headers: dict[str, str]) -> None:
    """Asks it: no server error, and nothing that the OpenAPI does not say."""
    response = case.call(base_url=base_url, headers=headers)
    assert response.status_code < 500, response.text
    if "x-correlation-id" not in response.headers:  # a URL beyond 64 kB: the HTTP server's own refusal
        assert response.status_code == 400
        return
    case.validate_response(response, checks=[content_type_conformance, response_schema_conformance])
