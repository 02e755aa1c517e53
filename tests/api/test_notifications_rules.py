"""Laws of the pure parts of notifications: when, by which channels, which alarms, what a template may do."""

import string
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from api.notifications.channels.hosts import host_problem, is_public
from api.notifications.channels.http import retry_after_s
from api.notifications.deliveries.sender import PAUSE_MAX_S, RETRY_AFTER_S_MAX, pause_after_s
from api.notifications.kinds import CATEGORIES, CHANNELS, DEFAULT_MODES, KINDS, MANDATORY
from api.notifications.notices.alarm_window import AlarmWindow, next_window
from api.notifications.notices.buckets import HOUR_MS, InProcessBuckets
from api.notifications.notices.preparation import Rendering
from api.notifications.preferences.decision import NO_ADDRESS, NOT_CONFIGURED, OFF, RATE, Recipient, mode_of, plan
from api.notifications.preferences.schedule import DAY_MIN, QuietHours, after_quiet, minute_of_day, next_at
from api.notifications.templates.rendering import (
    BUILT_IN_LANGUAGES,
    RENDERED_CHARS_MAX,
    BadTemplate,
    TemplateSource,
    built_in,
    check,
    render,
)
from api.notifications.templates.store import EditedTemplate

# Offsets of halves and quarters, jumps of half an hour (Lord Howe), a day that is left out (Apia, December 2011).
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia")
MINUTES = st.integers(0, DAY_MIN - 1)
INSTANTS = st.one_of(
    st.datetimes(datetime(2011, 12, 25), datetime(2012, 1, 5)),  # noqa: DTZ001  # UTC, below
    st.datetimes(datetime(2026, 3, 28), datetime(2026, 3, 30)),  # noqa: DTZ001  # UTC, below
    st.datetimes(datetime(2026, 10, 24), datetime(2026, 10, 26)),  # noqa: DTZ001  # UTC, below
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001  # UTC, below
).map(lambda naive: naive.replace(tzinfo=UTC))
NOW = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


@given(INSTANTS, MINUTES, MINUTES, st.sampled_from(ZONES))
@example(datetime(2026, 3, 28, 23, 0, tzinfo=UTC), 22 * 60, 150, "Europe/Berlin")  # until 02:30, which never comes
@example(datetime(2026, 10, 25, 0, 40, tzinfo=UTC), 120, 150, "Europe/Berlin")  # 02:40, before 02:10 comes again
@example(datetime(2026, 10, 25, 0, 50, tzinfo=UTC), 150, 210, "Europe/Berlin")  # back out of the quiet hours
def test_quiet_hours_end_at_the_first_minute_that_is_not_quiet(now: datetime, start: int, end: int, name: str) -> None:
    zone, quiet = ZoneInfo(name), QuietHours(start, end)
    found = after_quiet(now, quiet, zone)
    if not quiet.include(minute_of_day(now, zone)):
        assert found == now
        return
    minute = now.replace(second=0, microsecond=0)
    while quiet.include(minute_of_day(minute, zone)):
        minute += timedelta(minutes=1)
    assert found == minute > now


@given(INSTANTS, MINUTES, st.sampled_from(ZONES))
@example(datetime(2026, 10, 25, 0, 40, tzinfo=UTC), 150, "Europe/Berlin")  # 02:40: 02:30 comes again
@example(datetime(2026, 3, 29, 0, 40, tzinfo=UTC), 150, "Europe/Berlin")  # 01:40: 02:30 never comes
def test_a_time_of_day_is_the_next_minute_at_which_the_wall_clock_shows_or_skips_it(
    now: datetime, at_min: int, name: str
) -> None:
    zone = ZoneInfo(name)
    found = next_at(now, at_min, zone)
    assert found > now
    minute = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    shown = minute.astimezone(zone)
    while shown.hour * 60 + shown.minute != at_min:
        before, minute = shown, minute + timedelta(minutes=1)
        shown = minute.astimezone(zone)
        skipped = shown.replace(tzinfo=None) - before.replace(tzinfo=None) - timedelta(minutes=1)
        if skipped > timedelta(0):
            first = before.hour * 60 + before.minute + 1
            if (at_min - first) % DAY_MIN < skipped // timedelta(minutes=1):
                break
    assert found == minute


