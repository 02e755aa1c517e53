"""Hypothesis: who sends a reading a second notices two who send at full speed by the processor time that these take,
and hardly if they are bounded: nothing of a refused request is decoded, framed or published, and who does not heed its
refusals is answered later.

Measured: `voltstream gateway` with RabbitMQ behind. The p95 of the 202 of a client that posts a reading a second, alone
and beside two clients that post single readings on 32 connections each as fast as they are answered
(`clients/flood.py`, processes of their own), by the default limits and with 600 requests a minute for each token. The
clients and the broker are on the same cores. Limit: the same client alone.
"""

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx

from benchmarks.processes import RunningService, running
from benchmarks.report import Result, phase
from benchmarks.run import BenchmarkRun, issue_token
from simulator.transports import TELEMETRY_PATH

SECONDS, SECONDS_QUICK = 60, 3
CONNECTIONS = 32
FLOODS = 2
CASES = (("by the default limits", 0), ("600 requests a minute a token", 600))


def run(bench: BenchmarkRun) -> list[Result]:
    """The `fairness` stage."""
    results = []
    for title, per_minute in CASES:
        bench.fresh_log()
        with bench.database() as url:
            quiet, *busy = (issue_token(url, "device") for _ in range(1 + FLOODS))
            environment = bench.environment(url)
            if per_minute:
                environment["VOLTSTREAM_FLEET_REQUESTS_PER_MINUTE_MAX"] = str(per_minute)
            with running("voltstream", "gateway", "--json", "--port", "0", environment=environment) as gateway:
                with phase(bench.console, f"fairness: alone, {title}"):
                    alone = p95_ms(bench, gateway, quiet)
                with phase(bench.console, f"fairness: beside others, {title}"), floods(gateway, busy) as ended:
                    beside = p95_ms(bench, gateway, quiet)
            answers = ", ".join(f"{count:,} x {status}" for status, count in sorted(_sum(ended).items()))
            name = f"fairness: 202 of a reading a second beside two clients at full speed, {title}, p95"
            note = f"the two were answered {answers}"
            result = Result(name, beside, "ms", None, higher_is_better=False, note=note)
            results.append(result.compare("alone", alone))
        bench.drop_queues()
    return results


def p95_ms(bench: BenchmarkRun, gateway: RunningService, token: str) -> float:
    """Of a client that posts a reading a second."""
    took_ms: list[float] = []
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=gateway.ready_line["url"], headers=headers, timeout=60) as client:
        for seq in range(bench.pick(SECONDS, SECONDS_QUICK) + 1):
            if seq < 2:  # the first one, which connects, is not counted
                took_ms.clear()
                due_s = time.perf_counter()
            time.sleep(max(0.0, due_s - time.perf_counter()))
            reading = {"station_id": "QUIET", "connector_id": 1, "ts": time.time_ns() // 1_000_000, "seq": seq}
            answer = client.post(TELEMETRY_PATH, json=reading)
            took_ms.append((time.perf_counter() - due_s) * 1_000)
            assert answer.status_code == 202, answer.text
            due_s += 1
    return statistics.quantiles(took_ms, n=20)[-1]


@contextmanager
def floods(gateway: RunningService, tokens: list[str]) -> Iterator[list[dict[str, int]]]:
    """Clients at full speed within the block; afterwards the list has the answers of each, by status."""
    ended: list[dict[str, int]] = []
    with ExitStack() as stack:
        clients = [
            stack.enter_context(
                running("benchmarks.clients.flood", gateway.ready_line["url"], token, str(CONNECTIONS), environment={})
            )
            for token in tokens
        ]
        yield ended
        ended += [json.loads(client.stop()) for client in clients]


def _sum(counts: list[dict[str, int]]) -> dict[str, int]:
    return {status: sum(count.get(status, 0) for count in counts) for status in set().union(*counts)}
