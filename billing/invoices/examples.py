"""Examples of the answers for OpenAPI. Tests hold them to the models."""

from typing import Any, Final

PAGE: Final[dict[str, Any]] = {}
DETAIL: Final[dict[str, Any]] = {}
EXPLANATION: Final[dict[str, Any]] = {}
CREDIT_NOTE: Final[dict[str, Any]] = {}
