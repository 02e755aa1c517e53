"""What the requests and responses of several folders share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.notifications.settings import SUBJECT_CHARS_MAX, SUBJECT_PATTERN
from kit.patterns import worded

Subject = Annotated[
    str,
    StringConstraints(
        max_length=SUBJECT_CHARS_MAX, pattern=worded(SUBJECT_PATTERN, "driver/…, operator/… or team/… with an id")
    ),
    Field(description="driver/…, operator/… or team/…", examples=["driver/D1"]),
]
Language = Annotated[
    str,
    StringConstraints(pattern=worded(r"^[a-z]{2}$", "a language of ISO 639-1, like en")),
    Field(description="ISO 639-1"),
]


class NotificationModel(BaseModel):
    """Base of requests and responses: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
