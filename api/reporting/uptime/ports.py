"""The times of many ports on one line, one port after the other, so that all of them are counted at once. Pure."""

from typing import NamedTuple

import numpy as np

from api.reporting.uptime.intervals import Intervals, Ints, merged


class Spans(NamedTuple):
    """Intervals [start, end) of ports, in any order, overlapping or not. int64, of one length."""

    port: Ints  # from 0
    start_ms: Ints  # epoch
    end_ms: Ints


class PortLine:
    """`ports` times of [start_ms, end_ms) on one line, with a gap of one between, so that no two ports ever touch."""

    def __init__(self, ports: int, start_ms: int, end_ms: int) -> None:
        """The whole line is below 2^63: 50 million ports of 5 years."""
        if ports < 0 or start_ms >= end_ms:
            raise ValueError(f"no line of {ports} ports from {start_ms} to {end_ms}")
        self.ports = ports
        self.start_ms = start_ms
        self.end_ms = end_ms
        self._stride = end_ms - start_ms + 1

    def place(self, spans: Spans) -> Intervals:
        """The union of each port's spans, cut to the line's time."""
        offset = spans.port * self._stride
        starts = np.clip(spans.start_ms, self.start_ms, self.end_ms) - self.start_ms
        ends = np.clip(spans.end_ms, self.start_ms, self.end_ms) - self.start_ms
        return merged(offset + starts, offset + ends)

    def spans(self, intervals: Intervals) -> Spans:
        """The intervals again as spans of ports, by port and start."""
        port, start = np.divmod(intervals.starts, self._stride)
        end = intervals.ends - port * self._stride
        return Spans(port, start + self.start_ms, end + self.start_ms)

    def points(self, moments_ms: Ints) -> Ints:
        """The moments on the line of every port: (ports, moments). All within the line's time, both ends included."""
        within = np.clip(moments_ms, self.start_ms, self.end_ms) - self.start_ms
        return np.asarray(np.arange(self.ports, dtype=np.int64)[:, None] * self._stride + within[None, :])

    def at(self, port: Ints, moments_ms: Ints) -> Ints:
        """The place of one moment of each of these ports."""
        return np.asarray(port * self._stride + np.clip(moments_ms, self.start_ms, self.end_ms) - self.start_ms)
