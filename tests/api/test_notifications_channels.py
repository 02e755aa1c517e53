"""The contract of every channel, against a real SMTP server and against stand-ins of the providers: a taken message
has a receipt, a full one is told when to come again, an address that is gone is told, and nothing else is raised than
what means "no answer"."""

import asyncio
import base64
import hashlib
import hmac
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from api.notifications.channels.channel import (
    REASON_CHARS_MAX,
    Attachment,
    Gone,
    Outcome,
    OutgoingMessage,
    Receipt,
    Rejected,
    RetryAfter,
    SendingChannel,
)
from api.notifications.channels.chat import ChatChannel
from api.notifications.channels.email import EmailChannel
from api.notifications.channels.http import HttpSender
from api.notifications.channels.opening import open_channels
from api.notifications.channels.push import PushChannel
from api.notifications.channels.signing import shown_secret, signature_of
from api.notifications.channels.sms import SmsChannel
from api.notifications.channels.webhook import WebhookChannel
from api.notifications.settings import NotificationSettings
from kit.clock import ManualClock
from kit.errors import ConfigError
from tests.api.http_standin import StandIn, http_standin
from tests.api.smtp_server import PASSWORD, USER, SmtpServer, smtp_server
from voltstream.settings import load_settings

NOW = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)
TIMEOUT_S = 1
SECRETS = (PASSWORD, "an-sms-password", "k" * 32, "an-access-token", "PRIVATE KEY")
MESSAGE = OutgoingMessage(
    id=UUID("0f8b1c7e-6a0c-5b57-8f5e-50f7c1f6a001"),
    kind="invoice",
    subject="driver/D1",
    address="",
    title="Ihr Beleg 2026-1 – für Sie",
    body="Betrag: 12,10 EUR\n.\nÜbrigens …",
    html="<p>Betrag: 12,10 €</p>",
    language="de",
    created_at=NOW,
    context={"number": "2026-1"},
)
# Of a module that apprise imports for each of its services.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")
KINDS = ("email", "push", "sms", "webhook", "chat")


@dataclass
class Bench:
    """A channel and its other side, which `answers` a kind of answer from now on."""

    channel: SendingChannel
    message: OutgoingMessage
    answers: Callable[[str], None]
    http: StandIn | None = None
    smtp: SmtpServer | None = None

    async def send(self, **more: Any) -> Outcome:
        """An attempt."""
        return await self.channel.send(replace(self.message, **more))


def _settings(**more: Any) -> NotificationSettings:
    return NotificationSettings(
        **{
            "notification_timeout_s": TIMEOUT_S,
            "webhook_key": "k" * 32,
            "mail_from": "Volt <no-reply@example.com>",
            **more,
        }
    )


@asynccontextmanager
async def mail(folder: Path, **more: Any) -> AsyncIterator[Bench]:
    """E-mail with STARTTLS and a login."""
    async with smtp_server(folder) as server:
        settings = _settings(
            smtp_host="127.0.0.1", smtp_port=server.port, smtp_ca_file=str(server.ca_file), smtp_user=USER,
            smtp_password=PASSWORD, mail_reply_to="help@example.com", **more,
        )  # fmt: skip
        channel = EmailChannel(settings)

        def answers(what: str) -> None:
            server.silent = what == "silence"
            server.rcpt = {
                "gone": "550 5.1.1 no such mailbox",
                "full": "451 4.7.1 greylisted",
                "broken": "421 4.3.0 away",
            }.get(what, "")
            server.data = "552 5.3.4 too large" if what == "never" else ""

        yield Bench(channel, replace(MESSAGE, address="d1@example.com"), answers, smtp=server)


ANSWERS: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "ok": (200, b'{"name": "projects/p/messages/1", "sid": "SM1"}', {}),
    "unauthorized": (401, b"who?", {}),
    "gone": (410, b"gone", {}),
    "full": (429, b"slow down", {"retry_after": "17"}),
    "broken": (500, b"oops", {}),
    "never": (400, b"bad", {}),
}


def _http_answers(standin: StandIn) -> Callable[[str], None]:
    def answers(what: str) -> None:
        if what == "silence":
            standin.is_silent()
        else:
            status, body, headers = ANSWERS[what]
            standin.says(status, body, **headers)

    answers("ok")
    return answers


