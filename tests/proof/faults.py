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
    """`component` is killed, stopped or otherwise disturbed once `after` more readings were acknowledged.

    It is mended when another `down` were acknowledged, or some requests refused; a process that was killed is started
    again at once, by its supervisor.
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


PAUSE, CLOCK, FULL = "pause", "clock", "full"
LINK_KINDS = ("cut", "reset", "slow", "stall", "drip")
_STEPS_S = (10, 7_200)  # of a clock, ahead or behind
# How often, of all faults: RabbitMQ and Kafka take up to 15 s to start, and everything else seconds.
_SHARES = {"kill": 8, "server": 3, PAUSE: 3, "link": 6, CLOCK: 4, FULL: 1}


def long_plan(seed: int, count: int) -> list[Fault]:
    """So many faults of all kinds: also pauses (SIGSTOP), bad links to servers, stepped clocks, and full disks."""
    rng = random.Random(f"{seed} all faults")
    return [_any_fault(rng) for _ in range(count)]


def _any_fault(rng: random.Random) -> Fault:
    processes = (*PROCESSES, "api")
    (what,) = rng.choices(list(_SHARES), list(_SHARES.values()))
    if what == "kill":
        component, kind = rng.choice(processes), "kill"
    elif what == "server":
        component, kind = rng.choice(("postgres", "redis", *SERVERS)), rng.choice(("stop", "kill"))
    elif what == PAUSE:
        component, kind = rng.choice((*processes, *SERVERS)), PAUSE
    elif what == "link":
        component, kind = rng.choice(SERVERS), rng.choice(LINK_KINDS)
    elif what == FULL:
        component, kind = "postgres", FULL
    else:
        component, kind = rng.choice(processes), f"{CLOCK} {rng.choice((-1, 1)) * rng.randrange(*_STEPS_S):+d}"
    return Fault(component, kind, pause(rng), rng.randrange(*_DOWN))


def pause(rng: random.Random) -> int:
    """Readings to be acknowledged before the next fault."""
    return 0 if rng.random() < _AT_ONCE_SHARE else rng.randrange(*_PROGRESS)


def plan_text(faults: Sequence[Fault]) -> str:
    """The plan as text, to print with a failure."""
    return "\n".join(f"{number:2}. {fault}" for number, fault in enumerate(faults, 1))
