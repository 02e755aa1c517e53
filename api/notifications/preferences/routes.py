"""Preferences over HTTP. Thin: parameters in, one call of the service, one response out."""

from typing import Annotated

from fastapi import APIRouter, Body

from api.notifications.callers import FORBIDDEN, PreferencesEditor, PreferencesReader, SubjectInQuery, subject_of
from api.notifications.components import PREFIX, Provided
from api.notifications.preferences import examples
from api.notifications.preferences.models import Preferences, StoredPreferences, WebhookSecret
from kit.web.json_body import JsonRoute
from kit.web.parameters import example, problems

router = APIRouter(prefix=f"{PREFIX}/preferences", tags=["notifications"], route_class=JsonRoute)


@router.get(
    "",
    summary="How a recipient is notified",
    responses={**problems(FORBIDDEN), 200: example(examples.STORED_PREFERENCES)},
)
async def preferences(own: Provided, caller: PreferencesReader, subject: SubjectInQuery = None) -> StoredPreferences:
    """Addresses, modes by category and channel, quiet hours, language; and the modes that follow with the defaults."""
    return await own.preferences.preferences(subject_of(caller, subject))


@router.put(
    "",
    summary="Choose how to be notified",
    responses={**problems(FORBIDDEN), 200: example(examples.STORED_PREFERENCES)},
)
async def put_preferences(
    own: Provided,
    caller: PreferencesEditor,
    body: Annotated[Preferences, Body(openapi_examples={"some": {"value": examples.PREFERENCES}})],
    subject: SubjectInQuery = None,
) -> StoredPreferences:
    """All of them are replaced; what is left out is the default. They hold for what comes, not for what waits."""
    return await own.preferences.put_preferences(subject_of(caller, subject), body, caller.name)


@router.get(
    "/webhook-secret",
    summary="What webhooks are verified with",
    responses={**problems({**FORBIDDEN, 404: "Webhooks are not configured"}), 200: example(examples.SECRET)},
)
async def webhook_secret(own: Provided, caller: PreferencesEditor, subject: SubjectInQuery = None) -> WebhookSecret:
    """The recipient's own secret, in the form of Standard Webhooks. The signature covers `webhook-id`,
    `webhook-timestamp` and the body; refuse timestamps that are minutes old, and ids that came before."""
    return WebhookSecret(secret=own.preferences.webhook_secret(subject_of(caller, subject)))
