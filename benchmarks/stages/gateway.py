"""Hypothesis: of a batch of 100 readings most of the gateway's time is decoding JSON and laying it out in columns;
HTTP, the frame and the broker's confirm are paid once a batch or a frame. A single reading costs little more than the
request that carries it.

Measured: `voltstream gateway` in a process of its own, private RabbitMQ (quorum queues, confirms), PostgreSQL for the
tokens, Redis for the ledger; load from simulator/load/load.py in another process. Readings (or requests) by the
gateway's own processor time, because the broker and the load share the two cores with it. Limits: admission and msgspec
alone on the same bodies; the same server answering 202 to nothing.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import msgspec

from benchmarks import door
from benchmarks.processes import Service, load, running
from benchmarks.report import Result, phase
from benchmarks.session import Session, issue_token
from ingest.admission import Rules, WireReading, admit_json
from kit.clock import SystemClock
from simulator.load.bodies import LoadSpec, bodies

BATCH = 100
SECONDS, SECONDS_QUICK = 6, 1
REPEATS, REPEATS_QUICK = 5, 1
BODIES, BODIES_QUICK = 2_000, 100
_YEAR_MS = 366 * 86_400_000


@dataclass(frozen=True, slots=True)
class Pace:
    """Items a second: of the server's own processor time, and by the clock on the wall; and latency."""

    per_core: float
    wall: float
    latency_ms_p50: float
    latency_ms_p99: float


def run(session: Session) -> list[Result]:
    """The gateway's stage."""
    with session.database() as url:
        session.fresh_log()
        token, environment = issue_token(url, "device"), session.environment(url)
        with running("voltstream", "gateway", "--json", "--port", "0", environment=environment) as gateway:
            with phase(session.console, "gateway: batches, RabbitMQ behind"):
                batches = measure(session, gateway, token, BATCH, "--connections", "32", "--pipeline", "1")
            session.drop_queues()
            with phase(session.console, "gateway: single readings, RabbitMQ behind"):
                singles = measure(session, gateway, token, 1, "--connections", "64", "--pipeline", "1")
        session.drop_queues()
    with running("benchmarks.door", "log", environment={}) as gateway, phase(session.console, "gateway: no broker"):
        inside = measure(session, gateway, door.TOKEN, BATCH, "--connections", "32", "--pipeline", "1")
        singles_inside = measure(session, gateway, door.TOKEN, 1, "--connections", "64", "--pipeline", "1")
    with running("benchmarks.door", "nothing", environment={}) as server, phase(session.console, "gateway: nothing"):
        nothing = measure(session, server, door.TOKEN, 1, "--connections", "64", "--pipeline", "1", checked=False)
    with phase(session.console, "gateway: decoding"):
        admission, typed = decoding(session)
    return [
        Result("gateway: JSON batches of 100", batches.per_core, "readings/s/core", 150e3, note=_latency(batches))
        .compare("decoding alone (msgspec, typed)", typed)
        .compare("admission alone", admission)
        .compare("the same on the in-process log", inside.per_core)
        .compare("by the wall clock, load and broker on the same cores", batches.wall),
        Result("gateway: single readings", singles.per_core, "requests/s/core", 3e3, note=_latency(singles))
        .compare("the same server answering 202 to nothing", nothing.per_core)
        .compare("the same on the in-process log", singles_inside.per_core)
        .compare("by the wall clock, load and broker on the same cores", singles.wall),
    ]


def measure(session: Session, server: Service, token: str, batch: int, *options: str, checked: bool = True) -> Pace:
    """Median of some load runs, after one to warm up."""
    seconds = session.pick(SECONDS, SECONDS_QUICK)
    paces = []
    warm_up = session.pick(1, 0)
    for turn in range(session.pick(REPEATS, REPEATS_QUICK) + warm_up):
        options_all = ("--batch", str(batch), "--prefix", f"B{batch}T{turn}", *options)
        before_s = server.cpu_s()
        report = load(server.said["url"], token, *options_all, seconds=seconds)
        spent_s = server.cpu_s() - before_s
        assert not checked or report["unacknowledged"] == 0, "every request must be answered 202"
        assert not checked or report["quarantined"] == 0, "every reading must pass"
        done = report["acknowledged"]
        paces.append(Pace(done / spent_s, report["readings_per_s"], report["latency_ms_p50"], report["latency_ms_p99"]))
    columns = zip(*((p.per_core, p.wall, p.latency_ms_p50, p.latency_ms_p99) for p in paces[warm_up:]), strict=True)
    return Pace(*map(statistics.median, columns))


def decoding(session: Session) -> tuple[float, float]:
    """Readings/s of processor time: admission, and msgspec into the same typed structs."""
    clock = SystemClock()
    spec = LoadSpec("http://127.0.0.1", "", 1, batch=BATCH)
    made = list(islice(bodies(spec, clock), session.pick(BODIES, BODIES_QUICK)))
    rules = Rules(clock.now_ms(), _YEAR_MS, _YEAR_MS, BATCH)
    decoder = msgspec.json.Decoder(list[WireReading])
    assert sum(admit_json(body, rules).accepted for body in made) == BATCH * len(made), "every reading must pass"
    return _rate(made, lambda body: admit_json(body, rules)), _rate(made, decoder.decode)


def _rate(made: list[bytes], work: Callable[[bytes], object]) -> float:
    rates = []
    for _ in range(5):
        began_s = time.process_time()
        for body in made:
            work(body)
        rates.append(len(made) * BATCH / (time.process_time() - began_s))
    return statistics.median(rates)


def _latency(pace: Pace) -> str:
    return f"latency p50 {pace.latency_ms_p50:.0f} ms, p99 {pace.latency_ms_p99:.0f} ms at that load"
