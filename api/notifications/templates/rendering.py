"""Templates of notifications: Jinja2 in a sandbox, and the built-in ones from package files. No clock, no database.

What a template may do is listed, all else is refused when it is compiled: no calls, no assignments, no macros, no
inclusion, no repetition or formatting of text, and one level of loops. So rendering takes time and memory in proportion
to the source and to its variables, which are bounded, and needs no time-out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from importlib.resources import files
from types import TracebackType
from typing import Any, Final
from zoneinfo import ZoneInfo

from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, nodes, pass_context
from jinja2.environment import Template
from jinja2.exceptions import SecurityError
from jinja2.filters import do_default, do_first, do_last
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import escape

from api.notifications.kinds import Channel
from kit.clock import parse_rfc3339
from schemas.currency import MINOR_DIGITS

TITLE_CHARS_MAX: Final = 300  # of the source; what is rendered is cut at it
BODY_CHARS_MAX: Final = 8_192
HTML_CHARS_MAX: Final = 32_768
RENDERED_CHARS_MAX: Final = 65_536  # of a body; the largest built-in one, a digest of 50 items of 500, has 30 k
BUILT_IN_LANGUAGES: Final = ("en", "de")
_PARTS: Final = "\n---\n"
_FILE: Final = "<template>"
_COMPILED_MAX: Final = 512  # ~20 kB each; built-in ones are a hundred
_DECIMALS_MAX: Final = 6
_LINE_END: Final = re.compile(r"\r\n?")
_UNSENDABLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\ud800-\udfff]")  # PostgreSQL and JSON do not take NUL or halves

_ALLOWED: Final = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem,
    nodes.Slice, nodes.Filter, nodes.Keyword, nodes.Test, nodes.If, nodes.For, nodes.CondExpr, nodes.Compare,
    nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Concat, nodes.Add, nodes.Sub, nodes.Div, nodes.FloorDiv,
    nodes.Neg, nodes.Pos, nodes.List, nodes.Tuple,
)  # fmt: skip


class BadTemplate(Exception):
    """A template that cannot be compiled or rendered: which part of it, in which line, and why."""

    def __init__(self, part: str, line: int | None, reason: str) -> None:
        super().__init__(f"{part}{f', line {line}' if line else ''}: {sendable(reason)}")
        self.part = part
        self.line = line


@dataclass(frozen=True, slots=True)
class TemplateSource:
    """The source of a template. `html`: of an e-mail's HTML part; None: made of title and body."""

    title: str
    body: str
    html: str | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """What is sent. `html`: of e-mail."""

    title: str
    body: str
    html: str | None


