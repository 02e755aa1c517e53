"""Makes running sessions, and session.completed.v1 events, with the stream's own kernels: input for billing stages."""

import numpy as np

from benchmarks.readings import START_MS, FrameGenerator
from benchmarks.stages.cost import POWER_W, TariffOnlyStore
from benchmarks.tariffs import tariff_versions
from kit.messaging.bus import EVENT_ID, Message
from schemas.events import Money, Pricing
from schemas.session import EndReason
from streams.effects import StepParams
from streams.session_ids import session_uuid
from streams.state.partition import PartitionState
from streams.state.session_charges import component_usage, settled
from streams.storage.events import FlushContext, SessionEventRow, consumption_of, session_completed
from streams.worker.compute import compute_effects


def running(sessions: int, store: TariffOnlyStore, seconds: tuple[int, ...]) -> PartitionState:
    """A partition with so many open sessions, each with readings at these seconds."""
    generator, state = FrameGenerator(sessions), PartitionState(0)
    for second in seconds:
        frames = generator.frames(1, second)
        compute_effects(state, frames, frames[-1][0].received_ms, store, StepParams())
    return state


def completed(sessions: int, tariffs: int, seconds: int = 3_600) -> tuple[list[Message], int]:
    """session.completed.v1 of so many sessions, and their total cost in micro-units incl. VAT."""
    store = TariffOnlyStore(tariff_versions(tariffs, seconds=seconds, power_w=POWER_W))
    state = running(sessions, store, (0, seconds // 2, seconds))
    charges = state.charges(np.arange(sessions))
    usage, costs = settled(state.tariffs, charges)
    energy_uj = charges.energy.energy_uj().tolist()
    messages = []
    for slot in range(sessions):
        key, version = int(state.open_key[slot]), store.versions[int(charges.tariff_key[slot])]
        excl_micros, incl_micros = int(costs.excl_vat_micros[slot]), int(costs.incl_vat_micros[slot])
        station_id, connector_id = state.directory.connector(slot)
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
            readings=3,
            flagged=0,
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
