"""The use cases of preferences. No HTTP and no SQL here."""

from typing import Any

from api.notifications.channels.hosts import host_problem
from api.notifications.channels.signing import shown_secret
from api.notifications.kinds import CATEGORIES, CHANNELS, MANDATORY
from api.notifications.notices.preparation import Preparer
from api.notifications.preferences import store
from api.notifications.preferences.decision import mode_of
from api.notifications.preferences.models import (
    Addresses,
    Preferences,
    Quiet,
    StoredPreferences,
)
from api.notifications.preferences.schedule import DAY_MIN
from api.notifications.preferences.store import StoredRecipient
from kit.clock import Clock
from kit.database.postgres import Database
from kit.web.errors import BadQuery, NotFound


class PreferenceService:
    """One method each."""

    def __init__(self, database: Database, preparer: Preparer, clock: Clock) -> None:
        self._database = database
        self._preparer = preparer
        self._clock = clock

    async def preferences(self, subject: str) -> StoredPreferences:
        """Of a subject; of one that never chose anything, the defaults."""
        rows = await store.recipients(self._database, [subject])
        return self._preferences(subject, rows.get(subject))

    async def put_preferences(self, subject: str, wanted: Preferences, editor: str) -> StoredPreferences:
        """Replace them. Raises BadQuery."""
        self._check(subject, wanted)
        quiet = None
        if wanted.quiet is not None:
            quiet = (_minute_of(wanted.quiet.start), _minute_of(wanted.quiet.end))
        recipient = StoredRecipient(
            subject=subject,
            language=wanted.language,
            time_zone=wanted.time_zone,
            quiet=quiet,
            digest_at_min=_minute_of(wanted.digest_at),
            addresses=wanted.addresses.model_dump(exclude_none=True),
            modes=wanted.modes,
            updated_at=self._clock.now(),
            updated_by=editor,
        )
        async with self._database.transaction() as connection:
            await store.put_recipient(connection, recipient)
            rows = await store.recipients(connection, [subject])
        return self._preferences(subject, rows[subject])

    def webhook_secret(self, subject: str) -> str:
        """What the subject verifies webhooks with. Raises NotFound where there are none."""
        key = self._preparer.settings.webhook_key
        if not key:
            raise NotFound("webhooks are not configured here: an operator sets VOLTSTREAM_WEBHOOK_KEY")
        return shown_secret(key, subject)

    def _check(self, subject: str, wanted: Preferences) -> None:
        settings = self._preparer.settings
        for category, channel in MANDATORY:
            if wanted.modes.get(category, {}).get(channel, "now") != "now":
                raise BadQuery(
                    f"body/modes/{category}/{channel}: {category} by {channel} cannot be switched off or put into "
                    "digests; choose now, or leave it out"
                )
        if wanted.quiet is not None and wanted.quiet.start == wanted.quiet.end:
            raise BadQuery(
                f"body/quiet: from and until are both {wanted.quiet.start}, which is no time at all; choose two times, "
                "or leave quiet out"
            )
        hook = wanted.addresses.webhook
        if hook is not None and not hook.startswith("https://") and not settings.webhook_allow_private:
            raise BadQuery("body/addresses/webhook: begin it with https://")
        problem = None if hook is None else host_problem(hook, allow_private=settings.webhook_allow_private)
        if problem is not None:
            raise BadQuery(f"body/addresses/webhook: {problem}")
        chat = wanted.addresses.chat
        if chat is not None and (subject.startswith("driver/") or chat not in settings.chat_urls):
            raise BadQuery("body/addresses/chat: is no chat that is configured for operators; leave it out")

    def _preferences(self, subject: str, row: dict[str, Any] | None) -> StoredPreferences:
        recipient = self._preparer.recipient(subject, row)
        effective = {
            category: {channel: mode_of(recipient, category, channel) for channel in CHANNELS}
            for category in CATEGORIES
        }
        chosen: dict[str, Any] = {}
        if row is not None:
            quiet = None
            if recipient.quiet is not None:
                bounds = (recipient.quiet.from_min, recipient.quiet.until_min)
                quiet = Quiet.model_validate(dict(zip(("from", "until"), map(_time_of, bounds), strict=True)))
            chosen = {
                "language": row["language"],
                "time_zone": row["time_zone"],
                "quiet": quiet,
                "addresses": Addresses(**row["addresses"]),
                "modes": row["modes"],
            }
        return StoredPreferences(
            **chosen,
            digest_at=_time_of(recipient.digest_at_min),
            subject=subject,
            effective=effective,
            gone=dict(recipient.gone),
            updated_at=None if row is None else row["updated_at"],
            updated_by=None if row is None else row["updated_by"],
        )


def _minute_of(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return (int(hours) * 60 + int(minutes)) % DAY_MIN


def _time_of(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
