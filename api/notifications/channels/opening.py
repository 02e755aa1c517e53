"""The channels that the settings configure."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from api.notifications.channels.channel import SendingChannel
from api.notifications.kinds import Channel
from api.notifications.settings import NotificationSettings
from kit.clock import Clock


def _configured(settings: NotificationSettings) -> frozenset[Channel]:
    given: Mapping[Channel, object] = {
        "email": settings.smtp_host,
        "push": settings.fcm_account_file,
        "sms": settings.sms_url,
        "webhook": settings.webhook_key,
        "chat": settings.chat_urls,
    }
    return frozenset(channel for channel, value in given.items() if value)


@asynccontextmanager
async def open_channels(
    settings: NotificationSettings, clock: Clock
) -> AsyncIterator[Mapping[Channel, SendingChannel]]:
    """The configured channels. Their libraries are imported where they are used only. Raises ConfigError."""
    async with AsyncExitStack() as stack:
        channels: dict[Channel, SendingChannel] = {}
        for channel in sorted(_configured(settings)):
            channels[channel] = one = _made(channel, settings, clock)
            stack.push_async_callback(one.close)
        yield channels


def _made(channel: Channel, settings: NotificationSettings, clock: Clock) -> SendingChannel:
    timeout_s = settings.notification_timeout_s
    match channel:
        case "email":
            from api.notifications.channels.email import EmailChannel

            return EmailChannel(settings)
        case "push":
            from api.notifications.channels.http import HttpSender
            from api.notifications.channels.push import PushChannel

            return PushChannel(settings.fcm_account_file, settings.fcm_url, HttpSender(timeout_s), clock)
        case "sms":
            from api.notifications.channels.http import HttpSender
            from api.notifications.channels.sms import SmsChannel

            return SmsChannel(settings, HttpSender(timeout_s), clock)
        case "webhook":
            from api.notifications.channels.http import HttpSender
            from api.notifications.channels.webhook import WebhookChannel

            http = HttpSender(timeout_s)
            return WebhookChannel(settings.webhook_key, http, clock, allow_private=settings.webhook_allow_private)
        case "chat":
            from api.notifications.channels.chat import ChatChannel

            return ChatChannel(settings.chat_urls)
