"""What goes wrong in a run, and when: a plan made of a seed."""

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
# The other two servers take up to 15 s to come back on a busy machine: twice each is enough for a run of minutes.
_MORE = (
    *((process, "kill") for process in PROCESSES),
    *((s, k) for s in ("postgres", "redis") for k in ("stop", "kill")),
)
_PROGRESS = (1, 6_000)  # readings acknowledged between two strikes: some in the middle of a recovery, some after it
_AT_ONCE_SHARE = 0.2  # of the strikes: nothing needs to have come back
_DOWN = (1, 6_000)  # readings acknowledged while a server is away, where it can do without


@dataclass(frozen=True, slots=True)
class Fault:
    """`component` is killed, or stopped in the orderly way, once `after` more readings were acknowledged.

    A server is started again when another `down` were, or some were refused; a process at once, by its supervisor.
    """

    component: str
    kind: str
    after: int
    down: int


def plan(seed: int) -> list[Fault]:
    """At least each of what has to happen, a few more, in any order."""
    rng = random.Random(f"{seed} faults")
    chosen = [*_AT_LEAST, *rng.choices(_MORE, k=FAULTS - len(_AT_LEAST))]
    rng.shuffle(chosen)
    return [Fault(component, kind, pause(rng), rng.randrange(*_DOWN)) for component, kind in chosen]


def pause(rng: random.Random) -> int:
    """Readings to be acknowledged before the next strike."""
    return 0 if rng.random() < _AT_ONCE_SHARE else rng.randrange(*_PROGRESS)


def told(faults: Sequence[Fault]) -> str:
    """The plan, to be read beside a failure."""
    return "\n".join(f"{number:2}. {fault}" for number, fault in enumerate(faults, 1))
