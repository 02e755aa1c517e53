"""The queries of the step to the store: readings and sessions too old for the state to remember, and tariffs.

The step is pure except for these queries, which change nothing. The store answers from committed rows; the step
itself knows its own batch.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from streams.kernels.runs import NULL
from streams.kernels.session_energy import DECIDES_MS_MAX, has_little
from streams.tariffs.version import TariffVersion


class StoredIdentity(NamedTuple):
    """Readings found in the store, columns of equal length."""

    connector_key: NDArray[np.int32]
    boot: NDArray[np.int64]  # NULL_I64 where the device gave none
    seq: NDArray[np.int64]  # NULL_I64 where the device gave none
    ts_ms: NDArray[np.int64]
    payload_hash: NDArray[np.int32]


class StoredSession(NamedTuple):
    """A session of the store: what a repeated pass needs of it, as scalars."""

    connector_key: int
    session_key: int
    session_id: str | None
    started_ms: int
    last_ms: int
    ended_ms: int  # NULL_I64 while open
    end_reason: int
    explicit: int
    energy_uj: int
    integrated_uj: int
    export_mwh: int
    readings: int
    flagged: int
    hold: int
    revision: int
    tariff_key: int  # 0: none
    cost_excl_micros: int  # NULL_I64 without a tariff
    cost_incl_micros: int
    power_max_mw: int
    register_before_mwh: int  # NULL_I64: none, as the others
    register_before_ms: int
    series_mwh: int
    register_first_mwh: int
    register_after_mwh: int
    register_after_ms: int


class StoredTimelines(NamedTuple):
    """The stored part of connectors' timelines."""

    sessions: list[StoredSession]  # by connector_key, started_ms, last_ms, session_key
    readings: dict[str, NDArray[np.generic]]  # TIMELINE_COLUMNS, in no particular order
    extra: list[str | None]  # of the readings: JSON of what has no column, and a session id not their session's


class StoredStatus(NamedTuple):
    """A status interval of the store, as scalars."""

    connector_key: int
    since_ms: int
    place: int
    status: int
    error_code: str | None
    vendor_error_code: str | None


class StoredBayInterval(NamedTuple):
    """An interval of a bay in the store, as scalars."""

    connector_key: int
    bay: str
    since_ms: int
    occupied: bool


class StoredBays(NamedTuple):
    """What the store has of bays."""

    intervals: list[StoredBayInterval]  # by connector_key, bay, since_ms
    readings: list[tuple[int, int, str]]  # connector_key, ts_ms, extra: those with the event of a bay, in any order


def last_before(sessions: Sequence[StoredSession], ts_ms: int) -> int:
    """Which of a connector's sessions, in order, is the last that began before this moment; 0 without one."""
    return max(sum(session.started_ms < ts_ms for session in sessions) - 1, 0)


def first_repeated(sessions: Sequence[StoredSession], ts_ms: int) -> int:
    """Which of a connector's sessions, in order, is the first that a reading of this moment may change: the last that
    began before it, or the one before, if that has so little that a register until the end of the next one decides of
    it (docs/adr/0014, `register_missing`)."""
    last = last_before(sessions, ts_ms)
    if not last:
        return 0
    place = _place(sessions[last - 1])
    # Of those of one moment the store does not know the order.
    before = [one for one in sessions[: last + 1] if _place(one) == place and one.register_after_mwh != NULL]
    near = [one for one in before if ts_ms - one.last_ms <= DECIDES_MS_MAX]
    energy_uj, export_mwh = (np.array([getattr(one, name) for one in near]) for name in ("energy_uj", "export_mwh"))
    return last - int(has_little(energy_uj, export_mwh).any())


def _place(session: StoredSession) -> tuple[int, int]:
    return session.started_ms, session.last_ms


TIMELINE_COLUMNS: Final = (
    "connector_key", "session_key", "ts_ms", "boot", "seq", "energy_mwh", "power_mw", "current_ma", "status",
    "session_event", "flags", "payload_hash", "part", "named", "in_session_mwh", "outside_mwh", "rejected_mwh",
    "energy_export_mwh",
)  # fmt: skip


class StoreQueries(Protocol):
    """Batched queries, one round trip each."""

    def identities(
        self,
        connector_key: NDArray[np.int32],
        boot: NDArray[np.int64],
        seq: NDArray[np.int64],
        ts_ms: NDArray[np.int64],
    ) -> StoredIdentity:
        """Stored readings that may be the same as those given.

        Rows match on (connector_key, boot, seq) where both are given, and whose ts lies within
        store.IDENTITY_TS_SLACK_MS of those given (a device that repeats a reading repeats its ts); else on
        (connector_key, ts), whatever their boot and seq. In any order, possibly repeated.
        """

    def timelines(self, connector_key: list[int], ts_ms: list[int]) -> StoredTimelines:
        """The stored part of these connectors' timelines around these moments.

        Sessions from the last but two on that began before the moment (of one moment a late reading may stand before
        the start); with fewer, all. Readings from the newest of the session before the one that `first_repeated` names;
        without such a session, all. Withdrawn sessions are left out.
        """

    def status_intervals(self, connector_key: list[int], ts_ms: list[int]) -> list[StoredStatus]:
        """The status intervals of these connectors, all different, that begin at or after these moments, and those of
        the last moment before; ordered by connector_key, since_ms, place."""

    def bays(self, wanted: list[tuple[int, str, int, int]]) -> StoredBays:
        """Of these (connector_key, bay, first_ms, last_ms) the intervals that begin at or after the first moments, and
        the last before; and the events of the bays (engine/bays.event_in), at least those from the first moment until
        the first interval behind the last begins. Others of the connectors may be among them."""

    def rated_powers(self, connectors: list[tuple[str, int]]) -> list[int]:
        """What each connector can deliver, mW, by the registry of stations; 0: it is not registered."""

    def registered(self, stations: list[str]) -> set[str]:
        """Those of these stations that the registry has; all of them where there is no registry."""

    def silences_after(self) -> dict[str, int]:
        """How long each station with an interval of its own may say nothing before it is silent, ms; 0: for ever."""

    def tariffs_at(self, stations: list[str], moments_ms: list[int]) -> list[int]:
        """The key of the tariff version in force for each station at its moment; 0: none is."""

    def tariff_versions(self, keys: list[int]) -> list[TariffVersion]:
        """Those versions, in any order. All of them exist."""
