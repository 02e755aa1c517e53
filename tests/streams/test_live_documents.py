"""Laws of the live documents."""

import json
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from schemas.frame import FrameHeader, FrameKind
from schemas.reading import READING_SCHEMA
from streams.effects import StepParams
from streams.kernels.runs import NULL
from streams.session_ids import session_uuid
from streams.state.partition import PartitionState
from streams.tariffs.version import TariffVersion
from streams.worker.compute import compute_effects
from streams.worker.live_documents import live_documents
from tests.streams.live_reference import document_of
from tests.streams.memory_store import AsStoreQueries, MemoryStore
from tests.streams.reference import Reading
from tests.streams.test_step_laws import frames_of, run, streams

T0_MS = 1_790_000_000_123
TARIFF = {
    "currency": "EUR",
    "elements": [
        {
            "price_components": [
                {"type": "FLAT", "price": 0.5, "vat": 21, "step_size": 1},
                {"type": "ENERGY", "price": 0.4, "vat": 21, "step_size": 1},
            ]
        }
    ],
}


def reading(**said: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(READING_SCHEMA.names)
    return nothing | {"station_id": "CP1", "connector_id": 1, "ts_ms": T0_MS, "status": 0, "session_event": 0} | said


def documents(*readings: dict[str, Any]) -> dict[str, Any]:
    state, batch = PartitionState(0), pa.RecordBatch.from_pylist(list(readings), READING_SCHEMA)
    header = FrameHeader(FrameKind.READINGS, 0, "0" * 16, 0, len(readings), len(readings), T0_MS + 9_000)
    compute_effects(state, [(header, batch)], T0_MS + 9_000, AsStoreQueries(MemoryStore()), StepParams())
    found = live_documents(state, np.arange(state.slots))
    return {key: json.loads(document) for key, document in found.items()}


def test_a_document_says_the_newest_of_everything_and_the_session() -> None:
    first = reading(seq=0, session_id="S1", energy_mwh=1_000_000, power_mw=7_000_500, soc_mpct=50_000, status=3,
                    energy_export_mwh=500)  # fmt: skip
    then = reading(seq=1, session_id="S1", energy_mwh=1_010_500, ts_ms=T0_MS + 6_000, energy_export_mwh=2_750)
    assert documents(first, then) == {
        "CP1/1": {
            "station_id": "CP1",
            "connector_id": 1,
            "ts": "2026-09-21T14:13:26.123Z",
            "received_at": "2026-09-21T14:13:29.123Z",
            "status": "Charging",
            "energy_wh": 1_010.5,
            "power_w": 7_000.5,
            "voltage_v": None,
            "current_a": None,
            "temperature_c": None,
            "soc_pct": 50.0,
            "energy_export_wh": 2.75,
            "flags": [],
            "session": {
                "id": str(session_uuid(1)),
                "session_id": "S1",
                "started_at": "2026-09-21T14:13:20.123Z",
                "energy_wh": 10.5,
                "energy_export_wh": 2.25,
                "estimated": False,
                "readings": 2,
                "cost": None,
            },
        }
    }


def test_without_a_session_there_is_none_and_flags_have_names() -> None:
    found = documents(reading(power_mw=5_000), reading(connector_id=2, ts_ms=T0_MS + 60_000_000, status=1))
    assert found["CP1/1"]["session"] is None
    assert found["CP1/1"]["flags"] == ["outside_session"]
    assert found["CP1/2"]["flags"] == ["clock_skew"]
    assert found["CP1/2"]["status"] == "Available"


@given(streams(), st.lists(st.integers(0, 99), max_size=3), st.booleans())
def test_documents_by_the_column_say_what_each_says(arrived: list[Reading], cuts: list[int], awkward: bool) -> None:
    if awkward:
        names = {"A": 'A"\\1', "s1": "s\u00e9\n"}
        for one in arrived:
            one |= {name: names.get(one[name], one[name]) for name in ("station_id", "session_id")}
    store = MemoryStore()
    store.tariffs["B"] = [(0, TariffVersion.of(7, UUID(int=7), "Europe/Amsterdam", json.dumps(TARIFF)))]
    store, state = run(frames_of(arrived, cuts), cuts, store=store)
    said = np.flatnonzero(state.live_ts_ms[: state.slots] != NULL)
    expected = [document_of(state, slot) for slot in said.tolist()]
    found = live_documents(state, np.arange(state.slots))
    assert [json.loads(document) for document in found.values()] == expected
    assert list(found) == [f"{one['station_id']}/{one['connector_id']}" for one in expected]


def test_the_cost_of_a_running_session_is_shown_to_the_millionth() -> None:
    store, state = MemoryStore(), PartitionState(0)
    store.tariffs["CP1"] = [(0, TariffVersion.of(7, UUID(int=7), "Europe/Amsterdam", json.dumps(TARIFF)))]
    first = reading(seq=0, session_id="S1", energy_mwh=1_000_000, status=3)
    then = reading(seq=1, session_id="S1", energy_mwh=1_010_500, ts_ms=T0_MS + 6_000, status=3)
    batch = pa.RecordBatch.from_pylist([first, then], READING_SCHEMA)
    header = FrameHeader(FrameKind.READINGS, 0, "0" * 16, 0, 2, 2, T0_MS + 9_000)
    compute_effects(state, [(header, batch)], T0_MS + 9_000, AsStoreQueries(store), StepParams())
    (document,) = live_documents(state, np.arange(state.slots)).values()
    assert json.loads(document)["session"]["cost"] == {
        "currency": "EUR",
        "excl_vat": "0.504400",  # 10.5 Wh in whole Wh: 11 x 0.40 / 1000, and the flat fee
        "incl_vat": "0.610324",
        "energy": "0.004400",
        "time": "0.000000",
        "parking": "0.000000",
        "flat": "0.500000",
        "tariff_version": str(UUID(int=7)),
    }
