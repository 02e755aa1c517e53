"""The margin of demand pricing: a charge by its tariff version less the same charge by the version's base, on every
document, through revisions, voids, corrections, credits and collective invoices."""

import json
import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import msgspec
import psycopg
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from msgspec.structs import replace

from api.pricing.demand.models import Bounds, DemandRule
from api.pricing.demand.rule import moved
from billing import rating
from billing.charges.correction import corrected, even_usage
from billing.charges.models import Correction
from billing.documents import SubjectKind
from billing.invoicing import store
from billing.invoicing.amounts import charge_amount, to_consumption
from billing.invoicing.derivation import derive_session
from billing.invoicing.margin import OPERATORS, UNKNOWN, Origin, demand_margin
from billing.invoicing.tariffs import parse_tariff
from billing.readings_source import StoredReadings
from kit.clock import format_rfc3339, from_ms
from kit.messaging.outbox import Transaction
from schemas.tariff import Tariff
from tests.billing.customers_wanted import wanted
from tests.billing.invoices_made import draft
from tests.billing.making import START, TARIFF, assigned, consumption, reservation, session
from tests.billing.rating.strategies import Session, sessions, tariffs
from tests.billing.running import RunningBilling, open_running
from tests.billing.serving import CANCEL, INVOICES, Service, served

CHARGES: Final = "/api/v1/billing/charges"
CUSTOMERS: Final = "/api/v1/billing/customers"


# -- pure --------------------------------------------------------------------------------------------------------------


@st.composite
def demand_tariffs(draw: st.DrawFn) -> tuple[Tariff, Tariff]:
    """Any tariff, and what a demand rule makes of it."""
    rule = DemandRule(
        raise_above_pct=Decimal(80),
        lower_below_pct=Decimal(20),
        bounds=Bounds(min_factor=draw(st.decimals(0, 1, places=4)), max_factor=draw(st.decimals(1, 10, places=4))),
        step_pct=draw(st.decimals("0.01", 50, places=2)),
        hold_s=60,
    )
    base = draw(tariffs())
    return base, moved(rule, base, draw(st.integers(-60, 60)))


RESERVED = st.none() | st.tuples(st.integers(0, 9_000_000), st.integers(0, 2_000_000)).map(
    lambda amount: rating.Reserved(amount[0], amount[0] + amount[1])
)


def reserved_columns(reserved: rating.Reserved | None) -> dict[str, int | None]:
    excl_micros, incl_micros = (None, None) if reserved is None else reserved
    return {"reserved_excl_micros": excl_micros, "reserved_incl_micros": incl_micros}


@given(demand_tariffs(), sessions(), RESERVED)
def test_a_margin_is_the_session_by_its_version_less_the_session_by_the_base(
    pair: tuple[Tariff, Tariff], used: Session, reserved: rating.Reserved | None
) -> None:
    base, version = pair
    stored = StoredReadings(used.readings, [0] * len(used.readings), used.before)
    by_version, by_base = (
        derive_session(one, used.zone, stored, reserved or rating.NOTHING_RESERVED) for one in (version, base)
    )
    one = draft(by_version.amount, consumption=by_version.consumption, **reserved_columns(reserved))
    margin = demand_margin(one, Origin(by_demand=True, base=base))
    assert margin == by_version.amount.excl_micros - by_base.amount.excl_micros
    drifted = replace(one, consumption=(), computed=by_version.consumption)
    assert demand_margin(drifted, Origin(by_demand=True, base=base)) == margin
    assert (demand_margin(one, OPERATORS), demand_margin(one, UNKNOWN)) == (0, None)
    assert demand_margin(draft(None), Origin(by_demand=True, base=base)) is None
    event("0" if margin == 0 else "a margin")


