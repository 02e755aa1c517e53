"""Demand rules over HTTP: one path for each kind of target, all for operators."""

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Path

from api.parameters import StationInPath
from api.pricing import examples
from api.pricing.demand.service import DemandService
from api.pricing.models import DEFAULT, DemandRule, DemandState, Group, Target
from api.pricing.routes import PREFIX, Operator
from kit.auth.authenticator import require_kinds
from kit.web.exact_json import ExactJsonRoute
from kit.web.parameters import example, problems


def _station(station_id: StationInPath) -> Target:
    return Target("station", station_id)


def _group(group: Annotated[Group, Path(openapi_examples={"group": {"value": "airport"}})]) -> Target:
    return Target("group", group)


def _default() -> Target:
    return DEFAULT


_TARGETS: Final[dict[str, Callable[..., Target]]] = {
    "/stations/{station_id}": _station,
    "/groups/{group}": _group,
    "/default": _default,
}
_NO_RULE: Final = {404: "The target has no demand rule"}
_RULE_EXAMPLES: Final[dict[str, Any]] = {"a group's": {"value": examples.DEMAND_RULE}}


class DemandRoutes:
    """The handlers, and where they stand."""

    def __init__(self, service: DemandService) -> None:
        self._service = service

    def router(self) -> APIRouter:
        """All operations, for operators only."""
        router = APIRouter(
            prefix=f"{PREFIX}/demand",
            tags=["pricing"],
            dependencies=[Depends(require_kinds("operator"))],
            route_class=ExactJsonRoute,
        )
        for path, target in _TARGETS.items():
            self._add(router, path, target)
        return router

    def _add(self, router: APIRouter, path: str, target_of_path: Callable[..., Target]) -> None:
        named = Annotated[Target, Depends(target_of_path)]

        async def show(target: named) -> DemandState:
            """Where the rule stands, and the demand it would decide on now."""
            return await self._service.state(target)

        async def put(
            target: named,
            rule: Annotated[DemandRule, Body(openapi_examples=_RULE_EXAMPLES)],
        ) -> DemandState:
            """Demand moves the ENERGY prices of the operators' tariff step by step within the bounds, each step a new
            version. The same rule again changes nothing; another one begins at the base price.
            """
            return await self._service.put(target, rule)

        async def delete(target: named, operator: Operator) -> None:
            """Demand moves nothing any more; where it has, the operators' tariff is published again."""
            await self._service.delete(target, operator)

        state: dict[int | str, Any] = {200: example(examples.DEMAND_STATE)}
        router.add_api_route(path, show, summary="A demand rule", responses={**problems(_NO_RULE), **state})
        router.add_api_route(
            path, put, methods=["PUT"], summary="Let demand move prices", responses={**problems({}), **state}
        )
        router.add_api_route(
            path,
            delete,
            methods=["DELETE"],
            status_code=204,
            summary="End a demand rule",
            responses=problems(_NO_RULE),
        )
