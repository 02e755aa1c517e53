"""SMS by a provider's HTTP API: a form with To, From and Body, as Twilio takes it and others do."""

import json
from typing import Final

from api.notifications.channels.channel import Gone, Outcome, OutgoingMessage
from api.notifications.channels.http import Answer, HttpSender
from api.notifications.settings import NotificationSettings
from kit.clock import Clock

_CHARS_MAX: Final = 480  # of at most eight parts of 67 characters
_GONE_CODES: Final = frozenset({"21211", "21610", "21614"})  # Twilio: no such number, unsubscribed, no mobile number


class SmsChannel:
    """See SendingChannel. An address is a number in E.164.

    The message's id goes as `Idempotency-Key`; a provider that ignores it sends a repetition again.
    """

    def __init__(self, settings: NotificationSettings, http: HttpSender, clock: Clock) -> None:
        """Owns `http`."""
        self._settings = settings
        self._http = http
        self._clock = clock

    async def send(self, message: OutgoingMessage) -> Outcome:
        """See SendingChannel."""
        settings = self._settings
        form = {"To": message.address, "From": settings.sms_from, "Body": message.body[:_CHARS_MAX]}
        login = {"auth": (settings.sms_user, settings.sms_password)} if settings.sms_user else {}
        answer = await self._http.post(
            settings.sms_url,
            data=form,
            headers={"Idempotency-Key": str(message.id)},
            **login,
        )
        if answer.status == 400 and _field(answer, "code") in _GONE_CODES:
            return Gone(answer.reason)
        return answer.outcome(self._clock.now(), _field(answer, "sid"))

    async def close(self) -> None:
        """See SendingChannel."""
        await self._http.close()


def _field(answer: Answer, name: str) -> str:
    try:
        return str(json.loads(answer.body)[name])[:300]
    except (ValueError, LookupError, TypeError):
        return ""
