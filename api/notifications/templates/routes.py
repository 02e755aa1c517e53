"""Templates over HTTP, for operators. Thin: parameters in, one call of the service, one response out."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Path

from api.notifications.callers import TemplatesEditor, TemplatesReader
from api.notifications.components import PREFIX, Provided
from api.notifications.kinds import Channel
from api.notifications.models import Language
from api.notifications.templates import examples
from api.notifications.templates.models import (
    Kind,
    NewTemplate,
    Preview,
    PreviewRequest,
    StoredTemplate,
    TemplateList,
)
from api.notifications.templates.store import TemplateKey
from kit.web.json_body import JsonRoute
from kit.web.parameters import example, problems

_ONE: Final = "/{kind}/{channel}/{language}"
_REFUSED: Final[dict[int, str]] = {409: "It was changed since that version"}


async def template_key(
    kind: Annotated[Kind, Path(openapi_examples={"receipt": {"value": "invoice"}})],
    channel: Annotated[Channel, Path(openapi_examples={"e-mail": {"value": "email"}})],
    language: Annotated[Language, Path(openapi_examples={"English": {"value": "en"}})],
) -> TemplateKey:
    """The template that a path names."""
    return kind, channel, language


Key = Annotated[TemplateKey, Depends(template_key)]

router = APIRouter(prefix=f"{PREFIX}/templates", tags=["notifications"], route_class=JsonRoute)


def _responses(value: Any, more: dict[int, str] | None = None) -> dict[int | str, dict[str, Any]]:
    return {**problems(more or {}), 200: example(value)}


@router.get("", summary="All edited templates", responses=_responses(examples.TEMPLATES))
async def templates(own: Provided, operator: TemplatesReader) -> TemplateList:
    """Of every other kind, channel and language the built-in one is in use, in English where a language has none."""
    return await own.templates.edited()


@router.get(_ONE, summary="A template", responses=_responses(examples.TEMPLATE))
async def template(own: Provided, operator: TemplatesReader, key: Key) -> StoredTemplate:
    """The one in use, with a sample of the variables that it may use. `error` says why an edited one could not be
    rendered last; the built-in one was sent instead."""
    return await own.templates.template(key)


@router.put(_ONE, summary="Edit a template", responses=_responses(examples.EDITED_TEMPLATE, _REFUSED))
async def put_template(
    own: Provided,
    operator: TemplatesEditor,
    key: Key,
    body: Annotated[NewTemplate, Body(openapi_examples={"short": {"value": examples.NEW_TEMPLATE}})],
) -> StoredTemplate:
    """Jinja2, without calls, assignments, macros and loops within loops. It is rendered with the sample first: a 422
    names the part and the line that are wrong. It holds for what is prepared from now on."""
    async with own.database.transaction() as connection:
        return await own.templates.put_template(connection, key, body, operator.name)


@router.delete(_ONE, summary="Back to the built-in template", responses=_responses(examples.TEMPLATE))
async def reset_template(own: Provided, operator: TemplatesEditor, key: Key) -> StoredTemplate:
    """For what is prepared from now on, as a new version. Where none was edited, nothing changes."""
    async with own.database.transaction() as connection:
        return await own.templates.reset_template(connection, key, operator.name)


@router.post(f"{_ONE}/preview", summary="What would be sent", responses=_responses(examples.PREVIEW))
async def preview(
    own: Provided,
    operator: TemplatesReader,
    key: Key,
    body: Annotated[PreviewRequest, Body(openapi_examples={"short": {"value": examples.PREVIEW_REQUEST}})],
) -> Preview:
    """By the given source or the one in use, with the sample's variables and those given. Nothing is stored or sent."""
    return await own.templates.preview(key, body)