def sendable(value: Any) -> Any:
    """The value, in all texts of it line ends as `\\n` and U+FFFD for control characters and lone surrogates."""
    if isinstance(value, str):
        return _UNSENDABLE.sub("\ufffd", _LINE_END.sub("\n", value))
    if isinstance(value, Mapping):
        return {key: sendable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [sendable(one) for one in value]
    return value


@pass_context
def _local(context: Context, text: str) -> str:
    """An RFC 3339 text on the recipient's clock."""
    local = parse_rfc3339(text).astimezone(context["time_zone"])
    return local.strftime("%d.%m.%Y %H:%M" if context["language"] == "de" else "%Y-%m-%d %H:%M")


@pass_context
def _money(context: Context, micros: int, currency: str) -> str:
    """An amount in millionths of the currency, rounded half up for people."""
    digits = MINOR_DIGITS.get(currency, 2)
    unit = 10 ** (6 - digits)
    minor = (abs(micros) * 2 + unit) // (2 * unit)
    amount = Decimal(-minor if micros < 0 else minor).scaleb(-digits)
    return f"{_decimal(context, amount, digits)} {currency}"


@pass_context
def _kwh(context: Context, energy_wh: float) -> str:
    return f"{_decimal(context, energy_wh / 1_000, 1)} kWh"


def _decimal(context: Context, value: Decimal | float, digits: int) -> str:
    text = f"{value:,.{digits}f}"
    return text.translate(str.maketrans(",.", ".,")) if context["language"] == "de" else text


def _round(value: float, digits: int = 0) -> float:
    return round(value, max(0, min(int(digits), _DECIMALS_MAX)))


_FILTERS: Final[dict[str, Any]] = {
    "default": do_default,
    "e": escape,
    "escape": escape,
    "first": do_first,
    "kwh": _kwh,
    "last": do_last,
    "length": len,
    "local": _local,
    "lower": lambda value: str(value).lower(),
    "money": _money,
    "round": _round,
    "trim": lambda value: str(value).strip(),
    "upper": lambda value: str(value).upper(),
}


class _Environment(ImmutableSandboxedEnvironment):
    """A sandbox without methods: nothing can be called, and their names would be shown."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may read it."""
        return not callable(value) and super().is_safe_attribute(obj, attr, value)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        """Raises SecurityError at once: an undefined value in a list would be shown."""
        raise SecurityError(f"{attribute!r} of {type(obj).__name__} is not for templates: leave it out")


def _shown(value: Any) -> Any:
    if callable(value) and not isinstance(value, Undefined):  # `loop`; an undefined one raises its own error
        raise TypeError(f"{type(value).__name__} is no text or number")
    return value


def _environment(*, html: bool) -> _Environment:
    environment = _Environment(
        autoescape=html,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        cache_size=0,
    )
    environment.globals.clear()
    environment.filters = dict(_FILTERS)
    return environment


_TEXT: Final = _environment(html=False)
_HTML: Final = _environment(html=True)


@lru_cache(_COMPILED_MAX)
def _compiled(source: str, part: str, chars_max: int) -> Template:
    """Raises BadTemplate."""
    if len(source) > chars_max:
        raise BadTemplate(part, None, f"has {len(source)} characters, {chars_max} are allowed")
    environment = _HTML if part == "html" else _TEXT
    try:
        _check(environment.parse(source), part)
        return environment.from_string(source)
    except TemplateSyntaxError as error:
        raise BadTemplate(part, error.lineno, error.message or "is no template") from None
    except (RecursionError, SyntaxError, MemoryError):
        raise BadTemplate(part, None, "its expressions are nested too deeply") from None
    except ValueError as error:  # int() of more digits than Python converts
        reason = str(error).partition(";")[0]
        raise BadTemplate(part, None, f"a constant in it cannot be read: {reason}") from None


def _check(node: nodes.Node, part: str, loops: int = 0) -> None:
    if not isinstance(node, _ALLOWED) or (isinstance(node, nodes.Name) and node.name == "self"):
        line = next((one.lineno for one in (node, *node.iter_child_nodes()) if one.lineno), None)
        raise BadTemplate(part, line, f"{type(node).__name__} is not allowed in a template")
    if isinstance(node, nodes.For):
        loops += 1
        if loops > 1 or node.recursive:
            raise BadTemplate(part, node.lineno, "a loop within a loop is not allowed")
    for child in node.iter_child_nodes():
        _check(child, part, loops)


def _rendered(source: str, part: str, source_max: int, chars_max: int, variables: Mapping[str, Any]) -> str:
    """Raises BadTemplate."""
    template = _compiled(source, part, source_max)
    pieces, chars = [], 0
    try:
        for piece in template.generate(variables):
            pieces.append(piece)
            chars += len(piece)
            if chars > chars_max:
                raise BadTemplate(part, None, f"renders to more than {chars_max} characters")
    except BadTemplate:
        raise
    except Exception as error:  # whatever an expression raises on these variables
        raise BadTemplate(part, _line_of(error.__traceback__), str(error) or type(error).__name__) from None
    text = "".join(pieces)
    unsendable = _UNSENDABLE.search(text)
    if unsendable is not None:
        code = f"U+{ord(unsendable[0]):04X}"
        raise BadTemplate(part, None, f"renders {code}: leave out control characters and halves of characters")
    return text


def _line_of(trace: TracebackType | None) -> int | None:
    line = None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def render(
    source: TemplateSource,
    channel: Channel,
    context: Mapping[str, Any],
    language: str,
    zone: ZoneInfo,
    *,
    may_be_empty: bool = False,
) -> Rendered:
    """What the channel sends: variables made `sendable`. Raises BadTemplate."""
    variables = {**sendable(context), "language": language, "time_zone": zone}
    title = _rendered(source.title, "title", TITLE_CHARS_MAX, RENDERED_CHARS_MAX, variables)
    title = " ".join(title.split())[:TITLE_CHARS_MAX]  # one line: it becomes a header
    body = _rendered(source.body, "body", BODY_CHARS_MAX, RENDERED_CHARS_MAX, variables).strip()
    if not may_be_empty:
        _check_filled(title=title, body=body)
    if channel != "email":
        return Rendered(title, body, None)
    layout, more = (source.html, variables) if source.html is not None else (_layout(), {"title": title, "text": body})
    html = _rendered(layout, "html", HTML_CHARS_MAX, 4 * RENDERED_CHARS_MAX, {**variables, **more})
    if not may_be_empty:
        _check_filled(html=html)
    return Rendered(title, body, html)


def _check_filled(**parts: str) -> None:
    for part, text in parts.items():
        if not text.strip():
            raise BadTemplate(part, None, "renders to nothing: write some text")


def check(source: TemplateSource) -> None:
    """Compile it. Raises BadTemplate."""
    _compiled(source.title, "title", TITLE_CHARS_MAX)
    _compiled(source.body, "body", BODY_CHARS_MAX)
    if source.html is not None:
        _compiled(source.html, "html", HTML_CHARS_MAX)


@cache
def built_in(kind: str, channel: Channel, language: str) -> TemplateSource:
    """The template of the package in that language, else in English: a long text for e-mail, a short one for others."""
    spoken = language if language in BUILT_IN_LANGUAGES else BUILT_IN_LANGUAGES[0]
    text = files("api.notifications.templates").joinpath(spoken, f"{kind}.txt").read_text(encoding="utf-8")
    title, short, long = text.split(_PARTS)
    return TemplateSource(title, long if channel == "email" else short)


@cache
def _layout() -> str:
    return files("api.notifications.templates").joinpath("email.html.j2").read_text(encoding="utf-8")
