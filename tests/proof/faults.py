"""Plans which component fails when in a run, from a seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

PROCESSES = ("gateway 1", "gateway 2", "bridge", "worker 1", "worker 2", "relay")
SERVERS = ("rabbitmq", "kafka", "postgres", "redis")
FAULTS = 24

_AT_LEAST = (
    *(("gateway 1", "kill"), ("gateway 2", "kill")),
    *(("bridge", "kill"),) * 3,
    *(("worker 1", "kill"), ("worker 2", "kill")) * 2,
    *(("relay", "kill"),) * 2,
    *((server, kind) for server in SERVERS for kind in ("stop", "kill")),
)
# The other two servers take up to 15 s to restart on a busy machine: twice each is enough for a run of minutes.
_MORE = (
    *((process, "kill") for process in PROCESSES),
    *((s, k) for s in ("postgres", "redis") for k in ("stop", "kill")),
)
_PROGRESS = (1, 6_000)  # readings acknowledged between two faults: some during a recovery, some after it
_AT_ONCE_SHARE = 0.2  # of the faults: no component needs to have recovered
_DOWN = (1, 6_000)  # readings acknowledged during a server's outage, if any can be


@dataclass(frozen=True, slots=True)
class Fault:
    """`component` is killed or stopped once `after` more readings were acknowledged.

    A server is started again when another `down` were acknowledged, or some requests refused; a process at once, by its
    supervisor.
    """

    component: str
    kind: str
    after: int
    down: int


def plan(seed: int) -> list[Fault]:
    """Every required fault and a few more, in random order."""
    rng = random.Random(f"{seed} faults")
    chosen = [*_AT_LEAST, *rng.choices(_MORE, k=FAULTS - len(_AT_LEAST))]
    rng.shuffle(chosen)
    return [Fault(component, kind, pause(rng), rng.randrange(*_DOWN)) for component, kind in chosen]


def pause(rng: random.Random) -> int:
    """Readings to be acknowledged before the next fault."""
    return 0 if rng.random() < _AT_ONCE_SHARE else rng.randrange(*_PROGRESS)


def plan_text(faults: Sequence[Fault]) -> str:
    """The plan as text, to print with a failure."""
    return "\n".join(f"{number:2}. {fault}" for number, fault in enumerate(faults, 1))
