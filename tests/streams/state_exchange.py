"""Writes frames and a partition's state, or reads those that another version wrote and goes on with them.

As a process of its own, with the modules of either version, which have to have what it imports: `write FOLDER SEED` or
`go-on FOLDER`.
"""

import json
import random
import sys
from pathlib import Path
from typing import Any

import msgspec

from schemas.frame import FrameError, decode_header, encode_frame, join_frames, split_frames
from streams.effects import StepParams
from streams.state.encoding import load_state, snapshot, take_patch
from streams.state.partition import PartitionState
from streams.worker.compute import compute_effects
from streams.worker.decoding import read_frames
from tests.streams.lake_fleet import fleet
from tests.streams.memory_store import AsStoreQueries, MemoryStore
from tests.streams.test_step_laws import frames_of

_FRAMES, _STATE = "frames", "state"  # files: joined frames, and the bodies of the state after the first half of them


def write(folder: Path, seed: int) -> None:
    """Frames of the fleet, in pieces of one to many readings, and the state in between."""
    rng = random.Random(seed)
    frames = []
    for number, arrived in fleet(seed, days=5).items():
        rows = sorted((one | {"received_ms": one["ts_ms"] // 60_000 * 60_000} for one in arrived), key=_received)
        cuts = sorted(rng.sample(range(len(rows)), min(9, len(rows))))
        for header, batch in frames_of(rows, cuts):
            own = msgspec.structs.replace(header, source=f"{number:016x}")
            frames.append(encode_frame(own, batch))
    half = len(frames) // 2
    for late in sorted(rng.sample(range(half // 2), 3), reverse=True):  # holes, which are closed by the other version
        frames.append(frames.pop(late))
    frames += frames[:half:5]  # and frames that come again
    record = join_frames(frames)
    (folder / _FRAMES).write_bytes(record)
    state, store = PartitionState(0), MemoryStore()
    half = len(frames) // 2
    _step(state, store, frames[: half // 2])
    bodies = [snapshot(state)]
    state.mark_saved()
    _step(state, store, frames[half // 2 : half])
    bodies.append(take_patch(state))
    (folder / _STATE).write_bytes(msgspec.msgpack.encode(bodies))


def go_on(folder: Path) -> dict[str, Any]:
    """What comes of the whole with the other version's state, and with our own: both have to be equal."""
    frames = list(split_frames((folder / _FRAMES).read_bytes()))
    half = len(frames) // 2
    bodies = msgspec.msgpack.decode((folder / _STATE).read_bytes())
    found = {}
    for name in ("theirs", "ours"):
        state, store = PartitionState(0), MemoryStore()
        _step(state, store, frames[:half])
        if name == "theirs":
            state = load_state(0, bodies)
        _step(state, store, frames[half:])
        sessions = [{**row, "name": store.session_ids.get(key)} for key, row in sorted(store.sessions.items())]
        windows = sorted(map(repr, store.windows.items()))
        found[name] = json.loads(json.dumps([sessions, windows, store.counts], default=int))
    return found


def _step(state: PartitionState, store: MemoryStore, frames: list[bytes]) -> None:
    for frame in frames:
        (rows,) = read_frames([(decode_header(frame), frame)], 0)
        if isinstance(rows, FrameError):
            raise rows
        store.apply(compute_effects(state, [rows], rows[0].received_ms, AsStoreQueries(store), StepParams()))


def _received(one: dict[str, Any]) -> tuple[int, int]:
    return one["received_ms"], one["ts_ms"]


if __name__ == "__main__":
    where = Path(sys.argv[2])
    if sys.argv[1] == "write":
        write(where, int(sys.argv[3]))
    else:
        print(json.dumps(go_on(where)))