@given(demand_tariffs(), st.integers(0, 10**8), st.integers(1, 10**8), RESERVED)
def test_a_corrected_charge_has_the_margin_of_what_it_was_corrected_to(
    pair: tuple[Tariff, Tariff], energy_mwh: int, time_ms: int, reserved: rating.Reserved | None
) -> None:
    base, version = pair
    ended_at = START + timedelta(milliseconds=time_ms)
    row = {"tariff": version.model_dump_json(), "time_zone": "Europe/Berlin", **reserved_columns(reserved)}
    energy_wh = f"{Decimal(energy_mwh).scaleb(-3):f}"
    delivered = Correction.model_validate({"why": "x", "energy_wh": energy_wh, "ended_at": format_rfc3339(ended_at)})
    one = corrected(draft(None, **reserved_columns(reserved)), row, delivered)
    usage = even_usage(START, ended_at, energy_mwh)
    by_version, by_base = (
        rating.rate_usage(tariff, ZoneInfo("Europe/Berlin"), usage, reserved or rating.NOTHING_RESERVED)[1]
        for tariff in (version, base)
    )
    margin = demand_margin(one, Origin(by_demand=True, base=base))
    assert margin == by_version.total_excl_micros - by_base.total_excl_micros


@given(demand_tariffs(), st.integers(0, 10**8), st.booleans())
def test_a_reservation_has_none(pair: tuple[Tariff, Tariff], time_ms: int, expired: bool) -> None:
    """For demand moves no price of it: it costs the same by both."""
    usage = rating.reservation_usage(0, time_ms, expired=expired)
    (used, by_version), (_, by_base) = (rating.rate_usage(one, ZoneInfo("Europe/Berlin"), usage) for one in pair[::-1])
    assert by_version == by_base
    one = draft(charge_amount(by_version), kind=SubjectKind.RESERVATION, consumption=to_consumption(used))
    assert demand_margin(one, UNKNOWN) == demand_margin(one, Origin(by_demand=True, base=pair[0])) == 0


# -- documents ---------------------------------------------------------------------------------------------------------


def priced(energy: str, **bounds: Any) -> dict[str, Any]:
    """TARIFF with another ENERGY price, in the same order, and with bounds."""
    document: dict[str, Any] = json.loads(json.dumps({**TARIFF, **bounds}))
    document["elements"][0]["price_components"][1]["price"] = float(energy)
    return document


OWN, DEAR, CHEAP, OLD, FOREIGN = (UUID(int=number) for number in range(1, 6))
PRICES: Final = {OWN: "0.3456", DEAR: "0.4147", CHEAP: "0.2765", OLD: "0.4001", FOREIGN: "0.3456"}
DOCUMENTS: Final = {version: priced(price) for version, price in PRICES.items()}
BASE_PRICE_MICROS: Final = 345_600
_PUBLISH: Final = """
INSERT INTO pricing.version (id, target_kind, target, time_zone, currency, tariff, effective_from, reason, published_by,
                             base_version)
VALUES (%s, 'default', '', 'Europe/Amsterdam', 'EUR', %s, now(), %s, 'test', %s)
"""


def publish(url: str, version: UUID, document: dict[str, Any], reason: str, base: UUID | None = None) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(_PUBLISH, (version, json.dumps(document), reason, base))


@pytest.fixture
def billing_url(billing_url: str) -> str:
    """With versions in pricing: the operators', two that demand made of it, one of before bases were stored. Of FOREIGN
    pricing knows nothing."""
    publish(billing_url, OWN, TARIFF, "operator")
    publish(billing_url, DEAR, DOCUMENTS[DEAR], "demand", OWN)
    publish(billing_url, CHEAP, DOCUMENTS[CHEAP], "demand", OWN)
    publish(billing_url, OLD, DOCUMENTS[OLD], "demand")
    return billing_url


def of_version(version: UUID, own_id: UUID | None = None, **more: Any) -> Any:
    return session(own_id, tariff=DOCUMENTS[version], version=version, **more)


