"""Drivers as subjects: what is exported, what is erased, what stays, and what may not be forgotten."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from api.privacy import examples
from api.privacy.models import Erasure, PersonalDataExport
from kit.personal_data import PSEUDONYM_PREFIX
from tests.api.privacy_app import (
    NOW,
    STATION,
    THEN,
    PrivacyApp,
    charge,
    hold_everything,
    invoice,
    person,
    put,
    rows_with,
    running_privacy,
)
from tests.described import answers_as_described, asked_only_by, cases_of, described_are

PATH = "/api/v1/privacy/{subject}"
OPERATIONS = {("get", PATH): {"driver"}, ("delete", PATH): {"driver"}}
# What stays of a driver who has everything, and in which tables.
KEPT = {
    "documents": {"billing.invoice", "billing.document_terms", "billing.cdr", "billing.session_driver"},
    "audit_entries": {"audit.entry"},
    "token_revocations": {"access.signed_token_revocation"},
}
SUBJECTS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20).filter(
    str.isprintable
)


@pytest.fixture
async def privacy(database_url: str) -> AsyncIterator[PrivacyApp]:
    async with running_privacy(database_url) as running:
        yield running


def _by_kind(export: dict[str, Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in export["data"]:
        counts[part["kind"]] = counts.get(part["kind"], 0) + len(part["records"])
    return counts


async def test_whoever_is_erased_is_found_nowhere_but_in_what_the_answer_says_is_kept(privacy: PrivacyApp) -> None:
    loop = asyncio.get_running_loop()

    def ask(method: str, subject: str) -> Any:
        return asyncio.run_coroutine_threadsafe(privacy.ask(method, subject), loop).result()

    @settings(max_examples=15, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(SUBJECTS, st.booleans())
    def law(text: str, documents: bool) -> None:
        one, other = person(f"{text}{uuid4().hex[:8]}"), person(f"{text}{uuid4().hex[8:16]}")
        with privacy.connect() as connection:
            for each in (one, other):
                hold_everything(connection, each, documents=documents)
            others_before = rows_with(connection, other.texts)
            exported = ask("GET", one.subject)
            assert exported.status_code == 200, exported.text
            assert set(one.texts) <= {
                text for text in one.texts if text in json.dumps(exported.json(), ensure_ascii=False)
            } | {text for text in one.texts if json.dumps(text, ensure_ascii=False)[1:-1] in exported.text}
            answer = ask("DELETE", one.subject)
            assert answer.status_code == 200, answer.text
            kept = {part["kind"] for part in answer.json()["kept"]}
            assert kept == (set(KEPT) if documents else set())
            left = rows_with(connection, one.texts)
            assert set(left) == {table for kind in kept for table in KEPT[kind]}
            assert rows_with(connection, other.texts) == others_before
            assert ask("DELETE", one.subject).json() == answer.json()
            assert rows_with(connection, one.texts) == left

    await asyncio.to_thread(law)


async def test_all_that_is_erased_or_kept_was_in_the_export(privacy: PrivacyApp) -> None:
    one = person('acme/4711 ä"%')
    with privacy.connect() as connection:
        hold_everything(connection, one)
        export = PersonalDataExport.model_validate((await privacy.ask("GET", one.subject)).json())
        before = _by_kind(export.model_dump())
        answer = Erasure.model_validate((await privacy.ask("DELETE", one.subject)).json())
        counted = {part.kind: part.records for part in answer.erased}
        assert counted.keys() | {part.kind for part in answer.kept} == before.keys()
        # A response that an operator got, and a letter that is no JSON, are nobody's to read but the operator's.
        assert {kind: counted[kind] for kind in counted.keys() - {"responses", "dead_letters", "charges"}} == {
            kind: before[kind] for kind in counted.keys() - {"responses", "dead_letters", "charges"}
        }
        after = _by_kind((await privacy.ask("GET", one.subject)).json())
        assert after.keys() == {part.kind for part in answer.kept} | {"charges"}
        assert {part.kind: str(part.until) for part in answer.kept} == {
            "documents": "2037-01-01",
            "token_revocations": "None",
            "audit_entries": str(
                (_recorded(connection, one.subject) + timedelta(days=3_652.5)).date() + timedelta(days=1)
            ),
        }
        pseudonyms = {row[0] for row in connection.execute("SELECT driver_id FROM sessions.request").fetchall()}
        assert len(pseudonyms) == 1
        assert min(pseudonyms).startswith(PSEUDONYM_PREFIX)


def _recorded(connection: Any, subject: str) -> Any:
    query = "SELECT max(recorded_at) FROM audit.entry WHERE actor = %s OR after ->> 'subject' = %s"
    return connection.execute(query, (f"driver/{subject}", subject)).fetchone()[0]


async def test_while_something_is_open_nothing_is_erased_and_the_answer_says_what(privacy: PrivacyApp) -> None:
    subject, session, waiting = "d-7", uuid4(), uuid4()
    with privacy.connect() as connection:
        put(
            connection, "sessions.request", id=waiting, driver_id=subject, station_id=STATION, connector_id=1,
            requested_by="x", requested_at=NOW, expires_at=NOW + timedelta(seconds=1), claims_from=NOW,
            claims_until=NOW,
        )  # fmt: skip
        put(
            connection, "sessions.request", id=uuid4(), driver_id=subject, station_id=STATION, connector_id=1,
            requested_by="x", requested_at=THEN, expires_at=THEN, claims_from=THEN, claims_until=THEN,
            session_id=session,
        )  # fmt: skip
        place = connection.execute(
            "INSERT INTO reservations.place (station_id, connector_id, registered) VALUES ('X', 1, true) "
            "RETURNING place_key"
        ).fetchone()
        assert place is not None
        put(
            connection, "reservations.reservation", id=uuid4(), driver_id=subject, place_key=place[0], station_id="X",
            connector_id=1, starts_at=NOW, ends_at=NOW + timedelta(hours=1), state="confirmed", revision=1,
            created_at=THEN, created_by="x", due_at=NOW,
        )  # fmt: skip
        put(
            connection, "reservations.waiting", id=uuid4(), site="north", driver_id=subject, standard="x",
            power_w_min=0, duration_s=60, joined_at=THEN, state="waiting",
        )  # fmt: skip
        charge(connection, subject, uuid4(), "held")
        unpaid = uuid4()
        invoice(connection, subject, charge(connection, subject, unpaid, "invoiced"), unpaid, "open")
        before = rows_with(connection, (subject,))
        answer = await privacy.ask("DELETE", subject)
        assert answer.status_code == 409
        matters = answer.json()["open"]
        assert [one["kind"] for one in matters] == [
            "charging_requests", "charging_requests", "reservations", "waiting_list", "charges", "documents",
        ]  # fmt: skip
        for one, words in zip(
            matters,
            ("is not over", "waits for its", "is confirmed", "is waiting", "is held", "is not paid"),
            strict=True,
        ):
            assert words in one["what"]
        assert rows_with(connection, (subject,)) == before
        privacy.clock.advance(2)  # the request to start has expired, and nothing else has
        assert len((await privacy.ask("DELETE", subject)).json()["open"]) == 5


async def test_a_business_keeps_its_customer_and_a_charge_that_waits_for_its_month_keeps_the_driver(
    privacy: PrivacyApp,
) -> None:
    with privacy.connect() as connection:
        customers = {"alone": uuid4(), "taxed": uuid4(), "shared": uuid4()}
        for driver, customer in customers.items():
            put(
                connection, "billing.customer", id=customer, name=f"of {driver}", address={}, version=1,
                created_at=THEN, changed_at=THEN, tax_id="DE1" if driver == "taxed" else "",
            )  # fmt: skip
            put(connection, "billing.customer_driver", driver_id=driver, customer_id=customer)
        put(connection, "billing.customer_driver", driver_id="colleague", customer_id=customers["shared"])
        waiting = uuid4()
        collected = charge(connection, "shared", waiting, "invoiced")
        put(
            connection, "billing.collected_charge", cdr_id=collected, subject_id=waiting, version=1,
            customer_id=customers["shared"], currency="EUR", label=f"{STATION} · shared", energy_uj=1, started_at=THEN,
            ended_at=THEN, lines=[], collected_at=THEN,
        )  # fmt: skip
        assert "waits for the collective invoice" in (await privacy.ask("DELETE", "shared")).json()["detail"]
        statement = invoice(connection, "", collected, uuid4())
        connection.execute("UPDATE billing.invoice SET driver_id = NULL WHERE id = %s", (statement,))
        connection.execute("UPDATE billing.collected_charge SET statement_id = %s", (statement,))
        answers = {driver: (await privacy.ask("DELETE", driver)).json() for driver in customers}
        assert [part["kind"] for part in answers["shared"]["kept"]] == ["documents"]
        assert (answers["alone"]["kept"], answers["taxed"]["kept"]) == ([], [])
        left = {row[0] for row in connection.execute("SELECT id FROM billing.customer").fetchall()}
        assert left == {customers["taxed"], customers["shared"]}
        drivers = connection.execute("SELECT driver_id FROM billing.customer_driver").fetchall()
        assert drivers == [("colleague",)]


async def test_what_comes_after_an_erasure_is_new_and_stays(privacy: PrivacyApp) -> None:
    one = person("d-9")
    with privacy.connect() as connection:
        hold_everything(connection, one, documents=False)
        first = (await privacy.ask("DELETE", one.subject)).json()
        hold_everything(connection, one, documents=False)
        assert _by_kind((await privacy.ask("GET", one.subject)).json())["charging_requests"] == 1
        privacy.clock.advance(60)
        second = (await privacy.ask("DELETE", one.subject)).json()
        assert second["erased_at"] > first["erased_at"]
        assert second["erased"] == first["erased"]
        drivers = connection.execute("SELECT DISTINCT driver_id FROM sessions.request").fetchall()
        assert len(drivers) == 2, "nothing connects the two"


async def test_two_erasures_at_once_are_one(privacy: PrivacyApp) -> None:
    one = person("d-8")
    with privacy.connect() as connection:
        hold_everything(connection, one)
    answers = await asyncio.gather(*(privacy.ask("DELETE", one.subject) for _ in range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len({answer.text for answer in answers}) == 1


async def test_a_driver_has_their_own_and_no_token_afterwards(privacy: PrivacyApp) -> None:
    one = person("d-1")
    with privacy.connect() as connection:
        hold_everything(connection, one, documents=False)
    own = privacy.tokens["driver"]
    assert (await privacy.ask("GET", "d-1", own)).status_code == 200
    for method in ("GET", "DELETE"):
        assert (await privacy.ask(method, "d-10", own)).status_code == 404
    for kind in ("operator", "finance", "support", "device"):
        assert (await privacy.ask("GET", "d-1", privacy.tokens[kind])).status_code == 403
    assert (await privacy.ask("GET", "d-1", privacy.tokens["auditor"])).status_code == 200
    assert (await privacy.ask("DELETE", "d-1", privacy.tokens["auditor"])).status_code == 403
    answer = await privacy.ask("DELETE", "d-1", own)
    assert answer.status_code == 200, answer.text
    with privacy.connect() as connection:
        assert connection.execute("SELECT count(*) FROM access.token WHERE subject = 'd-1'").fetchone() == (0,)


async def test_of_nobody_there_is_nothing_and_that_may_be_erased(privacy: PrivacyApp) -> None:
    assert (await privacy.ask("GET", "nobody")).json()["data"] == []
    answer = (await privacy.ask("DELETE", "nobody")).json()
    assert (answer["erased"], answer["kept"]) == ([], [])
    privacy.clock.advance(60)
    assert (await privacy.ask("DELETE", "nobody")).json() == answer


async def test_the_audit_says_who_asked_and_not_of_whom(privacy: PrivacyApp) -> None:
    one = person("d-3x")
    with privacy.connect() as connection:
        hold_everything(connection, one, documents=False)
        await privacy.ask("GET", one.subject)
        await privacy.ask("DELETE", one.subject)
        entries = connection.execute(
            "SELECT action, actor, entity, after, endpoint FROM audit.entry WHERE action LIKE 'privacy.%' ORDER BY id"
        ).fetchall()
    (read, reader, entity, _, endpoint), (erased, eraser, same, after, _) = entries
    assert (read, erased, entity) == ("privacy.exported", "privacy.erased", same)
    assert entity.startswith("person/")
    assert reader == eraser
    assert reader.startswith("admin/")
    assert endpoint == PATH
    assert after["erased"]["tokens"] == 1
    assert one.subject not in str(entries)


async def test_a_long_export_comes_in_chunks_and_is_one_document(privacy: PrivacyApp) -> None:
    with privacy.connect() as connection:
        for number in range(300):
            put(
                connection, "notifications.notification", id=uuid4(), cause_id=uuid4(), kind="invoice", category="x",
                subject="driver/long", context={"number": number, "text": "x" * 1_000}, created_at=THEN,
            )  # fmt: skip
        put(connection, "access.token", id=uuid4(), kind="driver", hash=uuid4().bytes * 2, label="", subject="long")
    export = (await privacy.ask("GET", "long")).json()
    assert [(part["service"], len(part["records"])) for part in export["data"]] == [
        ("privacy", 1),
        ("notifications", 300),
    ]


# -- The edge. --------------------------------------------------------------------------------------------------------


async def test_operations_are_described_with_examples_and_are_for_those_who_may(privacy: PrivacyApp) -> None:
    await described_are(privacy.client, OPERATIONS)
    for method, path in OPERATIONS:
        kinds = {"driver", "auditor"} if method == "get" else {"driver"}
        await asked_only_by(privacy.client, privacy.tokens, method, path.replace("{subject}", "d-1"), kinds)
    PersonalDataExport.model_validate(examples.EXPORT)
    Erasure.model_validate(examples.ERASURE)


async def test_generated_requests_are_answered_as_described(privacy: PrivacyApp) -> None:
    schema = schemathesis.openapi.from_dict((await privacy.client.get("/openapi.json")).json())
    headers = {"authorization": f"Bearer {privacy.tokens['admin']}"}
    for method, path in OPERATIONS:

        @settings(max_examples=30, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
        @given(case=cases_of(schema[path][method.upper()]))
        def law(case: schemathesis.Case[Any]) -> None:
            answers_as_described(case, privacy.base_url, headers)

        await asyncio.to_thread(law)