MODES = st.dictionaries(
    st.sampled_from(CATEGORIES), st.dictionaries(st.sampled_from(CHANNELS), st.sampled_from(("now", "digest", "off")))
)
RECIPIENTS = st.builds(
    Recipient,
    subject=st.just("driver/D1"),
    language=st.just("en"),
    zone=st.sampled_from(ZONES).map(ZoneInfo),
    quiet=st.none() | st.builds(QuietHours, MINUTES, MINUTES),
    digest_at_min=MINUTES,
    addresses=st.dictionaries(st.sampled_from(CHANNELS), st.just("there")),
    modes=MODES,
    gone=st.dictionaries(st.sampled_from(CHANNELS), st.just("550")),
)


@given(
    RECIPIENTS,
    st.sampled_from(CATEGORIES),
    st.sets(st.sampled_from(CHANNELS)),
    INSTANTS,
    st.none() | st.timedeltas(timedelta(0), timedelta(hours=1)),
    st.booleans(),
)
def test_every_notification_has_a_delivery_and_every_suppressed_one_its_reason(
    recipient: Recipient, category: str, configured: set[str], now: datetime, window: timedelta | None, over: bool
) -> None:
    digest_at = None if window is None else now + window
    planned = plan(recipient, category, configured, now, digest_at=digest_at, over_rate=over)  # type: ignore[arg-type]
    assert planned
    assert len({one.channel for one in planned}) == len(planned)
    for one in planned:
        if one.suppressed is not None:
            assert one.suppressed in (OFF, NO_ADDRESS, NOT_CONFIGURED, RATE, "address gone: 550")
            continue
        mode = mode_of(recipient, category, one.channel)  # type: ignore[arg-type]
        assert not over
        assert one.channel in configured
        assert one.address
        assert mode != "off"
        assert one.due_at >= (digest_at or now)
        assert one.in_digest == (mode == "digest" or digest_at is not None)
        if mode == "now" and one.channel != "webhook" and recipient.quiet is not None:
            assert not recipient.quiet.include(minute_of_day(one.due_at, recipient.zone))


@given(RECIPIENTS, INSTANTS)
def test_receipts_cannot_be_switched_off(recipient: Recipient, now: datetime) -> None:
    (mail,) = (one for one in plan(recipient, "receipts", CHANNELS, now) if one.channel == "email")
    assert mail.suppressed != OFF
    assert not mail.in_digest
    for category, channel in MANDATORY:
        assert mode_of(recipient, category, channel) == "now"


def test_whoever_chose_nothing_and_gave_no_address_is_told_apart() -> None:
    recipient = Recipient("driver/D1", "en", BERLIN)
    for category in CATEGORIES:
        (one,) = plan(recipient, category, CHANNELS, NOW)
        assert one.suppressed == NO_ADDRESS
        assert one.channel in DEFAULT_MODES[category]


@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=60), st.integers(1, 1_000))
@example([0, 50, 51], 100)  # the third is after the window, and right after its digest
def test_of_a_place_and_cause_one_message_is_sent_in_a_window_and_no_alarm_is_left_out(
    gaps_s: list[int], length_s: int
) -> None:
    window: AlarmWindow | None = None
    length, now = timedelta(seconds=length_s), NOW
    sent: set[datetime] = set()  # moments at which something is sent
    for gap_s in gaps_s:
        now += timedelta(seconds=gap_s)
        window, digest_at = next_window(window, now, length)
        assert digest_at is None or now < digest_at <= now + length
        sent.add(digest_at or now)
    moments = sorted(sent)
    assert moments[0] == NOW + timedelta(seconds=gaps_s[0])
    assert all(later - earlier >= length for earlier, later in pairwise(moments))


