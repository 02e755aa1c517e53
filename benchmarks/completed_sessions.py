"""Makes running sessions, and session.completed.v1 events, with the stream's own kernels: input for billing stages."""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import psycopg

from benchmarks.readings import START_MS, FrameGenerator
from benchmarks.stages.cost import POWER_W, TariffOnlyStore
from benchmarks.tariffs import tariff_versions
from kit.messaging.bus import EVENT_ID, Message
from schemas.events import Event, Money, Pricing, SessionCompleted
from schemas.session import EndReason
from streams.effects import StepParams
from streams.session_ids import session_uuid
from streams.state.partition import PartitionState
from streams.state.session_charges import component_usage, usage_and_costs
from streams.storage.events import FlushContext, SessionEventRow, consumption_of, session_completed
from streams.storage.tables import WEEK_MS
from streams.worker.compute import compute_effects

_REGISTER_MWH_S: Final = 3_055  # of FrameGenerator
_COPY_CONNECTORS: Final = "COPY telemetry.connector (partition, station_id, connector_id) FROM STDIN"
_COPY_SESSIONS: Final = """
COPY telemetry.session (session_key, id, connector_key, session_id, started_at, last_at, ended_at, end_reason,
    energy_uj, integrated_uj, readings, flagged, revision, tariff_version) FROM STDIN
"""
# As FrameGenerator has them. A flush is sorted by connector.
_READINGS: Final = """
INSERT INTO telemetry.reading (connector_key, session_key, ts, seq, energy_mwh, power_mw, current_ma, status,
    session_event, flags, payload_hash)
SELECT connector_key, session_key, started_at + second * interval '1 second', second, second * %s, %s, 16000, 3, 0, 0, 0
FROM unnest(%s::int[]) AS second CROSS JOIN telemetry.session
WHERE started_at = 'epoch'::timestamptz + %s * interval '1 millisecond'
ORDER BY second, connector_key
"""
_decode: Final = msgspec.json.Decoder(Event[SessionCompleted]).decode


def running(sessions: int, store: TariffOnlyStore, seconds: tuple[int, ...]) -> PartitionState:
    """A partition with so many open sessions, each with readings at these seconds."""
    generator, state = FrameGenerator(sessions), PartitionState(0)
    for second in seconds:
        frames = generator.frames(1, second)
        compute_effects(state, frames, frames[-1][0].received_ms, store, StepParams())
    return state


def completed(sessions: int, tariffs: int, seconds: int = 3_600, readings: int = 3) -> tuple[list[Message], int]:
    """session.completed.v1 of so many sessions of so many readings, and their total cost in micro-units incl. VAT."""
    store = TariffOnlyStore(tariff_versions(tariffs, seconds=seconds, power_w=POWER_W))
    state = running(sessions, store, _moments_s(seconds, readings))
    charges = state.charges(np.arange(sessions))
    usage, costs = usage_and_costs(state.tariffs, charges)
    energy_uj = charges.energy.energy_uj().tolist()
    messages = []
    for slot in range(sessions):
        key, version = int(state.open_key[slot]), store.versions[int(charges.tariff_key[slot])]
        excl_micros, incl_micros = int(costs.excl_vat_micros[slot]), int(costs.incl_vat_micros[slot])
        station_id, connector_id = state.connector_index.connector(slot)
        row = SessionEventRow(
            session_key=key,
            id=session_uuid(key),
            station_id=station_id,
            connector_id=connector_id,
            session_id=f"TX-{slot}",
            started_ms=START_MS,
            ended_ms=START_MS + seconds * 1_000,
            end_reason=EndReason.ENDED,
            energy_uj=energy_uj[slot],
            integrated_uj=0,
            readings=readings,
            flagged=0,
            hold=0,
            void=0,
            export_mwh=0,
            revision=1,
            tariff_key=version.key,
            excl_vat_micros=excl_micros,
            incl_vat_micros=incl_micros,
        )
        cost = Money(currency=version.tariff.currency, excl_vat_micros=excl_micros, incl_vat_micros=incl_micros)
        consumption = consumption_of(component_usage(state.tariffs, usage, slot))
        pricing = Pricing(
            version=version.id,
            time_zone=version.time_zone,
            tariff=version.document,
            consumption=consumption,
            cost=cost,
        )
        event = session_completed(row, pricing, FlushContext(row.ended_ms or 0, ""))
        messages.append(Message(event.exchange, event.routing_key, event.body, {EVENT_ID: str(event.event_id)}))
    return messages, int(costs.incl_vat_micros.sum())


def store_readings(url: str, messages: Sequence[Message], seconds: int = 3_600, readings: int = 3) -> None:
    """Store the sessions of these events in telemetry's tables, and their readings in the order of arrival."""
    payloads = [_decode(message.body).payload for message in messages]
    with psycopg.connect(url) as connection:
        connection.execute("SELECT telemetry.ensure_weeks(%s)", ([START_MS // WEEK_MS],))
        with connection.cursor().copy(_COPY_CONNECTORS) as copy:
            for payload in payloads:
                copy.write_row((0, payload.station_id, payload.connector_id))
        keys: dict[str, int] = dict(
            connection.execute("SELECT station_id, connector_key FROM telemetry.connector").fetchall()
        )
        with connection.cursor().copy(_COPY_SESSIONS) as copy:
            for number, payload in enumerate(payloads, 1):
                version = None if payload.pricing is None else payload.pricing.version
                copy.write_row(
                    (
                        *(number, payload.id, keys[payload.station_id], payload.session_id, payload.started_at),
                        *(payload.ended_at, payload.ended_at, int(EndReason.ENDED), payload.energy_uj, 0, readings),
                        *(0, 1, version),
                    )
                )
        values = (_REGISTER_MWH_S, int(POWER_W * 1_000), list(_moments_s(seconds, readings)))
        connection.execute(_READINGS, (*values, START_MS))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT telemetry.summarize_weeks(%s)", ([START_MS // WEEK_MS],))
        connection.execute("VACUUM ANALYZE telemetry.reading, telemetry.session, telemetry.connector")


def _moments_s(seconds: int, readings: int) -> tuple[int, ...]:
    """When a session's readings are taken, seconds after its start."""
    return tuple(seconds * number // (readings - 1) for number in range(readings))
