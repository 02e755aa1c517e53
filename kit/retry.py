"""Retry policies: of event handlers, by queue (retry_policy.yaml), and the exponential backoff of reconnects."""

from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kit.errors import ConfigError

RECONNECT_FIRST_S: Final = 0.05  # a broker that only dropped the connection accepts the next at once
RECONNECT_CEILING_S: Final = 5.0  # ten clients at this pace cost a dead broker's host two connections a second
# RabbitMQ 4 drops a message of a quorum queue after 20 unacknowledged deliveries, as when each crashes its consumer:
# below that limit the message is dead-lettered first.
ATTEMPTS_MAX: Final = 19

Seconds = Annotated[float, Field(gt=0, le=3_600)]


class QueuePolicy(BaseModel):
    """The policy of one queue."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_s: Seconds = 1.0
    factor: Annotated[float, Field(ge=1, le=10)] = 2.0
    ceiling_s: Seconds = 30.0
    attempts_max: Annotated[int, Field(ge=1, le=ATTEMPTS_MAX)] = 8
    handler_timeout_s: Seconds = 60.0  # a handler that hangs is a failed attempt; the slowest does one transaction
    outage_s: Seconds = 600.0  # an attempt waits for a dependency; RabbitMQ wants an acknowledgement within 1,800

    @model_validator(mode="after")
    def _ceiling_above_first(self) -> Self:
        if self.ceiling_s < self.first_s:
            raise ValueError("ceiling_s is below first_s")
        return self

    def pause_s(self, attempt: int) -> float | None:
        """The pause after failed attempt number `attempt` (from 1); None: no attempt is left."""
        if attempt >= self.attempts_max:
            return None
        return min(self.first_s * self.factor ** (attempt - 1), self.ceiling_s)

    def pauses_s(self) -> list[float]:
        """The distinct pauses, ascending."""
        return sorted({min(self.first_s * self.factor**n, self.ceiling_s) for n in range(self.attempts_max - 1)})


class RetryPolicy(BaseModel):
    """The policies of all queues."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: QueuePolicy = QueuePolicy()
    queues: Mapping[str, QueuePolicy] = {}

    @model_validator(mode="before")
    @classmethod
    def _fill_from_default(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("queues"), dict):
            return data
        default = data.get("default")
        if not isinstance(default, dict):
            return data
        merged = {name: {**default, **own} if isinstance(own, dict) else own for name, own in data["queues"].items()}
        return {**data, "queues": merged}

    def of(self, queue: str) -> QueuePolicy:
        """The policy of that queue."""
        return self.queues.get(queue, self.default)


def load_retry_policy(path: Path | None = None) -> RetryPolicy:
    """The policy in that file, or the one that comes with the package. Raises ConfigError."""
    source = files("kit").joinpath("retry_policy.yaml") if path is None else path
    try:
        return RetryPolicy.model_validate(yaml.safe_load(source.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"retry policy {source}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"retry policy {source} is not YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(f"retry policy {source}: {where}: {first['msg']}") from error


def reconnect_pauses_s() -> Iterator[float]:
    """Pauses between attempts to reach a dependency: exponential, bounded, without end."""
    pause_s = RECONNECT_FIRST_S
    while True:
        yield pause_s
        pause_s = min(pause_s * 2, RECONNECT_CEILING_S)