@given(st.integers(1, 60), st.lists(st.integers(0, 600_000), max_size=200))
async def test_in_no_hour_a_subject_gets_more_than_twice_its_rate_nor_less_than_it(
    rate: int, gaps_ms: list[int]
) -> None:
    """A bucket is full at first, so an hour may have what it held and what it got."""
    buckets, now_ms = InProcessBuckets(), 0
    taken: list[int] = []
    for gap_ms in gaps_ms:
        now_ms += gap_ms
        (let_through,) = await buckets.take(["driver/D1"], now_ms, rate)
        recent = [at_ms for at_ms in taken if at_ms > now_ms - HOUR_MS]
        assert let_through or len(recent) >= rate
        if let_through:
            taken.append(now_ms)
            assert len(recent) + 1 <= 2 * rate


async def test_buckets_of_subjects_are_apart_and_bounded() -> None:
    buckets = InProcessBuckets(subjects_max=2)
    assert await buckets.take(["a", "a", "b"], 0, 1) == [True, False, True]
    assert await buckets.take(["c"], 0, 1) == [True]  # a is forgotten
    assert await buckets.take(["a"], 0, 1) == [True]


@given(st.integers(1, 1_000), st.none() | st.floats(0, 1e9))
def test_pauses_grow_and_are_never_shorter_than_asked_for(attempts: int, asked_s: float | None) -> None:
    pause_s = pause_after_s(attempts, asked_s)
    if asked_s is None:
        assert pause_s <= pause_after_s(attempts + 1, None) <= PAUSE_MAX_S
    else:
        assert min(asked_s, RETRY_AFTER_S_MAX) <= pause_s <= RETRY_AFTER_S_MAX
        assert pause_s >= 1


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("99999999999999999999", 86_400.0),
        ("Sun, 29 Mar 2026 09:01:00 GMT", 60.0),
        ("Sun, 29 Mar 2026 08:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date(header: str | None, expected: float | None) -> None:
    assert retry_after_s(header, NOW) == expected


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "0.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a00:1", "192.0.0.192", "192.0.0.9", "64:ff9b:1::808:808",
        "::127.0.0.1", "::8.8.8.8", "fec0::1", "3fff::1", "2001:db8::1", "::ffff:192.0.0.192", "192.88.99.1",
    ],
)  # fmt: skip
def test_private_addresses_are_not_in_any_spelling(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.0.0.1.", "0", "169.254.169.254",
        "10.0.0.1:8443", "[::1]", "[::ffff:127.0.0.1]", "[fe80::1%25eth0]", "[64:ff9b:1::1]", "[fec0::1]",
    ],
)  # fmt: skip
def test_a_private_address_as_host_is_refused_unless_allowed(host: str) -> None:
    assert "private" in str(host_problem(f"https://{host}/hook", allow_private=False))
    assert host_problem(f"https://{host}/hook", allow_private=True) is None


@pytest.mark.parametrize(
    "host",
    [
        ".", "..", "a..b", ".example.com", "ex%00ample.com", "example.com%2f", "-a.com", "a-.com", "a*b.com",
        "1.2.3.4.5", "256.1.1.1", "example.0x1", "a" * 64 + ".com", "a." * 130 + "com", "[v1.abc]",
    ],
)  # fmt: skip
@pytest.mark.parametrize("allow_private", [False, True])
def test_what_is_no_host_name_is_refused(host: str, allow_private: bool) -> None:
    assert "no host name" in str(host_problem(f"https://{host}/hook", allow_private=allow_private))


@pytest.mark.parametrize(
    "host",
    ["example.com", "Example.COM.", "a_b.example.com", "xn--bcher-kva.example:8443", "8.8.8.8", "[2001:4860::8]"],
)
def test_names_and_public_addresses_are_hosts(host: str) -> None:
    assert host_problem(f"https://{host}/hook", allow_private=False) is None


# -- templates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", BUILT_IN_LANGUAGES)
@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_built_in_template_in_every_language(kind: str, channel: str, language: str) -> None:
    rendered = render(built_in(kind, channel, language), channel, KINDS[kind].sample, language, BERLIN)  # type: ignore[arg-type]
    assert rendered.title
    assert rendered.body
    assert (rendered.html is not None) == (channel == "email")
    for text in (rendered.title, rendered.body):
        assert "{" not in text
        assert "None" not in text
    if channel == "email":
        assert f'lang="{language}"' in str(rendered.html)


