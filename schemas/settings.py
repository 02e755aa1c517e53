"""Settings that more than one room goes by."""

from pydantic import BaseModel, Field


class Retention(BaseModel):
    """How long raw readings are kept: the worker drops them, and the gateway accepts none that would be dropped."""

    raw_retention_days: int = Field(0, ge=0, le=36_500, description="raw readings are dropped after; 0: kept")
