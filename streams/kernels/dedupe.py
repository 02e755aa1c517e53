"""Is this reading new? Exact, in constant memory per connector (anti-replay window after RFC 6479, with fingerprints).

Identity is (boot, seq) of a connector; without boot it is (seq, ts), without seq it is ts and the payload, for devices
send one moment in several messages. A window of the last WINDOW
sequence numbers of the current boot holds a fingerprint of each reading and of nothing older, so that inside it "seen"
and "seen with another payload" are certain. What the window cannot know (older sequence numbers, earlier boots, earlier
timestamps) is UNKNOWN: the step asks the store. A fingerprint has 32 bits: of the readings that reuse an identity with
another payload, one in four billion is taken for a duplicate.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.kernels.runs import (
    I8,
    I16,
    I32,
    I64,
    MAX_I64,
    NULL,
    U32,
    Runs,
    all_true,
    any_true,
    by_row,
    column,
    previous_in_run,
    rows_by_rank,
    rows_where,
    runs_of,
)

WINDOW: Final = 64  # sequence numbers: at one reading in 10 s, ten minutes of reordering; 256 bytes a connector
TS_WINDOW: Final = 8  # recent readings of connectors without seq: only a cache in front of the store
PARTS_MAX: Final = 32_767
PASSES: Final = 4  # a connector with more odd readings in one batch (reboots, repetitions) is judged one by one


class DedupeVerdict(IntEnum):
    """What became of a reading."""

    FRESH = 0
    DUPLICATE = 1
    CONFLICT = 2  # same identity, another payload
    UNKNOWN = 3  # only the store can tell


@dataclass(init=False, eq=False, repr=False)
class DedupeColumns:
    """Columns of the state, one row per connector (slot)."""

    boot: I64 = column(NULL)  # of the window; NULL where the device gives none
    boot_max: I64 = column(NULL)  # highest boot ever; NULL: none
    boot_ts_ms: I64 = column(NULL)  # readings before this are of an earlier boot; NULL: no limit
    seq_max: I64 = column(-1)  # -1: no reading with seq yet
    ts_max_ms: I64 = column(NULL, like="last_ts_ms")  # newest event time; NULL: none yet
    bare_ts_max_ms: I64 = column(NULL)  # newest event time among readings without seq; NULL: none yet
    # Fingerprint of seq at seq % WINDOW, for seq in (seq_max - WINDOW, seq_max]; 0: none.
    window: U32 = column(width=WINDOW, flat=True)
    ts_window_ms: I64 = column(width=TS_WINDOW, flat=True)
    ts_window_hash: U32 = column(width=TS_WINDOW, flat=True)  # 0: empty
    ts_window_next: I8 = column()  # the entry that is written next
    bare_parts: I16 = column()  # readings without seq at bare_ts_max_ms


@dataclass(slots=True)
class Identities:
    """The identity columns of a batch, sorted by slot, arrival order inside a slot."""

    slot: I64
    boot: I64  # NULL: none
    seq: I64  # NULL: none
    ts_ms: I64
    fingerprint: I64  # [1, 2**32)
    part: I64  # set by `judge`: the place of a reading without seq among those of its ts

    def at(self, rows: I64) -> "Identities":
        """Some of the rows (themselves, if it is all of them)."""
        if len(rows) == len(self.slot):
            return self
        return Identities(*(getattr(self, f.name)[rows] for f in fields(self)))


def judge(state: DedupeColumns, rows: Identities, runs: Runs) -> tuple[NDArray[np.int8], I64]:
    """Verdict of every row, and the entries of `state.window` that changed. Advances the state.

    Plain rows are taken all at once up to the first odd one of each connector, then that one, and so on; connectors
    that are odd throughout are judged in rounds.
    """
    verdict = np.zeros(len(rows.slot), np.int8)
    at = np.arange(len(rows.slot))
    changed = [at[:0]]
    for _ in range(PASSES):
        remaining = rows.at(at)
        prefix = _plain_prefix(state, remaining, runs)
        if prefix is None:
            changed.append(_advance_plain(state, remaining, runs))
            return verdict, np.concatenate(changed)
        stop = runs.start + prefix
        plain = remaining.at(rows_where(np.arange(len(at)) < stop[runs.of_row]))
        changed.append(_advance_plain(state, plain, runs_of(plain.slot)))
        odd = at[stop[stop <= runs.last]]
        changed.append(_judge_round(state, rows, odd, verdict))
        at = at[np.arange(len(at)) > stop[runs.of_row]]
        runs = runs_of(rows.slot[at])
    for _, row in rows_by_rank(runs, np.arange(len(runs.key))):
        changed.append(_judge_round(state, rows, at[row], verdict))
    return verdict, np.concatenate(changed)


def _plain_prefix(state: DedupeColumns, rows: Identities, runs: Runs) -> I64 | None:
    """(runs,) how many rows at the beginning are each above all before it, in the boot that the window is of; None: all
    rows."""
    slot = runs.key
    seq_max = state.seq_max[slot]
    odd = rows.seq <= previous_in_run(rows.seq, runs, seq_max)  # a reading without seq is NULL, below all
    odd |= rows.boot != by_row(np.where(seq_max < 0, rows.boot[runs.start], state.boot[slot]), runs)
    odd |= rows.ts_ms < by_row(state.boot_ts_ms[slot], runs)
    if not any_true(odd):
        return None
    place = np.arange(len(odd)) - runs.start[runs.of_row]
    return np.minimum.reduceat(np.where(odd, place, runs.length[runs.of_row]), runs.start)


def _advance_plain(state: DedupeColumns, rows: Identities, runs: Runs) -> I64:
    if not len(runs.key):
        return runs.key
    slot, last = runs.key, runs.last
    before, newest = state.seq_max[slot], rows.seq[last]
    state.boot[slot] = rows.boot[last]
    state.boot_max[slot] = np.maximum(state.boot_max[slot], rows.boot[last])
    state.seq_max[slot] = newest
    state.ts_max_ms[slot] = np.maximum(state.ts_max_ms[slot], np.maximum.reduceat(rows.ts_ms, runs.start))
    moved = newest - before
    skipping = rows_where(moved > runs.length)  # else each entry that the window moves over is written below
    cleared = _clear(state, slot[skipping], newest[skipping], np.minimum(moved[skipping], WINDOW))
    if any_true(rows.seq[runs.start] <= newest - WINDOW):
        rows = rows.at(rows_where(rows.seq > (newest - WINDOW)[runs.of_row]))
    written = _remember(state, rows.slot, rows.seq, rows.fingerprint)
    return np.concatenate([cleared, written]) if len(cleared) else written


def _clear(state: DedupeColumns, slot: I64, newest: I64, count: I64) -> I64:
    """Empty the entries of the last `count` (at most WINDOW) sequence numbers up to `newest`. Returns them."""
    if not len(slot):
        return slot
    back = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    entries: I64 = np.repeat(slot * WINDOW, count) + ((np.repeat(newest, count) - back) & (WINDOW - 1))
    state.window[entries] = 0
    return entries


def _judge_round(state: DedupeColumns, rows: Identities, at: I64, verdict: NDArray[np.int8]) -> I64:
    """One row of each of several slots. Returns the window entries that changed."""
    numbered = rows.seq[at] != NULL
    if all_true(numbered):
        return _judge_numbered(state, rows, at, verdict)
    _judge_bare(state, rows, at[~numbered], verdict)
    return _judge_numbered(state, rows, at[numbered], verdict)


def _remember(state: DedupeColumns, slot: I64, seq: I64, fingerprint: I64) -> I64:
    """Write into the window."""
    entry = slot * WINDOW + (seq & (WINDOW - 1))
    state.window[entry] = fingerprint
    return entry


def _judge_numbered(state: DedupeColumns, rows: Identities, at: I64, verdict: NDArray[np.int8]) -> I64:
    """Readings with seq, at most one a slot. Returns the window entries that changed."""
    slot = rows.slot[at]
    boot, seq, ts_ms, fingerprint = rows.boot[at], rows.seq[at], rows.ts_ms[at], rows.fingerprint[at]
    seq_max, ts_max_ms, boot_now = state.seq_max[slot], state.ts_max_ms[slot], state.boot[slot]
    first = seq_max < 0
    newer = ts_ms > ts_max_ms
    # A higher boot than ever is certainly new, and so, where boots are not counted, is an event time newer than ever.
    # Without boot numbers a lower seq with a newer ts is a reboot.
    next_boot = (boot != NULL) & (boot > state.boot_max[slot])
    reboot = (boot == NULL) & newer & ((boot_now != NULL) | (seq < seq_max))
    restart = ~first & (next_boot | reboot)
    known_boot = (boot == boot_now) & (ts_ms >= state.boot_ts_ms[slot])
    above = known_boot & (seq > seq_max)
    inside = known_boot & ~above & (seq > seq_max - WINDOW)

    entry = state.window[slot * WINDOW + (seq & (WINDOW - 1))]
    seen = entry != 0  # of this seq, where it is inside
    same = entry == fingerprint
    fresh = first | restart | above | (inside & ~seen)
    # Without boot numbers a seq that is repeated with other values may be of another boot: the store decides by its ts.
    certain = inside & (same | (boot != NULL))
    repeated = np.where(certain, np.where(same, DedupeVerdict.DUPLICATE, DedupeVerdict.CONFLICT), DedupeVerdict.UNKNOWN)
    verdict[at] = np.where(fresh, DedupeVerdict.FRESH, repeated)

    begin = first | restart
    moved = np.where(restart, WINDOW, np.where(above, np.minimum(seq - seq_max, WINDOW), 0))
    emptied = _clear(state, slot, seq, moved)
    cleared = slot[restart]
    state.boot[slot[begin]] = boot[begin]
    state.boot_max[slot] = np.where(begin, np.maximum(boot, state.boot_max[slot]), state.boot_max[slot])
    state.boot_ts_ms[cleared] = np.where(next_boot, NULL, ts_ms)[restart]
    state.seq_max[slot] = np.where(begin, seq, np.where(above, seq, seq_max))
    newest = newer & (fresh | ~certain)
    state.ts_max_ms[slot[newest]] = ts_ms[newest]
    return np.concatenate([emptied, _remember(state, slot[fresh], seq[fresh], fingerprint[fresh])])


def _judge_bare(state: DedupeColumns, rows: Identities, at: I64, verdict: NDArray[np.int8]) -> None:
    """Readings without seq, at most one a slot."""
    slot = rows.slot[at]
    ts_ms, fingerprint = rows.ts_ms[at], rows.fingerprint[at]
    newer = ts_ms > state.bare_ts_max_ms[slot]
    latest = ts_ms == state.bare_ts_max_ms[slot]
    entries = slot[:, np.newaxis] * TS_WINDOW + np.arange(TS_WINDOW)
    moments, hashes = state.ts_window_ms[entries], state.ts_window_hash[entries]
    of_moment = (moments == ts_ms[:, np.newaxis]) & (hashes != 0)
    seen = (of_moment & (hashes == fingerprint[:, np.newaxis])).any(axis=1)
    # Of the latest moment the window has every part, unless some were too many or came late.
    complete = latest & (of_moment.sum(axis=1) == state.bare_parts[slot])
    fresh = newer | (complete & ~seen)
    verdict[at] = np.where(seen, DedupeVerdict.DUPLICATE, np.where(fresh, DedupeVerdict.FRESH, DedupeVerdict.UNKNOWN))
    rows.part[at] = np.where(fresh & ~newer, state.bare_parts[slot], 0)
    state.bare_parts[slot[fresh]] = np.minimum(rows.part[at[fresh]] + 1, PARTS_MAX)
    state.bare_ts_max_ms[slot[fresh]] = ts_ms[fresh]
    place = slot * TS_WINDOW + state.ts_window_next[slot]
    state.ts_window_ms[place[fresh]], state.ts_window_hash[place[fresh]] = ts_ms[fresh], fingerprint[fresh]
    state.ts_window_next[slot[fresh]] = (state.ts_window_next[slot[fresh]] + 1) % TS_WINDOW
    newest = fresh & (ts_ms > state.ts_max_ms[slot])
    state.ts_max_ms[slot[newest]] = ts_ms[newest]


def count_part(state: DedupeColumns, slot: I64, ts_ms: I64, part: I64) -> None:
    """Parts of a moment that the store judged new: one of the latest moment is not in the window."""
    latest = ts_ms == state.bare_ts_max_ms[slot]
    np.maximum.at(state.bare_parts, slot[latest], np.minimum(part[latest] + 1, PARTS_MAX).astype(np.int16))


class TakenIdentities:
    """Identities that are certainly taken: found in the store, and those of the batch itself."""

    def __init__(self) -> None:
        self._fingerprints: dict[tuple[int, int, int, int], dict[int, None]] = {}

    @staticmethod
    def _keys(connector: I32, boot: I64, seq: I64, ts_ms: I64) -> Iterable[tuple[int, int, int, int]]:
        """Identity as a tuple: ts counts only where no boot number separates one boot of the device from another."""
        ts_ms = np.where((boot != NULL) & (seq != NULL), MAX_I64, ts_ms)
        boot = np.where(seq == NULL, NULL, boot)
        return zip(connector.tolist(), boot.tolist(), seq.tolist(), ts_ms.tolist(), strict=True)

    def add(self, connector: I32, boot: I64, seq: I64, ts_ms: I64, fingerprint: I64) -> None:
        """These are taken."""
        for key, value in zip(self._keys(connector, boot, seq, ts_ms), fingerprint.tolist(), strict=True):
            self._fingerprints.setdefault(key, {})[value] = None

    def judge(self, connector: I32, boot: I64, seq: I64, ts_ms: I64, fingerprint: I64) -> tuple[NDArray[np.int8], I64]:
        """FRESH, DUPLICATE or CONFLICT of each row, in order, and its part of the moment; the fresh ones are taken from
        then on."""
        verdict, part = np.empty(len(connector), np.int8), np.zeros(len(connector), np.int64)
        keys = zip(self._keys(connector, boot, seq, ts_ms), fingerprint.tolist(), strict=True)
        for row, (key, value) in enumerate(keys):
            taken = self._fingerprints.setdefault(key, {})
            if value in taken:
                verdict[row] = DedupeVerdict.DUPLICATE
                continue
            bare = key[2] == NULL
            verdict[row] = DedupeVerdict.CONFLICT if taken and not bare else DedupeVerdict.FRESH
            part[row] = min(len(taken), PARTS_MAX) if bare else 0
            if bare or not taken:
                taken[value] = None
        return verdict, part