def test_languages_differ_in_words_numbers_and_times() -> None:
    sample = KINDS["session_completed"].sample
    english = render(built_in("session_completed", "email", "en"), "email", sample, "en", BERLIN).body
    german = render(built_in("session_completed", "email", "de"), "email", sample, "de", BERLIN).body
    assert "21.3 kWh" in english
    assert "12.34 EUR" in english
    assert "2026-03-29 11:05" in english  # of 09:05 UTC: summer time began that night
    assert "21,3 kWh" in german
    assert "12,34 EUR" in german
    assert "29.03.2026 11:05" in german


def test_a_language_without_templates_is_answered_in_english() -> None:
    assert built_in("invoice", "push", "fr") == built_in("invoice", "push", "en")


HOSTILE = (
    "{{ [].__class__.__mro__ }}", "{{ ''.join(['a']) }}", "{{ 'a' * 1000000000 }}", "{{ 9 ** 99999999 }}",
    "{{ '%1000000000d' % 1 }}", "{{ '{:1000000000}'.format(1) }}", "{% set a = 'x' %}", "{% macro m() %}{% endmacro %}",
    "{% include 'x' %}", "{% import 'x' as x %}", "{% extends 'x' %}", "{% block b %}{% endblock %}",
    "{{ range(1000000000) }}", "{{ cycler }}", "{{ lipsum(1000) }}", "{{ number | center(1000000000) }}",
    "{{ number | safe }}", "{{ number | replace('a', 'aa') }}", "{{ number | attr('__class__') }}",
    "{% for a in number %}{% for b in number %}{% endfor %}{% endfor %}", "{% filter upper %}{% endfilter %}",
    "{% for a in number recursive %}{{ loop(a) }}{% endfor %}", "{{ " + "(" * 3_000 + "1" + ")" * 3_000 + " }}",
    "{{ undefined_variable }}", "{{ number.missing.deeper }}", "{{ 1 / 0 }}", "{{ number", "{% if %}",
    "{{ 'x' | local }}",
    "{{ number | round(2) }}", "{{ {'a': 1} }}", "{% call x() %}{% endcall %}", "{{ self }}",
    "{{ number | map('upper') }}", "{% do number %}", "{% with a = 1 %}{% endwith %}",
    "{% autoescape false %}{% endautoescape %}",
)  # fmt: skip


@pytest.mark.parametrize("source", HOSTILE)
def test_what_a_template_may_not_do_is_refused_with_its_line(source: str) -> None:
    with pytest.raises(BadTemplate) as caught:
        render(TemplateSource("t", f"first\n\n{source}"), "push", KINDS["invoice"].sample, "en", BERLIN)
    assert caught.value.part == "body"
    if "(" * 3_000 not in source:
        assert caught.value.line == 3, str(caught.value)


def test_rendering_stops_where_the_text_gets_too_long() -> None:
    context = {"items": ["x" * 1_000] * 1_000}
    with pytest.raises(BadTemplate, match=str(RENDERED_CHARS_MAX)):
        render(TemplateSource("t", "{% for one in items %}{{ one }}{% endfor %}"), "push", context, "en", BERLIN)


def test_a_source_that_is_too_long_is_not_compiled() -> None:
    with pytest.raises(BadTemplate, match="characters"):
        check(TemplateSource("t", "x" * 8_193))


@pytest.mark.parametrize("source", ["{{ %s }}", "{{ -%s }}", "{% if %s %}x{% endif %}", "{{ %s + 1 }}"])
@pytest.mark.parametrize("digits", [4_300, 5_000])
def test_a_number_of_too_many_digits_is_refused(source: str, digits: int) -> None:
    with suppress(BadTemplate) if digits == 4_300 else pytest.raises(BadTemplate, match="4300 digits"):
        render(TemplateSource("t", source.replace("%s", "9" * digits)), "push", {}, "en", BERLIN)


