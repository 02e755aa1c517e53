"""Demand rules over HTTP: one path for each kind of target, all for operators."""

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Path

from api.names import GroupName
from api.parameters import StationInPath
from api.pricing import examples
from api.pricing.demand.models import DemandRule, DemandState
from api.pricing.models import DEFAULT, TariffTarget
from api.pricing.routes import PREFIX, Provided
from kit.auth.requirements import require_scope
from kit.auth.token_store import Principal
from kit.web.json_body import ExactJsonRoute
from kit.web.parameters import example, problems


def _station(station_id: StationInPath) -> TariffTarget:
    return TariffTarget("station", station_id)


def _group(group: Annotated[GroupName, Path(openapi_examples={"group": {"value": "airport"}})]) -> TariffTarget:
    return TariffTarget("group", group)


def _default() -> TariffTarget:
    return DEFAULT


_TARGETS: Final[dict[str, Callable[..., TariffTarget]]] = {
    "/stations/{station_id}": _station,
    "/groups/{group}": _group,
    "/default": _default,
}
_NO_RULE: Final = {404: "The target has no demand rule"}
_STATE: Final[dict[int | str, Any]] = {200: example(examples.DEMAND_STATE)}
_RULE_EXAMPLES: Final[dict[str, Any]] = {"a group's": {"value": examples.DEMAND_RULE}}


_READS: Final = Depends(require_scope("demand:read"))
_CHANGES: Final = Depends(require_scope("demand:write"))

router = APIRouter(prefix=f"{PREFIX}/demand", tags=["pricing"], route_class=ExactJsonRoute)


def _add(path: str, target_of_path: Callable[..., TariffTarget]) -> None:
    """The operations of one kind of target."""
    named = Annotated[TariffTarget, Depends(target_of_path)]

    @router.get(path, dependencies=[_READS], summary="A demand rule", responses={**problems(_NO_RULE), **_STATE})
    async def show(pricing: Provided, target: named) -> DemandState:
        """The rule's state, and the demand by which it would decide now."""
        return await pricing.demand.state(target)

    @router.put(path, dependencies=[_CHANGES], summary="Let demand move prices", responses=_STATE)
    async def put(
        pricing: Provided, target: named, rule: Annotated[DemandRule, Body(openapi_examples=_RULE_EXAMPLES)]
    ) -> DemandState:
        """Demand moves the ENERGY prices of the operators' tariff step by step within the bounds, each step a new
        version. The same rule again changes nothing; another one begins at the base price.
        """
        return await pricing.demand.put(target, rule)

    @router.delete(path, status_code=204, summary="End a demand rule", responses=problems(_NO_RULE))
    async def delete(pricing: Provided, target: named, operator: Annotated[Principal, _CHANGES]) -> None:
        """Demand no longer moves prices; where it has, the operators' tariff is published again."""
        await pricing.demand.delete(target, operator)


for _path, _target_of_path in _TARGETS.items():
    _add(_path, _target_of_path)
