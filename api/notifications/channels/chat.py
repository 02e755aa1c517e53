"""Chats of operators by apprise, the extra `chat`: Slack, Teams, Matrix, Telegram and a hundred others."""

import asyncio
from collections.abc import Mapping
from typing import Any

from api.notifications.channels.channel import Gone, Outcome, OutgoingMessage, Receipt, RetryAfter
from kit.errors import ConfigError


class ChatChannel:
    """See SendingChannel. An address is a name of the settings: those of apprise hold secrets.

    Apprise says only whether it worked: everything else is tried again, and most services show a repetition twice.
    """

    def __init__(self, urls: Mapping[str, str]) -> None:
        """Raises ConfigError where apprise is not installed, or does not know an address."""
        try:
            import apprise
        except ImportError:
            raise ConfigError("VOLTSTREAM_CHAT_URLS is set: install the extra `chat`, or leave it out") from None
        self._targets: dict[str, Any] = {}
        for name, url in urls.items():
            target = apprise.Apprise()
            if not target.add(url):
                raise ConfigError(f"VOLTSTREAM_CHAT_URLS: apprise knows no address like that of {name!r}")
            self._targets[name] = target

    async def send(self, message: OutgoingMessage) -> Outcome:
        """See SendingChannel."""
        target = self._targets.get(message.address)
        if target is None:
            return Gone(f"VOLTSTREAM_CHAT_URLS has no {message.address!r}")
        # In a thread: some of its services work synchronously even where the call does not.
        sent = await asyncio.to_thread(target.notify, body=message.body, title=message.title)
        return Receipt() if sent else RetryAfter(None, "the chat did not take it; apprise logs why")

    async def close(self) -> None:
        """See SendingChannel."""
