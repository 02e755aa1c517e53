"""Notifications over HTTP: preferences, announcements, the ledger, templates; who may, and what is described."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from api.notifications.channels.signing import shown_secret
from api.notifications.declaration import SERVICE
from api.notifications.deliveries import examples as delivery_examples
from api.notifications.deliveries.models import Announced, DeliveryPage, NewAnnouncement, NotificationPage
from api.notifications.preferences import examples as preference_examples
from api.notifications.preferences.models import Preferences, StoredPreferences, WebhookSecret
from api.notifications.templates import examples as template_examples
from api.notifications.templates.models import NewTemplate, Preview, PreviewRequest, StoredTemplate, TemplateList
from schemas.topics import RESERVATION_CREATED
from tests.api.notifications_harness import KEY, PATH, Harness, message, notifications_harness, reservation
from tests.described import answers_as_described, asked_only_by, cases_of, takes_or_refuses
from tests.serving import make_schemas

NOW = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)
OWN, OPERATORS = {"operator", "driver"}, {"operator"}
TEMPLATE = f"{PATH}/templates/{{kind}}/{{channel}}/{{language}}"
OPERATIONS = {
    ("get", PATH): OWN,
    ("post", PATH): OPERATORS,
    ("get", f"{PATH}/deliveries"): OPERATORS,
    ("get", f"{PATH}/preferences"): OWN,
    ("put", f"{PATH}/preferences"): OWN,
    ("get", f"{PATH}/preferences/webhook-secret"): OWN,
    ("get", f"{PATH}/templates"): OPERATORS,
    ("get", TEMPLATE): OPERATORS,
    ("put", TEMPLATE): OPERATORS,
    ("delete", TEMPLATE): OPERATORS,
    ("post", f"{TEMPLATE}/preview"): OPERATORS,
}
RECEIPT = "/templates/invoice/email/en"


@pytest.fixture
async def harness(database_url: str) -> AsyncIterator[Harness]:
    """The service at work."""
    make_schemas(database_url, [SERVICE])
    async with notifications_harness(database_url, NOW) as running:
        yield running


# -- preferences ------------------------------------------------------------------------------------------------------


async def test_who_chose_nothing_has_the_defaults_and_what_is_chosen_is_shown_as_it_was(harness: Harness) -> None:
    found = await harness.ask("GET", "/preferences", 200, who="driver")
    assert (found["subject"], found["updated_at"], found["modes"]) == ("driver/D1", None, {})
    assert found["effective"]["receipts"]["email"] == "now"
    assert found["effective"]["sessions"]["sms"] == "off"
    put = await harness.ask("PUT", "/preferences", 200, preference_examples.PREFERENCES, who="driver")
    assert put == preference_examples.STORED_PREFERENCES
    assert await harness.ask("GET", "/preferences", 200, subject="driver/D1") == put
    again = await harness.ask("PUT", "/preferences", 200, {}, subject="driver/D1")
    assert (again["modes"], again["quiet"], again["addresses"]["email"]) == ({}, None, None)
    assert again["updated_by"].startswith("operator/")


async def test_a_driver_has_their_own_and_an_operator_anybody_s(harness: Harness) -> None:
    for method, path, body in (
        ("GET", "", None), ("GET", "/preferences", None), ("PUT", "/preferences", {}),
        ("GET", "/preferences/webhook-secret", None),
    ):  # fmt: skip
        await harness.ask(method, path, 403, body, who="driver", subject="driver/D2")
        await harness.ask(method, path, 200, body, who="driver", subject="driver/D1")
        await harness.ask(method, path, 200, body, subject="driver/D2")
        await harness.ask(method, path, 200, body)
    own = await harness.ask("GET", "/preferences/webhook-secret", 200, who="driver")
    assert own["secret"] == shown_secret(KEY, "driver/D1")


@pytest.mark.parametrize(
    ("preferences", "says"),
    [
        ({"modes": {"receipts": {"email": "off"}}}, "cannot be switched off"),
        ({"modes": {"receipts": {"email": "digest"}}}, "cannot be switched off"),
        ({"modes": {"receipts": {"mail": "now"}}}, "email"),
        ({"modes": {"all": {}}}, "receipts"),
        ({"addresses": {"email": "nobody"}}, "name@example.com"),
        ({"addresses": {"email": "a@b.c\r\nBcc: x@y.z"}}, "name@example.com"),
        ({"addresses": {"sms": "0612345678"}}, "sms"),
        ({"addresses": {"webhook": "http://example.com"}}, "https://"),
        ({"addresses": {"webhook": "https://user:secret@example.com"}}, "without user and password"),
        ({"addresses": {"webhook": "https://"}}, "https://example.com/hook"),
        ({"addresses": {"webhook": "https://169.254.169.254/"}}, "public addresses only"),
        ({"addresses": {"webhook": "https://2130706433/"}}, "public addresses only"),
        ({"addresses": {"webhook": "https://."}}, "no host name"),
        ({"addresses": {"webhook": "https://ex%00ample.com/"}}, "no host name"),
        ({"addresses": {"chat": "ops"}}, "operators"),
        ({"quiet": {"from": "24:00", "until": "07:00"}}, "22:00"),
        ({"quiet": {"from": "22:00"}}, "until"),
        ({"quiet": {"from": "22:00", "until": "22:00"}}, "both 22:00"),
        ({"digest_at": "8"}, "digest_at"),
        ({"time_zone": "Berlin"}, "Europe/Amsterdam"),
        ({"language": "deutsch"}, "language"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_what_cannot_be_chosen_is_refused_with_the_mend(
    harness: Harness, preferences: dict[str, Any], says: str
) -> None:
    refused = await harness.ask("PUT", "/preferences", 422, preferences, who="driver")
    assert says in json.dumps(refused)


async def test_what_an_older_version_stored_is_shown_though_it_is_refused_now(harness: Harness) -> None:
    await harness.prefer(quiet={"from": "22:00", "until": "07:00"})
    await harness.database.execute(
        "UPDATE notifications.recipient SET quiet_until_min = quiet_from_min, addresses = $1::jsonb",
        json.dumps({"webhook": "https://127.0.0.1/"}),
    )
    found = await harness.ask("GET", "/preferences", 200, who="driver")
    assert found["quiet"] == {"from": "22:00", "until": "22:00"}
    assert found["addresses"]["webhook"] == "https://127.0.0.1/"


async def test_an_operators_chat_is_one_of_the_settings(harness: Harness) -> None:
    await harness.prefer("team/operators", addresses={"chat": "ops"})
    await harness.prefer("team/operators", 422, addresses={"chat": "another"})
    for subject in ("operators", "team/", "king/x", "driver/" + "x" * 100):
        await harness.ask("GET", "/preferences", 422, subject=subject)


# -- announcements and pages ------------------------------------------------------------------------------------------


async def test_an_announcement_is_queued_for_each_once_with_its_key(harness: Harness) -> None:
    await harness.prefer(addresses={"email": "d1@example.com"})
    new = {**delivery_examples.ANNOUNCEMENT, "subjects": ["driver/D1", "driver/D2", "driver/D1"]}
    made = await harness.ask("POST", "", 202, new, key="k1")
    assert await harness.ask("POST", "", 202, new, key="k1") == made
    states = {
        subject: [(one["channel"], one["state"], one["reason"]) for one in found["deliveries"]]
        for subject, found in made["notifications"].items()
    }
    assert states == {
        "driver/D1": [("email", "queued", None)],
        "driver/D2": [("email", "suppressed", "no address")],
    }
    await harness.send_all()
    (one,) = harness.sent("email")
    assert (one.title, one.body) == (new["title"], new["text"])
    assert len(await harness.rows()) == 2
    await harness.ask("POST", "", 409, {**new, "title": "other"}, key="k1")
    wrongs: list[dict[str, Any]] = [
        {"subjects": []}, {"subjects": ["driver/D1"] * 101}, {"title": ""}, {"text": "a\x00b"},
    ]  # fmt: skip
    for wrong in wrongs:
        await harness.ask("POST", "", 422, {**new, **wrong})


async def test_pages_of_own_notifications_are_all_of_them_once(harness: Harness) -> None:
    await harness.prefer(addresses={"email": "d1@example.com"})
    for number in range(7):
        harness.clock.advance(number % 2)
        await harness.deliver(message(RESERVATION_CREATED, f"{number}", reservation(f"R-{number}")))
    await harness.deliver(message(RESERVATION_CREATED, "other", reservation(driver_id="D2")))
    seen: list[str] = []
    address: str | None = f"{PATH}?limit=3"
    headers = {"authorization": f"Bearer {harness.tokens['driver']}"}
    while address:
        page = (await harness.client.get(address, headers=headers)).json()
        seen += [one["id"] for one in page["notifications"]]
        assert all(len(one["deliveries"]) == 1 for one in page["notifications"])
        harness.clock.advance(1)
        await harness.deliver(message(RESERVATION_CREATED, f"new {len(seen)}", reservation(f"N-{len(seen)}")))
        address = page["next"]
    assert len(seen) == len(set(seen)) == 7
    assert "cursor" in (await harness.ask("GET", "", 422, cursor="x"))["detail"]


async def test_the_ledger_is_filtered_and_its_pages_are_all_of_it(harness: Harness) -> None:
    await harness.prefer(modes={"reservations": {"push": "off"}})
    for number in range(4):
        await harness.deliver(message(RESERVATION_CREATED, f"{number}", reservation(f"R-{number}")))
        harness.clock.advance(60)
    first = await harness.ask("GET", "/deliveries", 200, limit=5)
    assert first["counts"]["queued"] == 12
    assert first["counts"]["suppressed_by_reason"] == {"switched off by the recipient": 4}
    seen, following = first["deliveries"], first["next"]
    headers = {"authorization": f"Bearer {harness.tokens['operator']}"}
    while following:
        page = (await harness.client.get(following, headers=headers)).json()
        assert page["counts"] is None
        seen, following = seen + page["deliveries"], page["next"]
    assert len({one["id"] for one in seen}) == len(seen) == 12
    only = await harness.ask("GET", "/deliveries", 200, state="suppressed", channel="push", subject="driver/D1")
    assert {one["state"] for one in only["deliveries"]} == {"suppressed"}
    assert only["counts"]["queued"] == 4
    some = await harness.ask("GET", "/deliveries", 200, start="2026-03-29T09:01:00Z", end="2026-03-29T09:03:00Z")
    assert some["counts"]["queued"] == len(some["deliveries"]) == 6
    await harness.ask("GET", "/deliveries", 422, start="2026-03-29T09:01:00Z", end="2026-03-29T09:01:00Z")


# -- templates --------------------------------------------------------------------------------------------------------


async def test_a_template_is_edited_used_and_reset(harness: Harness) -> None:
    await harness.prefer(addresses={"push": "phone"})
    path = "/templates/reservation_created/push/en"
    before = await harness.ask("GET", path, 200)
    assert (before["source"], before["version"]) == ("built-in", 0)
    new = {"title": "{{ station | upper }}", "body": "from {{ starts_at | local }}", "version": 0}
    edited = await harness.ask("PUT", path, 200, new)
    assert (edited["source"], edited["version"], edited["title"]) == ("edited", 1, new["title"])
    await harness.ask("PUT", path, 409, new)
    await harness.ask("PUT", path, 200, {**new, "version": 1})
    listed = await harness.ask("GET", "/templates", 200)
    assert [(one["kind"], one["version"]) for one in listed["edited"]] == [("reservation_created", 2)]
    await harness.deliver(message(RESERVATION_CREATED, "1", reservation()))
    (row,) = await harness.rows("WHERE d.channel = 'push'")
    assert (row["title"], row["body"]) == ("ST-1", "from 2026-03-29 10:00")
    for method in ("DELETE", "DELETE", "GET"):
        assert await harness.ask(method, path, 200) == {**before, "version": 3}
    assert (await harness.ask("GET", "/templates", 200))["edited"] == []
    await harness.deliver(message(RESERVATION_CREATED, "2", reservation("R-2")))
    assert {row["title"] for row in await harness.rows("WHERE d.channel = 'push'")} == {"ST-1", "Reserved at ST-1"}
    for old in (0, 1, 2):
        await harness.ask("PUT", path, 409, {**new, "version": old})
    assert (await harness.ask("PUT", path, 200, {**new, "version": 3}))["version"] == 4


@pytest.mark.parametrize(
    ("parts", "part", "line"),
    [
        ({"body": "a\nb\n{{ number"}, "body", 3),
        ({"body": "a\n{% for x in number %}"}, "body", 2),
        ({"title": "{{ nothing }}"}, "title", 1),
        ({"html": "<p>\n{{ [].__class__ }}\n</p>"}, "html", 2),
        ({"html": "<p>\n\n{{ 1 / 0 }}"}, "html", 3),
        ({"body": "{% include 'secrets' %}"}, "body", 1),
    ],
)
async def test_an_error_in_a_template_is_told_with_its_line(
    harness: Harness, parts: dict[str, Any], part: str, line: int
) -> None:
    source = {"title": "t", "body": "b", "html": None, **parts}
    for method, path, body in (
        ("PUT", RECEIPT, {**source, "version": 0}),
        ("POST", f"{RECEIPT}/preview", {"template": source}),
    ):
        refused = await harness.ask(method, path, 422, body)
        assert (refused["part"], refused["line"]) == (part, line), refused
        assert f"{part}, line {line}" in refused["detail"]
    assert (await harness.ask("GET", RECEIPT, 200))["version"] == 0


@pytest.mark.parametrize(
    ("part", "text", "says"),
    [
        ("title", r'{{ "\x00" }}', "control characters"),
        ("body", r'{{ "\x00" }}', "control characters"),
        ("body", r'{{ "\ud800" }}', "control characters"),
        ("body", r'{{ "\x1b" }}', "control characters"),
        ("body", "{{ " + "9" * 5_000 + " }}", "digits"),
        ("title", "{# nothing #}", "to nothing"),
        ("body", "  ", "to nothing"),
        ("body", "{{ number.upper }}", "upper"),
    ],
)
async def test_a_template_whose_text_cannot_be_sent_is_refused(
    harness: Harness, part: str, text: str, says: str
) -> None:
    source = {"title": "t", "body": "b", "html": None, part: text}
    for method, path, body in (
        ("PUT", RECEIPT, {**source, "version": 0}),
        ("POST", f"{RECEIPT}/preview", {"template": source}),
    ):
        refused = await harness.ask(method, path, 422, body)
        assert refused["part"] == part
        assert says in refused["detail"]


async def test_a_stored_template_that_renders_a_control_character_and_variables_with_one_stop_no_message(
    harness: Harness,
) -> None:
    """One that an older version stored."""
    await harness.prefer(addresses={"push": "phone"})
    path = "/templates/reservation_moved/push/en"
    await harness.ask("PUT", path, 200, {"title": "t", "body": "b", "version": 0})
    await harness.database.execute("UPDATE notifications.template SET body = $1", r'{{ "\x00" }}')
    moved = reservation(moved_from="ST-0", reason="a\x00b\x1bc")
    await harness.deliver(message(RESERVATION_CREATED, "1", moved))
    (row,) = await harness.rows("WHERE d.channel = 'push'")
    assert "a\ufffdb\ufffdc" in row["body"]
    assert "U+0000" in (await harness.ask("GET", path, 200))["error"]


async def test_a_preview_shows_what_would_be_sent_and_stores_nothing(harness: Harness) -> None:
    shown = await harness.ask("POST", f"{RECEIPT}/preview", 200, template_examples.PREVIEW_REQUEST)
    assert (shown["title"], shown["body"]) == (template_examples.PREVIEW["title"], template_examples.PREVIEW["body"])
    built_in = await harness.ask("POST", f"{RECEIPT}/preview", 200, {})
    assert built_in["title"] == "Your receipt 2026-000042"
    german = await harness.ask("POST", "/templates/invoice/sms/de/preview", 200, {"time_zone": "Europe/Berlin"})
    assert "Beleg 2026-000042" in german["body"]
    assert german["html"] is None
    half = {"template": {"title": "x {{ number }}", "body": "b", "html": None}, "variables": {"number": "\ud800"}}
    answer = await harness.client.post(
        f"{PATH}{RECEIPT}/preview",
        content=json.dumps(half),
        headers={"content-type": "application/json", "authorization": f"Bearer {harness.tokens['operator']}"},
    )
    assert answer.status_code == 422
    assert "half of a surrogate pair" in answer.text
    assert (await harness.ask("GET", "/templates", 200))["edited"] == []
    await harness.ask("PUT", "/templates/invoice/sms/en", 422, {"title": "t", "body": "b", "html": "h", "version": 0})
    for path in ("/templates/nothing/email/en", "/templates/invoice/pigeon/en", "/templates/invoice/email/english"):
        await harness.ask("GET", path, 422)


async def test_where_an_edited_template_fails_the_built_in_one_is_sent_and_it_is_told(harness: Harness) -> None:
    """It worked with the sample and does not with what came: here a connector that is none."""
    await harness.prefer(addresses={"push": "phone"})
    path = "/templates/reservation_created/push/en"
    await harness.ask("PUT", path, 200, {"title": "t", "body": "at\n{{ connector_id + 1 }}", "version": 0})
    await harness.deliver(message(RESERVATION_CREATED, "1", reservation(connector_id=None, bay="B1")))
    (row,) = await harness.rows("WHERE d.channel = 'push'")
    assert row["title"] == "Reserved at ST-1"
    shown = await harness.ask("GET", path, 200)
    assert (shown["source"], shown["version"]) == ("edited", 1)
    assert "body, line 2" in shown["error"]
    fixed = await harness.ask("PUT", path, 200, {"title": "t", "body": "{{ connector_id }}", "version": 1})
    assert fixed["error"] is None


async def test_whoever_is_no_recipient_says_whose_they_mean(harness: Harness) -> None:
    for who in ("admin", "support", "auditor"):
        await harness.ask("GET", "/preferences", 422, who=who)
        await harness.ask("GET", "/preferences", 200, who=who, subject="driver/D1")
        await harness.ask("PUT", "/preferences", 200 if who == "admin" else 403, {}, who=who, subject="driver/D1")
        await harness.ask("GET", "/preferences/webhook-secret", 422 if who == "admin" else 403, who=who)


# -- operations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("operation", "kinds"), OPERATIONS.items())
async def test_only_those_may_ask_who_should(harness: Harness, operation: tuple[str, str], kinds: set[str]) -> None:
    method, path = operation
    address = path.format(kind="invoice", channel="email", language="en")
    await asked_only_by(harness.client, harness.tokens, method, address, kinds)


async def test_every_operation_is_described_with_an_example_and_its_problems(harness: Harness) -> None:
    paths = (await harness.client.get("/openapi.json")).json()["paths"]
    described = {(method, path) for path in paths for method in paths[path] if path.startswith("/api/")}
    assert described == set(OPERATIONS)
    for method, path in OPERATIONS:
        operation = paths[path][method]
        assert operation["summary"], path
        assert operation["description"], path
        assert operation["security"], path
        assert {"401", "403", "422", "503"} <= set(operation["responses"]), path
        (success,) = ({"200", "202"} & set(operation["responses"]),)
        assert "example" in operation["responses"][success.pop()]["content"]["application/json"], path


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (Preferences, preference_examples.PREFERENCES),
        (StoredPreferences, preference_examples.STORED_PREFERENCES),
        (WebhookSecret, preference_examples.SECRET),
        (NotificationPage, delivery_examples.PAGE),
        (NewAnnouncement, delivery_examples.ANNOUNCEMENT),
        (Announced, delivery_examples.ANNOUNCED),
        (DeliveryPage, delivery_examples.DELIVERIES),
        (NewTemplate, template_examples.NEW_TEMPLATE),
        (StoredTemplate, template_examples.TEMPLATE),
        (StoredTemplate, template_examples.EDITED_TEMPLATE),
        (TemplateList, template_examples.TEMPLATES),
        (PreviewRequest, template_examples.PREVIEW_REQUEST),
        (Preview, template_examples.PREVIEW),
    ],
)
def test_examples_are_what_the_models_say(model: type[BaseModel], example: dict[str, Any]) -> None:
    model.model_validate_json(json.dumps(example))


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_no_question_is_a_server_error_or_answered_otherwise_than_described(
    harness: Harness, method: str, path: str
) -> None:
    schema = schemathesis.openapi.from_dict((await harness.client.get("/openapi.json")).json())
    headers = {"authorization": f"Bearer {harness.tokens['operator']}"}
    cases = cases_of(schema[path][method.upper()])

    @settings(max_examples=40, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(case=cases, known=st.booleans())
    def ask(case: schemathesis.Case[Any], known: bool) -> None:
        if known and "{kind}" in path:
            case.path_parameters = {"kind": "invoice", "channel": "email", "language": "en"}
        answers_as_described(case, harness.base_url, headers)

    await asyncio.to_thread(ask)


@pytest.mark.parametrize(
    ("method", "path", "good"),
    [
        ("PUT", "/preferences", preference_examples.PREFERENCES),
        ("POST", "", delivery_examples.ANNOUNCEMENT),
        ("PUT", RECEIPT, template_examples.NEW_TEMPLATE),
        ("POST", f"{RECEIPT}/preview", template_examples.PREVIEW_REQUEST),
    ],
)
async def test_anything_anywhere_in_a_body_is_taken_or_refused(
    harness: Harness, method: str, path: str, good: dict[str, Any]
) -> None:
    bearer = {"authorization": f"Bearer {harness.tokens['operator']}"}
    await takes_or_refuses(
        harness.client, method, PATH + path, good, headers=bearer, refusals=(400, 409, 422), examples=100
    )


async def test_an_edited_template_is_audited_with_what_was_before(harness: Harness, database_url: str) -> None:
    path = "/templates/reservation_created/push/en"
    new = {"title": "one", "body": "b", "version": 0}
    await harness.ask("PUT", path, 200, new)
    await harness.ask("PUT", path, 409, new)
    await harness.ask("PUT", path, 200, {**new, "title": "two", "version": 1})
    for _ in range(2):
        await harness.ask("DELETE", path, 200)
    query = "SELECT action, entity, before, after FROM audit.entry WHERE action ~ '^template' ORDER BY id"
    with psycopg.connect(database_url) as connection:
        entries = connection.execute(query).fetchall()
    one, two = ({"title": title, "body": "b", "html": None, "version": at} for at, title in ((1, "one"), (2, "two")))
    entity = "template/reservation_created/push/en"
    assert entries == [
        ("template.edited", entity, None, one),
        ("template.edited", entity, one, two),
        ("template.reset", entity, two, None),
    ]
