"""What the requests and responses of several folders share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.notifications.settings import SUBJECT_CHARS_MAX, SUBJECT_PATTERN

Subject = Annotated[
    str,
    StringConstraints(max_length=SUBJECT_CHARS_MAX, pattern=SUBJECT_PATTERN),
    Field(description="driver/…, operator/… or team/…", examples=["driver/D1"]),
]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$"), Field(description="ISO 639-1")]


class NotificationModel(BaseModel):
    """Base of requests and responses: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
