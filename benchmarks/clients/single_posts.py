"""Single readings on 64 kept-alive connections, as fast as they are answered: by wrk where it is installed.

A client in Python needs more processor time than the servers that are measured here; wrk needs a tenth of it. Without
wrk the load is simulator/load/load.py's, which leaves the figures per second of the server's processor time as they are
but for colder caches.
"""

import shutil
import subprocess
import tempfile
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.processes import load
from kit.clock import SystemClock
from simulator.load.bodies import LoadSpec, bodies
from simulator.transports import TELEMETRY_PATH

CONNECTIONS: Final = 64
_BODIES: Final = 10_000  # sent in turn: as many connectors, one reading each
_PATIENCE_S: Final = 60  # beyond the duration, against hanging

# Every thread of wrk has a Lua state of its own; `done` is called in yet another.
_SCRIPT: Final = """
local requests = {}
local at = 0
function init(args)
  for line in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, nil, line)
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("%d %d %d %d %d\\n", summary.requests, failed, summary.duration,
    latency:percentile(50), latency:percentile(99)))
end
"""


class Posted(NamedTuple):
    """Requests that were answered 202, and the latency of the answers."""

    requests: int
    requests_per_s: float
    latency_ms_p50: float
    latency_ms_p99: float


def post_singles(url: str, token: str, seconds: float) -> Posted:
    """Post for so long. Raises RuntimeError unless all are answered with success."""
    wrk = shutil.which("wrk")
    if wrk is None:
        report = load(url, token, "--batch", "1", "--connections", str(CONNECTIONS), "--pipeline", "1", seconds=seconds)
        latencies_ms = report["latency_ms_p50"], report["latency_ms_p99"]
        return Posted(int(report["requests"]), report["requests_per_s"], *latencies_ms)
    with tempfile.TemporaryDirectory() as folder:
        script, lines = Path(folder, "post.lua"), Path(folder, "bodies")
        script.write_text(_SCRIPT)
        made = bodies(LoadSpec(url, token, seconds, batch=1), SystemClock())
        lines.write_bytes(b"\n".join(islice(made, _BODIES)))
        headers = (f"Authorization: Bearer {token}", "Content-Type: application/json")
        command = [
            *(wrk, "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{max(1, round(seconds))}s"),
            *(word for header in headers for word in ("--header", header)),
            *("--script", str(script), url.rstrip("/") + TELEMETRY_PATH, "--", str(lines)),
        ]
        done = subprocess.run(  # noqa: S603  # our own arguments
            command, capture_output=True, text=True, check=False, timeout=seconds + _PATIENCE_S
        )
    if done.returncode != 0:
        raise RuntimeError(f"wrk ended with {done.returncode}:\n{done.stderr}{done.stdout}")
    requests, failed, duration_us, p50_us, p99_us = map(int, done.stdout.splitlines()[-1].split())
    if failed:
        raise RuntimeError(f"{failed} of {requests} requests failed:\n{done.stdout}")
    return Posted(requests, requests / duration_us * 1e6, p50_us / 1_000, p99_us / 1_000)