@asynccontextmanager
async def push(folder: Path, clock: ManualClock | None = None) -> AsyncIterator[Bench]:
    """Push, with a service account."""
    key = rsa.generate_private_key(65_537, 2_048)
    async with http_standin() as standin:
        token = b'{"access_token": "an-access-token", "expires_in": 3600}'
        standin.answers["/token"] = (200, {}, token)
        account = {
            "project_id": "p",
            "client_email": "push@p.example",
            "token_uri": f"{standin.url}/token",
            "private_key_id": "key-1",
            "private_key": key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode(),
        }
        file = folder / "account.json"
        file.write_text(json.dumps(account))
        channel = PushChannel(str(file), standin.url, HttpSender(TIMEOUT_S), clock or ManualClock(NOW))
        bench = Bench(channel, replace(MESSAGE, address="device-1", html=None), _http_answers(standin), standin)
        yield bench
        await channel.close()
        for one in standin.asked:  # what it signed is what Google verifies
            if one.path == "/token":
                form = parse_qs(one.body.decode())
                options: Any = {"verify_exp": False, "verify_iat": False}
                claims = jwt.decode(
                    form["assertion"][0], key.public_key(), ["RS256"], options, audience=f"{standin.url}/token"
                )
                assert claims["iss"] == "push@p.example"
                assert claims["exp"] - claims["iat"] == 3_600


@asynccontextmanager
async def sms(folder: Path) -> AsyncIterator[Bench]:
    """SMS, with a login."""
    async with http_standin() as standin:
        settings = _settings(
            sms_url=f"{standin.url}/sms",
            sms_user="u",
            sms_password="an-sms-password",  # noqa: S106  # of a test server
            sms_from="VOLT",
        )
        channel = SmsChannel(settings, HttpSender(TIMEOUT_S), ManualClock(NOW))
        yield Bench(channel, replace(MESSAGE, address="+31612345678"), _http_answers(standin), standin)
        await channel.close()


@asynccontextmanager
async def webhook(folder: Path) -> AsyncIterator[Bench]:
    """A webhook, to a private address."""
    async with http_standin() as standin:
        channel = WebhookChannel("k" * 32, HttpSender(TIMEOUT_S), ManualClock(NOW), allow_private=True)
        yield Bench(channel, replace(MESSAGE, address=f"{standin.url}/hook?a=b"), _http_answers(standin), standin)
        await channel.close()


@asynccontextmanager
async def chat(folder: Path) -> AsyncIterator[Bench]:
    """A chat that apprise reaches over HTTP."""
    pytest.importorskip("apprise", reason="the extra `chat` is not installed")
    async with http_standin() as standin:
        address = standin.url.replace("http://", "json://")
        channel = ChatChannel({"ops": f"{address}?cto={TIMEOUT_S}&rto={TIMEOUT_S}"})
        yield Bench(channel, replace(MESSAGE, address="ops"), _http_answers(standin), standin)


OPEN: dict[str, Callable[..., Any]] = {"email": mail, "push": push, "sms": sms, "webhook": webhook, "chat": chat}


@pytest.fixture(params=KINDS)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """Each channel."""
    async with OPEN[request.param](tmp_path) as opened:
        yield opened


def _knows(bench: Bench) -> bool:
    """Apprise says only whether it worked."""
    return not isinstance(bench.channel, ChatChannel)


# -- the contract of all ----------------------------------------------------------------------------------------------


async def test_what_is_taken_has_a_receipt(bench: Bench) -> None:
    bench.answers("ok")
    assert isinstance(await bench.send(), Receipt)
    assert isinstance(await bench.send(), Receipt)


async def test_an_address_that_is_no_more_is_told(bench: Bench) -> None:
    bench.answers("gone")
    outcome = await bench.send()
    assert isinstance(outcome, Gone if _knows(bench) else RetryAfter), outcome


async def test_whoever_is_full_is_asked_again_when_it_said(bench: Bench) -> None:
    bench.answers("full")
    outcome = await bench.send()
    assert isinstance(outcome, RetryAfter), outcome
    assert outcome.seconds == (17.0 if bench.http is not None and _knows(bench) else None)


async def test_a_fault_of_the_other_side_is_tried_again(bench: Bench) -> None:
    bench.answers("broken")
    assert isinstance(await bench.send(), RetryAfter)
    bench.answers("ok")
    assert isinstance(await bench.send(), Receipt)


async def test_what_the_other_side_never_takes_is_not_tried_again(bench: Bench) -> None:
    bench.answers("never")
    outcome = await bench.send()
    assert isinstance(outcome, Rejected if _knows(bench) else RetryAfter), outcome