@pytest.mark.parametrize("text", ["  ", "{# nothing #}", "{% if bay %}x{% endif %}", "{{ '' }}\n"])
@pytest.mark.parametrize("part", ["title", "body", "html"])
def test_a_template_that_renders_to_nothing_is_refused(part: str, text: str) -> None:
    source = TemplateSource(**{"title": "t", "body": "b", "html": "h", part: text})
    sample = KINDS["reservation_created"].sample
    with pytest.raises(BadTemplate, match="to nothing") as caught:
        render(source, "email", sample, "en", BERLIN)
    assert caught.value.part == part
    render(source, "email", sample, "en", BERLIN, may_be_empty=True)


def test_a_built_in_template_stands_in_also_where_it_renders_to_nothing() -> None:
    edited = EditedTemplate(TemplateSource("t", "{{ text }}"), 1, None, NOW, "operator/anna")
    rendering = Rendering({("announcement", "push", "en"): edited})
    rendered = rendering.render("announcement", {"title": "T", "text": " "}, "push", "en", BERLIN)
    assert (rendered.title, rendered.body) == ("T", "")
    assert list(rendering.broken) == [("announcement", "push", "en")]


@pytest.mark.parametrize(
    "source",
    [
        "{{ number.upper }}", "{{ number['upper'] }}", "{{ number.upper ~ '' }}", "{{ [number.upper] }}",
        "{{ number.upper | upper }}", "{{ time_zone.from_file }}", "{% for a in number %}{{ loop }}{% endfor %}",
        "{% for a in number %}{{ loop.cycle }}{% endfor %}",
    ],
)  # fmt: skip
def test_a_template_that_shows_a_method_is_refused(source: str) -> None:
    with pytest.raises(BadTemplate):
        render(TemplateSource("t", source), "push", KINDS["invoice"].sample, "en", BERLIN)


CONTROLS = [*map(chr, {*range(32)} - {9, 10, 13}), "\ud800", "\udfff"]


@pytest.mark.parametrize("character", CONTROLS)
@pytest.mark.parametrize("part", ["title", "body", "html"])
def test_a_template_that_renders_a_control_character_or_a_half_is_refused(part: str, character: str) -> None:
    parts = {"title": "t", "body": "b", "html": "h", part: f'x {{{{ "\\u{ord(character):04x}" }}}}'}
    with pytest.raises(BadTemplate, match=f"U\\+{ord(character):04X}") as caught:
        render(TemplateSource(**parts), "email", KINDS["invoice"].sample, "en", BERLIN)
    assert caught.value.part == part


@given(st.text(st.one_of(st.sampled_from([*CONTROLS, "\r", "\t"]), st.characters()), min_size=1))
def test_control_characters_of_variables_are_replaced(text: str) -> None:
    context = {"title": f"T {text}", "text": f"B {text}\r\nend"}
    rendered = render(built_in("announcement", "email", "en"), "email", context, "en", BERLIN)
    for part in (rendered.title, rendered.body, str(rendered.html)):
        assert not set(part) & {*CONTROLS, "\r"}
        part.encode()
    assert rendered.body.endswith("\nend")


def test_the_reason_has_no_control_character() -> None:
    with pytest.raises(BadTemplate) as caught:
        render(TemplateSource("t", r'{{ "\x00\ud800" | local }}'), "push", {}, "en", BERLIN)
    assert not set(str(caught.value)) & set(CONTROLS)


@given(st.text(max_size=200))
def test_html_is_escaped_and_a_title_is_one_line(text: str) -> None:
    context = {"title": f"<b>{text}\r\nBcc: x", "text": f"<script>{text}"}
    rendered = render(built_in("announcement", "email", "en"), "email", context, "en", BERLIN)
    assert "\n" not in rendered.title
    assert "\r" not in rendered.title
    assert "<script>" not in str(rendered.html)
    assert "<b>" not in str(rendered.html)
    edited = TemplateSource("{{ title }}", "{{ text }}", "<p>{{ text }}</p>")
    assert "<script>" not in str(render(edited, "email", context, "en", BERLIN).html)


@given(st.text(alphabet=string.printable, max_size=60), st.sampled_from(["{{ %s }}", "{%% %s %%}", "%s"]))
def test_any_source_is_rendered_or_refused(text: str, frame: str) -> None:
    assume("{#" not in text)
    with suppress(BadTemplate):
        render(TemplateSource("t", frame % text), "sms", KINDS["invoice"].sample, "en", BERLIN)
