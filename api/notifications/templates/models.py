"""Requests and responses of templates, as OpenAPI shows them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from api.notifications.kinds import KINDS, Channel
from api.notifications.models import NotificationModel
from api.notifications.templates.rendering import BODY_CHARS_MAX, HTML_CHARS_MAX, TITLE_CHARS_MAX
from api.time_zones import checked_time_zone
from kit.patterns import worded

Kind = Annotated[
    str, StringConstraints(max_length=32, pattern=worded(f"^({'|'.join(KINDS)})$", f"one of {', '.join(KINDS)}"))
]


class TemplateParts(NotificationModel):
    """The source of a template, Jinja2."""

    title: Annotated[
        str,
        StringConstraints(
            min_length=1, max_length=TITLE_CHARS_MAX, pattern=worded(r"^[^\x00]+$", "text without NUL characters")
        ),
    ]
    body: Annotated[
        str,
        StringConstraints(
            min_length=1, max_length=BODY_CHARS_MAX, pattern=worded(r"^[^\x00]+$", "text without NUL characters")
        ),
    ]
    html: (
        Annotated[
            str,
            StringConstraints(
                min_length=1, max_length=HTML_CHARS_MAX, pattern=worded(r"^[^\x00]+$", "text without NUL characters")
            ),
        ]
        | None
    ) = Field(default=None, description="of e-mail; null: title and body in a plain layout")


class NewTemplate(TemplateParts):
    """A template to take the place of the present one."""

    version: int = Field(strict=True, ge=0, le=2**31 - 2, description="that you read; 0: it was never edited")


class StoredTemplate(TemplateParts):
    """A template in use."""

    kind: str
    channel: Channel
    language: str
    source: Literal["built-in", "edited"]
    version: int = Field(description="0: never edited; goes on when it is reset to the built-in one")
    error: str | None = Field(description="why it could not be rendered last; the built-in one stood in")
    variables: dict[str, Any] = Field(description="a sample of what it may use, beside language and time_zone")
    updated_at: datetime | None
    updated_by: str | None


class TemplateEntry(NotificationModel):
    """An edited template."""

    kind: str
    channel: Channel
    language: str
    version: int
    error: str | None
    updated_at: datetime
    updated_by: str


class TemplateList(NotificationModel):
    """The edited templates; all others are built-in."""

    kinds: list[str]
    channels: list[Channel]
    built_in_languages: list[str]
    edited: list[TemplateEntry]


class PreviewRequest(NotificationModel):
    """What to render: the given source, or the one in use, with the sample's variables and those given."""

    template: TemplateParts | None = None
    variables: dict[str, Any] = Field(default_factory=dict)
    time_zone: Annotated[str, StringConstraints(max_length=64), AfterValidator(checked_time_zone)] = "UTC"


class Preview(NotificationModel):
    """What would be sent."""

    title: str
    body: str
    html: str | None
