"""By which channels a notification goes, when, and why not. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from api.notifications.kinds import CHANNELS, DEFAULT_MODES, MANDATORY, Category, Channel, Mode
from api.notifications.preferences.schedule import QuietHours, after_quiet, next_at

DIGEST_AT_MIN: Final = 8 * 60  # eight in the morning
# Reasons of suppressed deliveries.
OFF: Final = "switched off by the recipient"
NO_ADDRESS: Final = "no address"
NOT_CONFIGURED: Final = "channel not configured"
RATE: Final = "over the rate of this recipient"


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who is notified, where and how."""

    subject: str
    language: str
    zone: ZoneInfo
    quiet: QuietHours | None = None
    digest_at_min: int = DIGEST_AT_MIN
    addresses: Mapping[Channel, str] = field(default_factory=dict)
    modes: Mapping[Category, Mapping[Channel, Mode]] = field(default_factory=dict)
    gone: Mapping[Channel, str] = field(default_factory=dict)  # why the channel's address is no more


@dataclass(frozen=True, slots=True)
class Planned:
    """A delivery to be recorded: due then, alone or in a digest, or suppressed for a reason."""

    channel: Channel
    address: str
    due_at: datetime
    in_digest: bool = False
    suppressed: str | None = None


def mode_of(recipient: Recipient, category: Category, channel: Channel) -> Mode:
    """The recipient's choice or the default. What is mandatory is neither off nor in a digest."""
    if (category, channel) in MANDATORY:
        return "now"
    return recipient.modes.get(category, {}).get(channel, DEFAULT_MODES[category].get(channel, "off"))


def plan(
    recipient: Recipient,
    category: Category,
    configured: Collection[Channel],
    now: datetime,
    *,
    digest_at: datetime | None = None,
    over_rate: bool = False,
) -> list[Planned]:
    """One delivery at least, with a channel of its own each. `digest_at`: in a digest of that time at the earliest.
    `over_rate`: the recipient got too many already."""
    planned = [
        one
        for channel in CHANNELS
        if (one := _by_channel(recipient, category, channel, configured, now, digest_at)) is not None
    ]
    if not planned:
        channel = next(iter(DEFAULT_MODES[category]))
        planned = [Planned(channel, "", now, suppressed=NO_ADDRESS)]
    if over_rate:
        planned = [
            one if one.suppressed else Planned(one.channel, one.address, now, suppressed=RATE) for one in planned
        ]
    return planned


def _by_channel(
    recipient: Recipient,
    category: Category,
    channel: Channel,
    configured: Collection[Channel],
    now: datetime,
    digest_at: datetime | None,
) -> Planned | None:
    """None: nobody wants it there."""
    chosen = channel in recipient.modes.get(category, {}) or (category, channel) in MANDATORY
    mode = mode_of(recipient, category, channel)
    address = recipient.addresses.get(channel, "")
    if mode == "off":
        return Planned(channel, address, now, suppressed=OFF) if chosen and address else None
    if not address:
        return Planned(channel, "", now, suppressed=NO_ADDRESS) if chosen else None
    if channel not in configured:
        return Planned(channel, address, now, suppressed=NOT_CONFIGURED)
    if channel in recipient.gone:
        return Planned(channel, address, now, suppressed=f"address gone: {recipient.gone[channel]}")
    due_at = now
    if mode == "digest":
        due_at = next_at(now, recipient.digest_at_min, recipient.zone)
    if digest_at is not None:
        due_at = max(due_at, digest_at)
    if mode == "now" and channel != "webhook":  # a machine does not sleep; a digest comes when it was asked for
        due_at = after_quiet(due_at, recipient.quiet, recipient.zone)
    return Planned(channel, address, due_at, in_digest=mode == "digest" or digest_at is not None)
