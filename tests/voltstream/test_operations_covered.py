"""Every operation of every service is among those that its tests ask with generated requests and with every token."""

from collections.abc import Iterable

from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts

from ingest.gateway import PATH
from tests.api import (
    test_api_audit,
    test_api_config,
    test_api_edge,
    test_api_pricing_operations,
    test_api_privacy,
    test_api_reservations,
    test_api_stations,
    test_notifications_api,
)
from tests.api.reporting import test_reporting_edge
from tests.billing import test_billing_edge
from tests.ingest import test_reingest_http
from voltstream.services import all_services


def _lower(operations: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    return {(method.lower(), path) for method, path in operations}


ASKED = {
    *(("get", path) for path in test_api_edge.OPERATIONS),
    *(("post", path) for path in test_api_edge.POSTS),
    *test_api_audit.OPERATIONS,
    *test_api_config.OPERATIONS,
    *test_api_pricing_operations.OPERATIONS,
    *test_api_privacy.OPERATIONS,
    *test_api_reservations.OPERATIONS,
    *test_api_stations.OPERATIONS,
    *test_notifications_api.OPERATIONS,
    *test_reporting_edge.OPERATIONS,
    *_lower(test_billing_edge.OPERATIONS | test_billing_edge.FILES | test_billing_edge.WITHOUT_BODY),
    ("post", PATH),  # tests/ingest/test_ingest_gateway.py
    *_lower(test_reingest_http.OPERATIONS),
}


def test_no_operation_of_a_service_is_left_out() -> None:
    declared = set()
    for service in all_services():
        if isinstance(service.router, APIRouter):
            app = FastAPI()
            app.include_router(service.router)
            for route in iter_route_contexts(app.routes):
                if str(route.path_format).startswith("/api/"):
                    declared |= {(method.lower(), str(route.path_format)) for method in route.methods or ()}
    assert declared - ASKED == set()
