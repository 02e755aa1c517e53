"""Settings of the sessions service."""

from schemas.settings import Lake

GROUP = Lake