async def test_silence_is_no_answer(bench: Bench) -> None:
    bench.answers("silence")
    if _knows(bench):
        with pytest.raises(OSError, match=r"."):
            await bench.send()
    else:
        assert isinstance(await bench.send(), RetryAfter)


async def test_refused_credentials_are_tried_again_for_an_operator_may_mend_them(bench: Bench, tmp_path: Path) -> None:
    if bench.smtp is not None:
        settings = _settings(
            smtp_host="127.0.0.1", smtp_port=bench.smtp.port, smtp_ca_file=str(bench.smtp.ca_file), smtp_user=USER,
            smtp_password="wrong-password",  # noqa: S106  # of a test server
        )  # fmt: skip
        outcome = await EmailChannel(settings).send(bench.message)
        assert "wrong-password" not in str(outcome)
    else:
        bench.answers("unauthorized")
        outcome = await bench.send()
    assert isinstance(outcome, RetryAfter), outcome


async def test_reasons_are_short_and_have_no_secret(bench: Bench) -> None:
    secrets = " ".join(SECRETS[:3]).encode()
    for what in ("unauthorized", "gone", "full", "broken", "never"):
        if bench.http is not None:
            bench.http.says(ANSWERS[what][0], b"x" * 100_000 + secrets)
        else:
            bench.answers(what)
        outcome = await bench.send()
        reason = getattr(outcome, "reason", "")
        assert len(reason) <= REASON_CHARS_MAX
        assert not any(secret in repr(outcome) for secret in SECRETS)


async def test_many_are_sent_at_once(bench: Bench) -> None:
    bench.answers("ok")
    outcomes = await asyncio.gather(*(bench.send() for _ in range(8)))
    assert all(isinstance(outcome, Receipt) for outcome in outcomes)


# -- e-mail -----------------------------------------------------------------------------------------------------------


async def test_a_mail_is_whole_encrypted_and_has_the_pdf(tmp_path: Path) -> None:
    async with mail(tmp_path) as bench:
        assert bench.smtp is not None
        pdf = Attachment("2026-1.pdf", "application/pdf", b"%PDF-1.7 \x00\xff")
        outcome = await bench.send(attachment=pdf)
        assert outcome == Receipt("2.0.0 queued as 4F1")
        (one,) = bench.smtp.mails
        assert (bench.smtp.encrypted, bench.smtp.logins) == ([True], 1)
        assert one["Message-ID"] == f"<{MESSAGE.id}@example.com>"
        assert (one["Subject"], one["To"], one["Reply-To"]) == (MESSAGE.title, "d1@example.com", "help@example.com")
        assert one["Auto-Submitted"] == "auto-generated"
        text, html = one.get_body(("plain",)), one.get_body(("html",))
        assert text is not None
        assert html is not None
        assert text.get_content().replace("\r\n", "\n").strip() == MESSAGE.body
        assert html.get_content().strip() == MESSAGE.html
        (attached,) = one.iter_attachments()
        assert (attached.get_filename(), attached.get_content()) == ("2026-1.pdf", pdf.content)


@pytest.mark.parametrize(("security", "encrypted"), [("tls", True), ("none", False)])
async def test_tls_from_the_start_and_none_at_all(tmp_path: Path, security: str, encrypted: bool) -> None:
    async with smtp_server(tmp_path, security=security, login=False) as server:
        settings = _settings(
            smtp_host="127.0.0.1", smtp_port=server.port, smtp_ca_file=str(server.ca_file), smtp_security=security
        )
        assert isinstance(await EmailChannel(settings).send(replace(MESSAGE, address="d1@example.com")), Receipt)
        assert len(server.mails) == 1


async def test_a_server_without_starttls_or_with_another_certificate_gets_nothing(tmp_path: Path) -> None:
    async with smtp_server(tmp_path, security="none", login=False) as server:
        settings = _settings(smtp_host="127.0.0.1", smtp_port=server.port, smtp_ca_file=str(server.ca_file))
        assert isinstance(await EmailChannel(settings).send(replace(MESSAGE, address="d1@example.com")), RetryAfter)
        assert server.mails == []
    async with smtp_server(tmp_path) as server:
        settings = _settings(smtp_host="127.0.0.1", smtp_port=server.port, smtp_user=USER, smtp_password=PASSWORD)
        with pytest.raises(OSError, match=r"."):
            await EmailChannel(settings).send(replace(MESSAGE, address="d1@example.com"))
        assert (server.mails, server.logins) == ([], 0)


