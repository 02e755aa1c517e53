"""URLs of servers with a login: only well-formed ones are handed to drivers, and no text has a piece of their secrets.

A driver that is given a malformed URL takes a piece of the password for a host, a port or a database, and says so. What
passes `check_url` it can only read as we do, so the secrets in it are known, and are taken out of what drivers say.
"""

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote, urlsplit

from kit.errors import ConfigError, Unavailable
from kit.masking import MASK, mask_secrets
from kit.secrets.text import current, is_from_file, texts_of

PIECE: Final = 4  # characters of a secret that may stand in no text together; three of them are in any text
_MEND: Final = (
    "is no well-formed URL: percent-encode special characters in user and password "
    "(Python: urllib.parse.quote(password, safe='')), and write servers as host:port"
)
_URL: Final = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.DOTALL)
_BETWEEN: Final = re.compile(r",\s*(?=[A-Za-z][\w+.-]*://)")
_NOT_IN_LOGIN: Final = re.compile(r"[\s\x00-\x1f\x7f/?#\[\]@\"'<>]|%(?![0-9A-Fa-f]{2})|%00")
_HOSTS: Final = re.compile(r"(?:[\w.%~-]*|\[[0-9A-Fa-f:.%\w]+\])(?::[0-9]{0,5})?")
_SECRET_OPTION: Final = re.compile(r"(?i)pass|pwd|secret|token|credential|properties|key$")


def check_url(text: str) -> None:
    """Raises ValueError, in which nothing of the URL is, unless every part of it can be told. Several may stand there,
    with commas between; a text without scheme may be anything but a login."""
    for one in _each(text):
        found = _URL.fullmatch(one)
        if found is None:
            if "@" in one and not one.startswith(("/", ".")):  # a folder's path
                raise ValueError(_MEND)
            continue
        login, _, hosts = found["authority"].rpartition("@")
        told = is_login(login) and "@" not in found["rest"]
        if not told or not all(_HOSTS.fullmatch(host.strip(" ")) for host in hosts.split(",")):
            raise ValueError(_MEND)
        if any(option and "=" not in option for option in _options(found["rest"])):
            raise ValueError(_MEND)
        try:
            urlsplit(one)  # most drivers do; it refuses some addresses and letters, and quotes them
        except ValueError:
            raise ValueError(_MEND) from None


def is_login(text: str) -> bool:
    """Whether that can be `user:password`, percent-encoded."""
    return _NOT_IN_LOGIN.search(text) is None


def is_secret_option(name: str) -> bool:
    """Whether the value of an option of a URL is shown to nobody."""
    return _SECRET_OPTION.search(name) is not None


def shown_url(text: str) -> str:
    """The URL for display, its secrets masked; of one that is not well-formed only the scheme."""
    try:
        check_url(text)
    except ValueError:
        found = _URL.match(text)
        return f"{found['scheme']}://{MASK}" if found else MASK
    return ",".join(map(_shown, _each(text)))


def shown_where_wrong(text: str) -> str:
    """The same of a value that is refused: what is neither a URL nor servers may be anything."""
    told = _URL.match(text) or all(_HOSTS.fullmatch(one.strip(" ")) for one in text.split(","))
    return shown_url(text) if told else MASK


def without_secrets(message: object, url: str) -> str:
    """What a driver says of the server at this URL, without any piece of a password that the URL has or had."""
    text = str(message).strip()
    pieces = {secret[at : at + PIECE] for one in texts_of(url) for secret in _secrets(one) for at in _places(secret)}
    hidden = [False] * len(text)
    for at in _places(text):
        if text[at : at + PIECE] in pieces:
            hidden[at : at + PIECE] = [True] * PIECE
    shown = (MASK if hide else text[at] for at, hide in enumerate(hidden) if not (hide and at and hidden[at - 1]))
    return mask_secrets("".join(shown))


def current_url(url: str, setting: str) -> str:
    """The URL of this setting as its file has it now. Raises Unavailable where that cannot be read or is not
    well-formed: the file may be about to change; of a URL that is from none, ConfigError."""
    now = current(url)
    try:
        check_url(now)
    except ValueError as error:
        raise wrong_url(url, error, setting) from None
    return now


def changed_since(url: str, used: str) -> bool:
    """Whether its file has another URL by now than the one that was `used`. One that cannot be read, or is not
    well-formed, has not: what is open stays."""
    try:
        now = current(url)
        check_url(now)
    except (Unavailable, ValueError):
        return False
    return now != used


def wrong_url(url: str, reason: object, setting: str) -> ConfigError | Unavailable:
    """The error of a URL that its driver or server refuses: for good, or until its file changes."""
    said = without_secrets(reason, url)
    if is_from_file(url):
        return Unavailable(f"{setting}, from a file: {said}")
    return ConfigError(f"{setting}={shown_url(url)}: {said}")


def _each(text: str) -> list[str]:
    return _BETWEEN.split(text)


def _shown(url: str) -> str:
    found = _URL.fullmatch(url)
    if found is None:
        return url
    login, at, hosts = found["authority"].rpartition("@")
    user, colon, _ = login.partition(":")
    user = user if colon or not login else MASK  # a password, where its colon was forgotten
    path, mark, query = found["rest"].partition("?")
    masked = "&".join(_shown_option(option) for option in query.split("&"))
    return f"{found['scheme']}://{user}{colon}{MASK if colon else ''}{at}{hosts}{path}{mark}{masked}"


def _places(text: str) -> range:
    return range(len(text) - PIECE + 1)


def _options(rest: str) -> list[str]:
    return rest.partition("#")[0].partition("?")[2].split("&")


def _shown_option(option: str) -> str:
    name, mark, _ = option.partition("=")
    return f"{name}={MASK}" if mark and is_secret_option(unquote(name)) else option


def _secrets(text: str) -> Iterator[str]:
    """As they stand there, and decoded."""
    for url in _each(text):
        found = _URL.fullmatch(url)
        if found is None:
            continue
        yield from _both(found["authority"].rpartition("@")[0].partition(":")[2])
        for option in _options(found["rest"]):
            name, _, value = option.partition("=")
            if is_secret_option(unquote(name)):
                yield from _both(value)


def _both(text: str) -> tuple[str, str]:
    return text, unquote(text)
