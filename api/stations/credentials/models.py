"""Credentials of chargers, as OpenAPI shows them."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from api.stations.registry.models import StationsModel
from kit.patterns import worded

PASSWORD_CHARS_MIN, PASSWORD_CHARS_MAX = 16, 40  # as OCPP 2.0.1 has BasicAuthPassword


class NewCredentials(StationsModel):
    """What a charger is to present. Both: either will do."""

    password: (
        Annotated[SecretStr, Field(description="of HTTP Basic authentication; 16 to 40 printable characters")] | None
    ) = None
    certificate_subject: (
        Annotated[
            str,
            StringConstraints(min_length=1, max_length=64, pattern=worded(r"^[ -~]+$", "printable ASCII characters")),
        ]
        | None
    ) = Field(default=None, description="common name of its client certificate, which no other station may have")

    @field_validator("password")
    @classmethod
    def _a_password_of_ocpp(cls, password: SecretStr | None) -> SecretStr | None:
        if password is not None:
            text = password.get_secret_value()
            if not PASSWORD_CHARS_MIN <= len(text) <= PASSWORD_CHARS_MAX or not (text.isascii() and text.isprintable()):
                raise ValueError("has to be 16 to 40 printable ASCII characters, as OCPP has it")
        return password

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.password is None and self.certificate_subject is None:
            raise ValueError("give a password, a certificate_subject, or both; DELETE takes both away")
        return self


class Credentials(StationsModel):
    """Which credentials a charger has; never the password."""

    station_id: str
    has_password: bool
    certificate_subject: str | None
    changed_at: datetime
    changed_by: str
