"""Push by Firebase Cloud Messaging, HTTP v1."""

import json
from pathlib import Path
from typing import Any, Final

import jwt
import msgspec

from api.notifications.channels.channel import Gone, Outcome, OutgoingMessage, RetryAfter
from api.notifications.channels.http import Answer, HttpSender
from kit.clock import Clock
from kit.errors import ConfigError

_SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTION_S: Final = 3_600  # the longest that Google allows
_EARLY_S: Final = 60  # a token is renewed so long before its end
_BODY_CHARS_MAX: Final = 1_000  # FCM takes 4 kB in all: 4 bytes a character, with the title beside it


class _Account(msgspec.Struct):
    """A service account, as Google issues it."""

    project_id: str
    client_email: str
    private_key: str
    token_uri: str
    private_key_id: str = ""


class _Token(msgspec.Struct):
    access_token: str
    expires_in: int = _ASSERTION_S


class PushChannel:
    """See SendingChannel. An address is a device's registration token.

    FCM has no idempotency key: `collapse_key` and `tag` make a device show a repetition in the place of the first.
    """

    def __init__(self, account_file: str, url: str, http: HttpSender, clock: Clock) -> None:
        """Owns `http`. Raises ConfigError where the service account cannot be read."""
        try:
            self._account = msgspec.json.decode(Path(account_file).read_bytes(), type=_Account)
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"VOLTSTREAM_FCM_ACCOUNT_FILE={account_file}: {error}") from None
        self._url = f"{url}/v1/projects/{self._account.project_id}/messages:send"
        self._http = http
        self._clock = clock
        self._token = ""
        self._token_until_s = 0.0
        try:
            self._assertion()
        except (ValueError, jwt.PyJWTError):
            raise ConfigError(f"VOLTSTREAM_FCM_ACCOUNT_FILE={account_file}: its private_key is no RSA key") from None

    async def send(self, message: OutgoingMessage) -> Outcome:
        """See SendingChannel."""
        if self._clock.monotonic_s() >= self._token_until_s:
            refused = await self._renew()
            if refused is not None:
                return RetryAfter(None, f"service account refused: {refused.reason}")
        answer = await self._http.post(
            self._url, json=_document(message), headers={"Authorization": f"Bearer {self._token}"}
        )
        if answer.status == 401:
            self._token_until_s = 0.0  # revoked before its end: the next attempt takes a new one
        detail = _detail_of(answer)
        if answer.status == 404 or detail == "UNREGISTERED":
            return Gone(answer.reason)
        return answer.outcome(self._clock.now(), _name_of(answer))

    async def _renew(self) -> Answer | None:
        """Get an access token. The answer where it is refused."""
        form = {"grant_type": _GRANT, "assertion": self._assertion()}
        answer = await self._http.post(self._account.token_uri, data=form)
        try:
            token = msgspec.json.decode(answer.body, type=_Token) if answer.status == 200 else None
        except (ValueError, RecursionError):
            token = None
        if token is None:
            return answer
        self._token = token.access_token
        self._token_until_s = self._clock.monotonic_s() + token.expires_in - _EARLY_S
        return None

    def _assertion(self) -> str:
        now_s = self._clock.now_ms() // 1_000
        claims = {
            "iss": self._account.client_email,
            "scope": _SCOPE,
            "aud": self._account.token_uri,
            "iat": now_s,
            "exp": now_s + _ASSERTION_S,
        }
        headers = {"kid": self._account.private_key_id} if self._account.private_key_id else None
        return jwt.encode(claims, self._account.private_key, "RS256", headers)

    async def close(self) -> None:
        """See SendingChannel."""
        await self._http.close()


def _document(message: OutgoingMessage) -> dict[str, Any]:
    id_ = str(message.id)
    return {
        "message": {
            "token": message.address,
            "notification": {"title": message.title, "body": message.body[:_BODY_CHARS_MAX]},
            "data": {"id": id_, "kind": message.kind},
            "android": {"collapse_key": id_, "notification": {"tag": id_}},
            "apns": {"headers": {"apns-collapse-id": id_}},
        }
    }


def _detail_of(answer: Answer) -> str:
    """FCM's errorCode."""
    try:
        details = json.loads(answer.body)["error"]["details"]
        return next((str(one["errorCode"]) for one in details if "errorCode" in one), "")
    except (ValueError, LookupError, TypeError):
        return ""


def _name_of(answer: Answer) -> str:
    try:
        return str(json.loads(answer.body)["name"])[:300]
    except (ValueError, LookupError, TypeError):
        return ""
