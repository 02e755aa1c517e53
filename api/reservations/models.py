"""The base of all requests and responses of the reservations service."""

from pydantic import BaseModel, ConfigDict


class ReservationModel(BaseModel):
    """Base of requests and responses: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
