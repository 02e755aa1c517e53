"""Settings of the workers."""

from typing import Any, Final

from pydantic import Field

from kit.config.adjustable import adjustable
from schemas.settings import Retention

QUARANTINE: Final = "quarantine"


def _ends(what: str, description: str, days: int = 0) -> Any:
    """A field: after how many days something ends."""
    return Field(
        default=days,
        ge=0,
        le=36_500,
        description=f"{description}; 0: kept",
        json_schema_extra=adjustable(f"telemetry.{what}_retention", unit="d"),
    )


class WorkerSettings(Retention):
    """When a worker commits, and when windows and sessions close."""

    flush_interval_ms: int = Field(
        default=100, ge=1, le=10_000, description="how often a worker commits while someone looks at the live view"
    )
    # Events of sessions wait as long; a flush costs 3 ms whatever it carries.
    flush_interval_unwatched_ms: int = Field(
        default=500, ge=1, le=1_000, description="the same while nobody looks and few readings wait"
    )
    # ~150 B a reading in memory: 100,000 are 15 MB, and a column of them stays in a core's cache. Larger flushes commit
    # less often and take their memory anew each time, no faster; at 30,000 the commits are half of the work.
    flush_readings_max: int = Field(default=100_000, ge=1, le=5_000_000, description="most readings in one commit")
    lateness_s: int = Field(
        default=10, ge=0, le=86_400, description="how far a watermark runs behind the newest reading"
    )
    session_timeout_s: int = Field(default=7_200, ge=60, le=604_800, description="silence that closes a session")
    rated_power_w: int = Field(
        default=500_000,
        ge=1_000,
        le=10_000_000,
        description="what a connector can deliver that is registered with no rated power; a faster register is doubted",
    )
    void_session_s: int = Field(
        default=120,
        ge=0,
        le=86_400,
        description="a shorter session that delivered next to nothing is void",
        json_schema_extra=adjustable("sessions.void_time", unit="s", finance=True),
    )
    void_session_wh: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="the most that a void session delivered",
        json_schema_extra=adjustable("sessions.void_energy", unit="Wh", finance=True),
    )
    silent_after_s: int = Field(
        default=900,
        ge=0,
        le=604_800,
        description="a station that is not heard for so long is silent, and none of its connectors available; 0: never",
        json_schema_extra=adjustable("telemetry.silent_after", unit="s"),
    )
    # Three years: what a regulator may ask an operator's uptime for.
    status_retention_days: int = _ends(
        "status", "intervals of connectors' status and of bays, and silences, are dropped after", 1_096
    )
    window_1m_retention_days: int = _ends(
        "window_1m", "windows of a minute are dropped after, or go to the lake, and coarser ones stay"
    )
    window_15m_retention_days: int = _ends(
        "window_15m", "windows of a quarter of an hour whose minutes are dropped are dropped after"
    )
    window_1h_retention_days: int = _ends("window_1h", "windows of an hour likewise")
    window_1d_retention_days: int = _ends(
        "window_1d", "windows of a day likewise, never before raw readings, which are found by them"
    )
    # A year: who is told of what was refused mends the device long before.
    quarantine_retention_days: int = _ends(
        "quarantine", "refused items are dropped after, but for frames that could not be processed", 365
    )
    unclaimed: str = Field(
        default="take",
        pattern=f"^(take|{QUARANTINE})$",
        description="take or quarantine the readings of stations that are not registered",
        json_schema_extra=adjustable("telemetry.unclaimed"),
    )
    received_events: bool = Field(
        default=False,
        description="whether each commit publishes telemetry.received.v1: the readings of each station",
        json_schema_extra=adjustable("telemetry.received_events"),
    )

    @property
    def window_retention_days(self) -> dict[str, int]:
        """By width, of those that end: a coarser one is kept at least as long as a finer one, a day as raw readings."""
        days = (  # the finest first
            ("1m", self.window_1m_retention_days),
            ("15m", self.window_15m_retention_days),
            ("1h", self.window_1h_retention_days),
            ("1d", self.window_1d_retention_days),
        )
        ending: dict[str, int] = {}
        for width, after in days:
            if not after:
                break
            ending[width] = max([after, *ending.values()])
        if "1d" in ending:
            ending["1d"] = max(ending["1d"], self.raw_retention_days)
            if not self.raw_retention_days:
                del ending["1d"]
        return ending


GROUP = WorkerSettings
