"""The settings of a process: what every process has, and the groups of all services."""

from functools import cache
from typing import Any

from kit.settings import Settings, composed_of, load
from voltstream.services import settings_groups


@cache
def settings_type() -> type[Settings]:
    """The settings of a process: the groups of all services together."""
    return composed_of(settings_groups())


def load_settings(**overrides: Any) -> Settings:
    """Load and validate the settings; see kit.settings.load."""
    return load(settings_type(), **overrides)
