"""The use cases of templates. No HTTP and no SQL here."""

from dataclasses import asdict
from typing import Any
from zoneinfo import ZoneInfo

from api.notifications.kinds import CHANNELS, KINDS, Channel
from api.notifications.templates import store
from api.notifications.templates.models import (
    NewTemplate,
    Preview,
    PreviewRequest,
    StoredTemplate,
    TemplateEntry,
    TemplateList,
)
from api.notifications.templates.rendering import (
    BUILT_IN_LANGUAGES,
    BadTemplate,
    TemplateSource,
    built_in,
    check,
    render,
)
from api.notifications.templates.store import EditedTemplate, TemplateKey
from kit.audit.recording import record
from kit.clock import Clock
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.web.errors import BadQuery, Conflict


class TemplateRefused(BadQuery):
    """A template that cannot be used, with the part and the line that are wrong."""

    def __init__(self, error: BadTemplate) -> None:
        super().__init__(f"body/{error}")
        self._place = {"part": error.part, "line": error.line}

    @property
    def extensions(self) -> dict[str, Any]:
        """Part and line."""
        return self._place


class TemplateService:
    """One method each."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def edited(self) -> TemplateList:
        """The edited ones."""
        edited = await store.edited_templates(self._database)
        entries = [
            TemplateEntry(
                kind=kind,
                channel=channel_of(channel),
                language=language,
                version=one.version,
                error=one.error,
                updated_at=one.updated_at,
                updated_by=one.updated_by,
            )
            for (kind, channel, language), one in sorted(edited.items())
        ]
        return TemplateList(
            kinds=list(KINDS), channels=list(CHANNELS), built_in_languages=list(BUILT_IN_LANGUAGES), edited=entries
        )

    async def template(self, key: TemplateKey) -> StoredTemplate:
        """The one in use."""
        return _template(key, *await store.edited_template(self._database, key))

    async def put_template(
        self, connection: Transaction, key: TemplateKey, new: NewTemplate, editor: str
    ) -> StoredTemplate:
        """Put it in the place of the present one. Raises TemplateRefused, Conflict."""
        kind, channel, language = key
        source = TemplateSource(new.title, new.body, new.html)
        if new.html is not None and channel != "email":
            raise BadQuery("body/html: only e-mail has it; leave it out")
        self._rendered(source, kind, channel_of(channel), language, KINDS[kind].sample, ZoneInfo("UTC"))
        before, version = await store.edited_template(connection, key)
        stored = None
        if version == new.version:
            stored = await store.put_template(connection, key, source, new.version, self._clock.now(), editor)
        if stored != new.version + 1:
            raise Conflict(f"the template is at version {version}, not {new.version}: read it and decide anew")
        after, version = await store.edited_template(connection, key)
        await record(connection, "template.edited", _entity(key), before=_audited(before), after=_audited(after))
        return _template(key, after, version)

    async def reset_template(self, connection: Transaction, key: TemplateKey, editor: str) -> StoredTemplate:
        """Back to the built-in one."""
        before, _ = await store.edited_template(connection, key)
        await store.reset_template(connection, key, self._clock.now(), editor)
        if before is not None:
            await record(connection, "template.reset", _entity(key), before=_audited(before))
        return _template(key, *await store.edited_template(connection, key))

    async def preview(self, key: TemplateKey, asked: PreviewRequest) -> Preview:
        """What would be sent. Raises TemplateRefused."""
        kind, channel, language = key
        if asked.template is not None:
            source = TemplateSource(asked.template.title, asked.template.body, asked.template.html)
        else:
            present, _ = await store.edited_template(self._database, key)
            source = built_in(kind, channel_of(channel), language) if present is None else present.source
        variables = {**KINDS[kind].sample, **asked.variables}
        return self._rendered(source, kind, channel_of(channel), language, variables, ZoneInfo(asked.time_zone))

    def _rendered(
        self, source: TemplateSource, kind: str, channel: Channel, language: str, variables: Any, zone: ZoneInfo
    ) -> Preview:
        try:
            check(source)
            rendered = render(source, channel, variables, language, zone)
        except BadTemplate as error:
            raise TemplateRefused(error) from None
        return Preview(title=rendered.title, body=rendered.body, html=rendered.html)


def _entity(key: TemplateKey) -> str:
    return f"template/{'/'.join(key)}"


def _audited(edited: EditedTemplate | None) -> dict[str, Any] | None:
    """None: the built-in one."""
    return None if edited is None else {"version": edited.version, **asdict(edited.source)}


def channel_of(name: str) -> Channel:
    """The channel of that name, which the route has checked."""
    return next(channel for channel in CHANNELS if channel == name)


def _template(key: TemplateKey, edited: EditedTemplate | None, version: int) -> StoredTemplate:
    kind, channel, language = key
    source = built_in(kind, channel_of(channel), language) if edited is None else edited.source
    return StoredTemplate(
        kind=kind,
        channel=channel_of(channel),
        language=language,
        title=source.title,
        body=source.body,
        html=source.html,
        source="built-in" if edited is None else "edited",
        version=version,
        error=None if edited is None else edited.error,
        variables=dict(KINDS[kind].sample),
        updated_at=None if edited is None else edited.updated_at,
        updated_by=None if edited is None else edited.updated_by,
    )