def by_lines(billing: RunningBilling, document: dict[str, Any]) -> int:
    """Of an invoice without bounds, from its lines: ENERGY at its price less ENERGY at the base price."""
    lines = billing.rows(
        "SELECT billed, excl_micros FROM billing.invoice_line WHERE invoice_id = %s AND dimension = 'ENERGY'",
        document["id"],
    )
    return sum(one["excl_micros"] - (2 * one["billed"] * BASE_PRICE_MICROS + 10**6) // (2 * 10**6) for one in lines)


def published(billing: RunningBilling, **where: Any) -> list[dict[str, Any]]:
    """The rows of the contract."""
    condition = " AND ".join(f"{name} = %s" for name in where) or "true"
    query = f"SELECT * FROM billing.documented_charges WHERE {condition} ORDER BY issued_at"
    return billing.rows(query, *where.values())


def margin_of(billing: RunningBilling, **where: Any) -> int:
    return sum(row["demand_margin_micros"] for row in published(billing, **where))


async def test_operators_versions_have_none_and_unknown_bases_are_no_zero(service: Service) -> None:
    events = {version: of_version(version) for version in DOCUMENTS}
    await service.billing.deliver(*events.values())
    margins = {}
    for version, one in events.items():
        (document,) = service.billing.documents(one.id)
        (row,) = published(service.billing, document_id=document["id"])
        margins[version] = row["demand_margin_micros"]
        assert service.billing.cdrs(one.id)[-1]["demand_margin_micros"] == margins[version]
    assert (margins[OWN], margins[OLD], margins[FOREIGN]) == (0, None, None)
    energy_kwh = Decimal("12.346")  # up to the whole Wh, by step_size
    assert margins[DEAR] == round(energy_kwh * 414_700) - round(energy_kwh * 345_600) > 0
    assert margins[CHEAP] == round(energy_kwh * 276_500) - round(energy_kwh * 345_600) < 0


async def test_pricing_is_asked_once_for_a_version(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[UUID] = []
    bases = store.bases

    async def counted(connection: Transaction, versions: Sequence[UUID]) -> Any:
        asked.extend(versions)
        return await bases(connection, versions)

    monkeypatch.setattr(store, "bases", counted)
    for _ in range(3):
        await service.billing.deliver(*(of_version(version) for version in DOCUMENTS))
    await service.billing.deliver(session(tariff=None, used=[]), reservation("R-9"))
    assert sorted(asked) == sorted(DOCUMENTS)


@pytest.mark.parametrize("decision", ["approve", "correct", "void"])
async def test_what_a_person_decides_has_the_margin_of_what_was_decided(service: Service, decision: str) -> None:
    one = msgspec.structs.replace(of_version(DEAR), held=("register_leapt",))
    await service.billing.deliver(
        of_version(DEAR, one.id, energy_mwh=9_000_000), msgspec.structs.replace(one, revision=2)
    )
    given = {"energy_wh": "5000"} if decision == "correct" else {}
    await service.post(f"{CHARGES}/{one.id}/{decision}", {"why": "seen", **given})
    first, note, *others = service.billing.documents(one.id)
    assert (by_lines(service.billing, first), by_lines(service.billing, note)) == (621_900, -621_900)
    assert [by_lines(service.billing, other) for other in others] == {
        "approve": [853_108],
        "correct": [345_500],
        "void": [],
    }[decision]
    for document in service.billing.documents(one.id):
        assert margin_of(service.billing, document_id=document["id"]) == by_lines(service.billing, document)


class Play:
    """Sessions of demand versions, and all that may happen to them and their documents."""

    def __init__(self, service: Service, seed: int) -> None:
        self._service = service
        self._billing = service.billing
        self._dice = random.Random(seed)
        self._revisions: dict[UUID, tuple[UUID, int]] = {}

    async def step(self) -> None:
        """One of them."""
        steps: list[Callable[[], Any]] = [
            *(self._new, self._new, self._revise, self._revise, self._void, self._held, self._credit, self._cancel)
        ]
        await self._dice.choice(steps)()

    async def _new(self) -> None:
        own_id, version = uuid4(), self._dice.choice((OWN, DEAR, CHEAP))
        self._revisions[own_id] = (version, 0)
        await self._next(own_id)

    async def _next(self, own_id: UUID, **changes: Any) -> None:
        version, revision = self._revisions[own_id]
        self._revisions[own_id] = (version, revision + 1)
        energy_mwh = self._dice.randrange(1_000_000, 60_000_000)
        one = of_version(version, own_id, revision=revision + 1, energy_mwh=energy_mwh)
        await self._billing.deliver(msgspec.structs.replace(one, **changes))

    async def _revise(self) -> None:
        if self._revisions:
            await self._next(self._dice.choice(list(self._revisions)))

    async def _void(self) -> None:
        if self._revisions:
            await self._next(self._dice.choice(list(self._revisions)), void=True)

    async def _held(self) -> None:
        """It waits, and a person decides."""
        if not self._revisions:
            return
        own_id = self._dice.choice(list(self._revisions))
        await self._next(own_id, held=("register_leapt",))
        if self._billing.cdrs(own_id)[-1]["status"] != "held":  # finance has cancelled it
            return
        decision = self._dice.choice(("approve", "correct", "void"))
        given = {"energy_wh": str(self._dice.randrange(1_000, 40_000))} if decision == "correct" else {}
        await self._service.post(f"{CHARGES}/{own_id}/{decision}", {"why": "seen", **given}, key=str(uuid4()))

    async def _credit(self) -> None:
        for invoice in self._valid():
            amount = Decimal(self._dice.randrange(1, 90)) / 100
            await self._service.post(
                f"{INVOICES}/{invoice['id']}/credit", {"amount": str(amount), "reason": "x"}, key=str(uuid4())
            )

    async def _cancel(self) -> None:
        for invoice in self._valid():
            await self._service.post(CANCEL, {"invoice_id": str(invoice["id"]), "reason": "x"}, key=str(uuid4()))

    def _valid(self) -> list[dict[str, Any]]:
        """One of the invoices that may be credited, if there is any."""
        found = [
            one
            for one in self._billing.documents()
            if one["kind"] == "invoice" and one["status"] in ("open", "paid") and one["payable_minor"] > 200
        ]
        return self._dice.sample(found, 1) if found else []

    def check(self) -> int:
        """How many documents were looked at."""
        documents = self._billing.documents()
        margins = {row["document_id"]: row["demand_margin_micros"] for row in published(self._billing)}
        notes: dict[UUID, list[dict[str, Any]]] = {}
        for one in documents:
            notes.setdefault(one["credits"], []).append(one)
        for one in documents:
            if one["kind"] == "credit_note":
                continue
            assert margins[one["id"]] == by_lines(self._billing, one)
            left_excl, left = one["total_excl_micros"], margins[one["id"]]
            for note in notes.get(one["id"], ()):
                share = -margins[note["id"]]
                assert abs(share * left_excl + left * note["total_excl_micros"]) < max(left_excl, 1)
                left_excl, left = left_excl + note["total_excl_micros"], left - share
            if one["status"] in ("credited", "cancelled"):
                assert (left_excl, left) == (0, 0)
        return len(documents)


async def test_each_document_has_its_margin_whatever_becomes_of_charges(service: Service, seed: int) -> None:
    play = Play(service, seed)
    for _ in range(60):
        await play.step()
    assert play.check() > 20


# -- bounds and reservations -------------------------------------------------------------------------------------------

CAPPED: Final = {"max_price": {"excl_vat": 2.5, "incl_vat": 3}}


@pytest.mark.parametrize("settle_s", [0, 60])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
async def test_bounds_are_of_both_prices_and_of_what_was_reserved(
    billing_url: str, order: tuple[int, ...], settle_s: int
) -> None:
    base, version = uuid4(), uuid4()
    tariff, by_demand = priced("0.1", **CAPPED), priced("0.9", **CAPPED)
    publish(billing_url, base, tariff, "operator")
    publish(billing_url, version, by_demand, "demand", base)
    used = consumption(900_000, 600_000)
    async with (
        open_running(billing_url, invoice_settle_s=settle_s, invoice_settle_max_s=settle_s) as billing,
        served(billing),
    ):
        one = session(energy_mwh=900_000, time_ms=600_000, tariff=by_demand, version=version, used=used)
        reserved = msgspec.structs.replace(reservation("R-1", minutes=25), tariff=by_demand, version=version)
        driver = msgspec.structs.replace(assigned(one.id, "ann"), reservation_id="R-1")
        payloads = (reserved, driver, one)
        await billing.deliver(*(payloads[place] for place in order))
        billing.clock.advance(settle_s)
        await billing.components.poster.invoice_due()
        cdr = billing.cdrs(one.id)[-1]
        before = rating.Reserved(cdr["reserved_excl_micros"], cdr["reserved_incl_micros"])
        document = json.dumps(tariff)
        by_base = rating.price(parse_tariff(document), used, reserved=before).total_excl_micros
        alone = rating.price(parse_tariff(document), used).total_excl_micros
        assert by_base == alone  # within the bounds by the base, and above the maximum by demand
        assert cdr["total_excl_micros"] + before.excl_micros == 2_500_000
        margin = cdr["total_excl_micros"] - by_base
        assert (cdr["demand_margin_micros"], margin_of(billing)) == (margin, margin)
        assert margin != 0


# -- collective invoices -----------------------------------------------------------------------------------------------


async def test_a_charge_on_a_collective_invoice_has_its_own(billing_url: str) -> None:
    async with (
        open_running(billing_url, invoice_settle_s=60, invoice_settle_max_s=60) as billing,
        served(billing) as service,
    ):
        await service.post(CUSTOMERS, wanted("Monthly GmbH", "ann", billing="monthly", time_zone="Europe/Berlin"))

        async def issue(*charged: Any) -> list[dict[str, Any]]:
            """The rows of the collective invoice on which these are."""
            for one in charged:
                await billing.deliver(assigned(one.id, "ann"), one)
            billing.clock.advance(60)
            await billing.components.poster.invoice_due()
            known = {row["id"] for row in billing.documents()}
            billing.clock.advance(32 * 86_400)
            await billing.components.statements.issue_due()
            (new,) = (row for row in billing.documents() if row["id"] not in known)
            return published(billing, document_id=new["id"])

        dear, cheap, old = of_version(DEAR), of_version(CHEAP, station_id="NL-2"), of_version(OLD, station_id="NL-3")
        rows = {row["station_id"]: row for row in await issue(dear, cheap, old)}
        kept = {station: row["demand_margin_micros"] for station, row in rows.items()}
        assert kept == {
            "NL-1": billing.cdrs(dear.id)[-1]["demand_margin_micros"],
            "NL-2": billing.cdrs(cheap.id)[-1]["demand_margin_micros"],
            "NL-3": None,
        }
        assert kept["NL-1"] > 0 > kept["NL-2"]
        first = rows["NL-1"]["document_id"]
        note = await service.post(f"{INVOICES}/{first}/credit", {"amount": "1.00", "reason": "x"})
        (of_part,) = published(billing, document_id=UUID(note["id"]))
        assert (of_part["station_id"], of_part["demand_margin_micros"]) == ("", 0)
        # A later month takes one back, which a person has voided, and has another.
        await billing.deliver(of_version(CHEAP, cheap.id, revision=2, station_id="NL-2", energy_mwh=1_000_000))
        await service.post(f"{CHARGES}/{cheap.id}/void", {"why": "test"})
        start = from_ms(billing.clock.now_ms())
        later = of_version(DEAR, station_id="NL-4", start=start, energy_mwh=50_000_000)
        await issue(later)
        assert margin_of(billing, station_id="NL-2") == 0
        assert len(published(billing, station_id="NL-2")) == 2
        assert margin_of(billing, station_id="NL-4") == billing.cdrs(later.id)[-1]["demand_margin_micros"] > 0
        # To cancel both takes all of it off: of the last one first.
        for document in (row["document_id"] for row in published(billing, station_id="NL-4")):
            await service.post(CANCEL, {"invoice_id": str(document), "reason": "x"}, key="last")
        await service.post(CANCEL, {"invoice_id": str(first), "reason": "x"}, key="first")
        for station in ("NL-1", "NL-2", "NL-4", ""):
            assert margin_of(billing, station_id=station) == 0
            assert sum(row["excl_micros"] for row in published(billing, station_id=station)) == 0