async def test_a_mail_server_that_is_away_is_no_answer(unused_port: int) -> None:
    settings = _settings(smtp_host="127.0.0.1", smtp_port=unused_port)
    with pytest.raises(OSError, match=r"."):
        await EmailChannel(settings).send(replace(MESSAGE, address="d1@example.com"))


# -- push -------------------------------------------------------------------------------------------------------------


async def test_push_takes_one_access_token_until_it_ends_or_is_refused(tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    async with push(tmp_path, clock) as bench:
        assert bench.http is not None

        def tokens() -> int:
            return sum(one.path == "/token" for one in bench.http.asked)  # type: ignore[union-attr]

        assert await bench.send() == Receipt("projects/p/messages/1")
        await bench.send()
        assert tokens() == 1
        clock.advance(3_600)
        await bench.send()
        assert tokens() == 2
        bench.answers("unauthorized")
        await bench.send()
        bench.answers("ok")
        await bench.send()
        assert tokens() == 3
        sent = next(one for one in bench.http.asked if one.path.endswith("messages:send"))
        assert sent.headers["authorization"] == "Bearer an-access-token"
        document = json.loads(sent.body)["message"]
        assert (document["token"], document["data"]["id"]) == ("device-1", str(MESSAGE.id))


async def test_a_device_that_is_not_registered_is_gone_and_a_refused_account_is_tried_again(tmp_path: Path) -> None:
    async with push(tmp_path) as bench:
        assert bench.http is not None
        body = {"error": {"code": 404, "details": [{"errorCode": "UNREGISTERED"}]}}
        bench.http.says(404, json.dumps(body).encode())
        assert isinstance(await bench.send(), Gone)
    async with push(tmp_path) as bench:
        assert bench.http is not None
        bench.http.answers["/token"] = (400, {}, b'{"error": "invalid_grant"}')
        assert isinstance(await bench.send(), RetryAfter)
        bench.http.answers["/token"] = (200, {}, b"not json")
        assert isinstance(await bench.send(), RetryAfter)


@pytest.mark.parametrize("content", ["", "{}", '{"project_id": 1}'])
def test_an_account_that_cannot_be_used_is_a_wrong_setting(tmp_path: Path, content: str) -> None:
    file = tmp_path / "account.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match="VOLTSTREAM_FCM_ACCOUNT_FILE"):
        PushChannel(str(file), "http://127.0.0.1", HttpSender(1), ManualClock(NOW))


# -- SMS --------------------------------------------------------------------------------------------------------------


async def test_an_sms_is_a_form_with_a_login_and_a_key(tmp_path: Path) -> None:
    async with sms(tmp_path) as bench:
        assert bench.http is not None
        assert await bench.send() == Receipt("SM1")
        (one,) = bench.http.asked
        assert parse_qs(one.body.decode()) == {"To": ["+31612345678"], "From": ["VOLT"], "Body": [MESSAGE.body]}
        assert one.headers["authorization"] == "Basic " + base64.b64encode(b"u:an-sms-password").decode()
        assert one.headers["idempotency-key"] == str(MESSAGE.id)
        bench.http.says(400, b'{"code": 21610, "message": "unsubscribed"}')
        assert isinstance(await bench.send(), Gone)


# -- webhooks ---------------------------------------------------------------------------------------------------------


async def test_a_webhook_is_signed_for_its_recipient(tmp_path: Path) -> None:
    async with webhook(tmp_path) as bench:
        assert bench.http is not None
        await bench.send()
        (one,) = bench.http.asked
        assert (one.method, one.path, one.headers["host"]) == ("POST", "/hook?a=b", bench.http.url[7:])
        secret = base64.b64decode(shown_secret("k" * 32, "driver/D1").removeprefix("whsec_"))
        signed = f"{one.headers['webhook-id']}.{one.headers['webhook-timestamp']}.".encode() + one.body
        expected = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
        assert one.headers["webhook-signature"] == f"v1,{expected}"
        assert one.headers["webhook-timestamp"] == str(int(NOW.timestamp()))
        assert one.headers["webhook-id"] == str(MESSAGE.id)
        document = json.loads(one.body)
        assert (document["type"], document["data"], document["text"]) == ("invoice", {"number": "2026-1"}, MESSAGE.body)
        assert shown_secret("k" * 32, "driver/D2") != shown_secret("k" * 32, "driver/D1")


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of the specification's own libraries."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = signature_of(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    async with webhook(tmp_path) as bench:
        assert bench.http is not None
        bench.http.says(302, b"", location=f"{bench.http.url}/elsewhere")
        outcome = await bench.send()
        assert isinstance(outcome, Rejected)
        assert "redirect" in outcome.reason
        assert len(bench.http.asked) == 1


async def test_private_addresses_and_plain_http_are_refused_unless_allowed(tmp_path: Path) -> None:
    async with webhook(tmp_path) as bench, AsyncExitStack() as stack:
        assert bench.http is not None
        channel = WebhookChannel("k" * 32, HttpSender(TIMEOUT_S), ManualClock(NOW), allow_private=False)
        stack.push_async_callback(channel.close)
        port = bench.http.url.rpartition(":")[2]
        for address in (
            bench.http.url, f"https://127.0.0.1:{port}/", f"https://localhost:{port}/", f"https://[::1]:{port}/",
            f"https://2130706433:{port}/", f"https://[::ffff:127.0.0.1]:{port}/", "https://169.254.169.254/latest",
            "https://0/", "https://10.0.0.1/",
        ):  # fmt: skip
            outcome = await channel.send(replace(MESSAGE, address=address))
            assert isinstance(outcome, Rejected), (address, outcome)
        assert bench.http.asked == []


async def test_a_receiver_that_is_being_deployed_is_tried_again(tmp_path: Path) -> None:
    async with webhook(tmp_path) as bench:
        assert bench.http is not None
        bench.http.says(404)
        assert isinstance(await bench.send(), RetryAfter)


# -- chat -------------------------------------------------------------------------------------------------------------


async def test_a_chat_that_is_not_in_the_settings_is_gone_and_a_wrong_one_is_a_wrong_setting(tmp_path: Path) -> None:
    async with chat(tmp_path) as bench:
        assert isinstance(await bench.send(address="other"), Gone)
    with pytest.raises(ConfigError, match="ops") as caught:
        ChatChannel({"ops": "nothing://secret-token@x"})
    assert "secret-token" not in str(caught.value)


def test_without_the_extra_chats_are_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ConfigError, match="the extra `chat`"):
        ChatChannel({"ops": "json://localhost"})


