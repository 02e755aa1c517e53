"""The service's schema in PostgreSQL."""

from typing import Final

SCHEMA: Final = "reporting"
