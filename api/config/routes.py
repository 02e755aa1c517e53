"""Settings and flags over HTTP. Thin: parameters in, one call of the service, one response out.

Literal paths stand before `/{name}`; the name of a setting has a dot, so it is none of them.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Body, Depends, Path, Query, Request
from fastapi.responses import Response

from api.config import examples
from api.config.components import ConfigComponents
from api.config.models import (
    VERSION_MAX,
    ConfigChange,
    ConfigHistory,
    Name,
    NewRule,
    NewValue,
    Reason,
    Setting,
    SettingList,
)
from api.config.store import SCHEMA
from kit.auth.requirements import require_scope
from kit.auth.token_store import Principal
from kit.messaging.outbox import Transaction
from kit.service import provided
from kit.web.idempotency import Idempotent, RequestIdentity, StoredResponse
from kit.web.json_body import JsonRoute
from kit.web.paging import link_header, next_url
from kit.web.parameters import JSON, CursorInQuery, example, problems
from kit.web.route_rules import BODY_BYTES_MAX

PREFIX: Final = "/api/v1/config"
CHANGES_MAX: Final = 500  # a flag's rule is 120 kB at most and ~200 B as a rule
CHANGES_DEFAULT: Final = 50
_TOO_LARGE: Final = {413: f"The body is larger than {BODY_BYTES_MAX // 1024} KiB"}
_UNKNOWN: Final = {404: "There is no such setting"}
_CHANGING: Final = {**_UNKNOWN, 409: "It was changed since that version, or the Idempotency-Key was used otherwise"}

Provided = Annotated[ConfigComponents, Depends(provided(ConfigComponents))]
Editor = Annotated[Principal, Depends(require_scope("config:write"))]
Reader = Annotated[Principal, Depends(require_scope("config:read"))]
NameInPath = Annotated[Name, Path(openapi_examples={"settling time": {"value": "billing.settle_time"}})]
DryRun = Annotated[bool, Query(description="say what would change and whom it touches, and change nothing")]

router = APIRouter(prefix=PREFIX, tags=["config"], route_class=JsonRoute)


@router.get("", summary="All settings", responses={200: example(examples.SETTINGS)})
async def settings(config: Provided, reader: Reader) -> SettingList:
    """Each with its bounds, its value, and where that is from. Finance sees the settings of money."""
    return await config.service.settings(reader)


@router.post(
    "",
    summary="Set a value",
    response_model=ConfigChange,
    responses={**problems({**_CHANGING, **_TOO_LARGE}), 200: example(examples.CHANGE)},
)
async def set_value(
    config: Provided,
    body: Annotated[NewValue, Body(openapi_examples={"settling time": {"value": examples.NEW_VALUE}})],
    operator: Editor,
    once: Idempotent,
    dry_run: DryRun = False,
) -> Response:
    """It takes effect in every process within a second, without a restart. `version` is the one that you read: where
    somebody else was faster the answer is 409, and nothing is changed.
    """
    work = partial(config.service.set_value, new=body, operator=operator, dry_run=dry_run)
    return await _once(config, work, once, dry_run=dry_run)


@router.get("/flags", summary="All feature flags", responses={200: example(examples.FLAGS)})
async def flags(config: Provided, reader: Reader) -> SettingList:
    """Those of the settings that may differ from one station, organisation or role to the next."""
    return await config.service.settings(reader, flags_only=True)


@router.post(
    "/flags",
    summary="Set a flag's rule",
    response_model=ConfigChange,
    responses={**problems({**_CHANGING, **_TOO_LARGE}), 200: example(examples.RULE_CHANGE)},
)
async def set_rule(
    config: Provided,
    body: Annotated[NewRule, Body(openapi_examples={"a tenth": {"value": examples.NEW_RULE}})],
    operator: Editor,
    once: Idempotent,
    dry_run: DryRun = False,
) -> Response:
    """For whom the flag is on: not where `enabled` is false; not for those excepted; else for those targeted; else for
    `percentage` of the stations (or of other keys that a service asks for). A key stays in its place: a higher
    percentage only adds keys. A dry run counts the registered stations for which the flag would be another.
    """
    work = partial(config.service.set_rule, new=body, operator=operator, dry_run=dry_run)
    return await _once(config, work, once, dry_run=dry_run)


@router.get(
    "/history",
    summary="What was changed, newest first",
    response_model=ConfigHistory,
    responses={**problems(_UNKNOWN), 200: example(examples.HISTORY)},
)
async def history(
    config: Provided,
    request: Request,
    reader: Reader,
    name: Annotated[Name | None, Query(description="only of this setting")] = None,
    limit: Annotated[int, Query(ge=1, le=CHANGES_MAX, description="changes on a page")] = CHANGES_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """Who changed what, when, why, and from what to what. Nothing is ever removed from it."""
    page, key = await config.service.history(name, reader, limit, cursor)
    page = page.model_copy(update={"next": next_url(request.url, key)})
    return Response(page.model_dump_json(), headers=link_header(page.next), media_type=JSON)


@router.get("/{name}", summary="A setting", responses={**problems(_UNKNOWN), 200: example(examples.SETTING)})
async def setting(config: Provided, reader: Reader, name: NameInPath) -> Setting:
    """Its declaration, its value, where that is from, and its version for the next change."""
    return await config.service.setting(name, reader)


@router.delete(
    "/{name}",
    summary="Back to the default",
    response_model=ConfigChange,
    responses={**problems(_CHANGING), 200: example(examples.CHANGE)},
)
async def reset(
    config: Provided,
    operator: Editor,
    name: NameInPath,
    version: Annotated[int, Query(ge=0, le=VERSION_MAX, description="the setting's version when you read it")],
    reason: Annotated[Reason, Query()],
    dry_run: DryRun = False,
) -> ConfigChange:
    """To what a file says, or the default. The history stays."""
    async with config.database.transaction() as connection:
        return await config.service.reset(connection, name, version, reason, operator, dry_run=dry_run)


async def _once(
    config: ConfigComponents,
    change: Callable[[Transaction], Awaitable[ConfigChange]],
    once: RequestIdentity,
    *,
    dry_run: bool,
) -> Response:
    """Make the change. A dry run has no effect that may happen once only, and uses up no key."""

    async def work(connection: Transaction) -> StoredResponse:
        return StoredResponse(200, (await change(connection)).model_dump_json().encode())

    if not dry_run:
        return await once.do(config.database, SCHEMA, work)
    async with config.database.transaction() as connection:
        return (await work(connection)).response()