# -- settings ---------------------------------------------------------------------------------------------------------


async def test_the_settings_say_which_channels_there_are() -> None:
    async with open_channels(_settings(webhook_key=""), ManualClock(NOW)) as channels:
        assert channels == {}
    given = _settings(smtp_host="localhost", sms_url="http://localhost", sms_from="VOLT")
    async with open_channels(given, ManualClock(NOW)) as channels:
        assert set(channels) == {"email", "sms", "webhook"}
    wrong = _settings(smtp_host="localhost", smtp_ca_file="/nowhere")
    with pytest.raises(ConfigError, match="VOLTSTREAM_SMTP_CA_FILE"):
        async with open_channels(wrong, ManualClock(NOW)):
            pass


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"smtp_host": "localhost"}, "VOLTSTREAM_MAIL_FROM"),
        ({"sms_url": "http://localhost"}, "VOLTSTREAM_SMS_FROM"),
        ({"billing_url": "http://localhost"}, "VOLTSTREAM_BILLING_TOKEN"),
        ({"webhook_key": "short-and-secret"}, "32 random characters"),
        ({"notification_time_zone": "Berlin"}, "Europe/Amsterdam"),
        ({"notification_retention_days": 30}, "31"),
        ({"smtp_security": "maybe"}, "starttls"),
        ({"notification_alarm_subjects": ["operators"]}, "team/operators"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_the_mend(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(**given)
    assert says in str(caught.value)
    assert "short-and-secret" not in str(caught.value)


def test_no_secret_is_shown() -> None:
    secrets = {
        "smtp_password": "secret-1", "sms_password": "secret-2", "webhook_key": "secret-3" * 4,
        "chat_urls": {"ops": "json://user:secret-4@localhost"}, "sms_url": "http://user:secret-5@localhost",
        "sms_from": "VOLT", "billing_url": "http://localhost", "billing_token": "secret-6",
    }  # fmt: skip
    settings = load_settings(**secrets)
    assert "secret-" not in json.dumps(settings.describe()) + repr(settings)
