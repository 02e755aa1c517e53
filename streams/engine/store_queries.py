"""The queries of the step to the store: readings and sessions too old for the state to remember, and tariffs.

The step is pure except for these queries, which change nothing. The store answers from committed rows; the step
itself knows its own batch.
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from streams.tariffs.version import TariffVersion


class StoredIdentity(NamedTuple):
    """Readings found in the store, columns of equal length."""

    connector_key: NDArray[np.int32]
    boot: NDArray[np.int64]  # NULL_I64 where the device gave none
    seq: NDArray[np.int64]  # NULL_I64 where the device gave none
    ts_ms: NDArray[np.int64]
    payload_hash: NDArray[np.int32]


class RecalledSession(NamedTuple):
    """A session found in the store: the fields of SESSION_COLUMNS that membership needs, as scalars."""

    session_key: int
    started_ms: int
    last_ms: int
    ended_ms: int  # NULL_I64 while open
    end_reason: int
    revision: int


class StoreQueries(Protocol):
    """Six queries, batched, one round trip each."""

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

    def sessions(self, connector_key: list[int], session_id: list[str]) -> list[RecalledSession | None]:
        """For each pair, the newest session of that device name at that connector."""

    def tariffs_at(self, stations: list[str], moments_ms: list[int]) -> list[int]:
        """The key of the tariff version in force for each station at its moment; 0: none is."""

    def tariff_versions(self, keys: list[int]) -> list[TariffVersion]:
        """Those versions, in any order. All of them exist."""

    def session_tariffs(self, session_keys: list[int]) -> dict[int, int]:
        """The tariff keys that stored sessions were opened with; 0: none. Sessions not stored are left out."""

    def session_readings(self, session_key: list[int]) -> dict[str, NDArray[np.generic]]:
        """All stored readings of those sessions, in no particular order.

        Columns of READING_COLUMNS: session_key, ts_ms, boot, seq, energy_mwh, power_mw, current_ma, status,
        session_event, flags.
        """
