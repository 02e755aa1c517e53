"""The metrics of a worker, by partition. The registry is passed in.

Energy can move: a late reading may put it from outside into a session. What an owner gets is counted by one counter and
what is taken from it again by another, for a counter cannot fall; the difference of the two is what the committed
windows, and so the ledger of energy, have changed by.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from schemas.energy import ENERGY_SHARES
from schemas.reading import MILLI
from streams.effects import Effects

_OUTCOMES: Final = ("stored", "duplicate", "quarantined")
_STAGES: Final = ("decode", "step", "commit", "live")
# From an idle tick to a full batch on a busy server.
_DURATION_BUCKETS_S: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class WorkerMetrics:
    """Counters, durations and gauges of all partitions that this process works on."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"streams_{name}", text, ("partition", *labels), registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"streams_{name}", text, ("partition",), registry=registry)

        self.readings = counter("readings_total", "Readings accounted for", "outcome")
        self.frames = counter("frames_total", "Frames committed")
        self.bytes = counter("frame_bytes_total", "Bytes of the frames committed")
        self.windows = counter("windows_merged_total", "Window rows merged")
        energy = "Energy that meters measured, by whose it is (session, outside, rejected)"
        self.energy_accounted = counter("energy_accounted_wh_total", energy, "owner", "reason")
        self.energy_reversed = counter(
            "energy_reversed_wh_total", f"{energy}: what later readings took from it", "owner", "reason"
        )
        self.sessions = counter("sessions_written_total", "Session rows written")
        self.state_bytes = counter("state_bytes_total", "Bytes of state written")
        self.poison = counter("poison_frames_total", "Frames kept whole in the quarantine")
        self.quarantine_dropped = Counter(
            "streams_quarantine_dropped_total",
            "Refused items dropped at the end of their retention",
            registry=registry,
        )
        self.retries = counter("commit_retries_total", "Commits tried again")
        self.acquired = counter("acquired_total", "Times the partition was taken over")
        self.lost = counter("offsets_lost_total", "Offsets that the log no longer had")
        self.live_failures = counter("live_put_failures_total", "Writes to the live view that failed")
        self.flush_s = Histogram(
            "streams_flush_seconds",
            "Duration of a flush's stages",
            ("partition", "stage"),
            buckets=_DURATION_BUCKETS_S,
            registry=registry,
        )
        self.next_offset = gauge("next_offset", "First offset that is not committed")
        self.log_end_offset = gauge("log_end_offset", "First offset that is not in the log yet, as last seen")
        self.waiting_frames = gauge("waiting_frames", "Frames read and not committed")
        self.progress_age_s = gauge("progress_age_seconds", "How long the oldest frame read has been waiting; 0: none")

    def of_partition(self, partition: int) -> "PartitionCounts":
        """Those that every flush of a partition counts."""
        return PartitionCounts(self, str(partition))

    def watch(self, partition: int, waiting: Callable[[], int], age_s: Callable[[], float]) -> None:
        """Call these whenever the gauges are read."""
        self.waiting_frames.labels(str(partition)).set_function(waiting)
        self.progress_age_s.labels(str(partition)).set_function(age_s)

    def unwatch(self, partition: int) -> None:
        """Drop the gauges of a partition that is released."""
        for gauge in (self.waiting_frames, self.progress_age_s, self.next_offset, self.log_end_offset):
            gauge.remove(str(partition))


class PartitionCounts:
    """The metrics of one partition's flushes: looking them up by their labels takes longer than counting."""

    def __init__(self, metrics: WorkerMetrics, label: str) -> None:
        self.state_bytes = metrics.state_bytes.labels(label)
        self._outcomes = {outcome: metrics.readings.labels(label, outcome) for outcome in _OUTCOMES}
        self._stages = {stage: metrics.flush_s.labels(label, stage) for stage in _STAGES}
        self._frames, self._bytes = metrics.frames.labels(label), metrics.bytes.labels(label)
        self._windows, self._sessions = metrics.windows.labels(label), metrics.sessions.labels(label)
        owners = {name: (label, share.owner, share.reason or "") for name, share in ENERGY_SHARES.items()}
        self._accounted = {name: metrics.energy_accounted.labels(*labels) for name, labels in owners.items()}
        self._reversed = {name: metrics.energy_reversed.labels(*labels) for name, labels in owners.items()}

    def timed(self, stage: str) -> AbstractContextManager[object]:
        """Measures the block as this stage of a flush."""
        return self._stages[stage].time()

    def flushed(self, effects: Effects, frames: int, frame_bytes: int) -> None:
        """Count a flush that is committed."""
        for outcome, counter in self._outcomes.items():
            if count := getattr(effects, outcome):
                counter.inc(count)
        self._frames.inc(frames)
        self._bytes.inc(frame_bytes)
        if windows := len(effects.windows["connector_key"]):
            self._windows.inc(windows)
            self._count_energy(effects.windows)
        if sessions := len(effects.sessions["session_key"]):
            self._sessions.inc(sessions)

    def _count_energy(self, windows: Mapping[str, NDArray[Any]]) -> None:
        for name in ENERGY_SHARES:
            added_mwh = windows[f"{name}_sum"]
            gained_mwh = int(np.maximum(added_mwh, 0).sum())
            self._accounted[name].inc(gained_mwh / MILLI)
            self._reversed[name].inc((gained_mwh - int(added_mwh.sum())) / MILLI)
