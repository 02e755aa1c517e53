"""A secret as text that knows where it was read, so that it can be read again: URLs of servers, passwords."""

from collections import deque
from pathlib import Path
from typing import Final

from kit.errors import Unavailable
from kit.masking import MASK

SECRET_BYTES_MAX: Final = 64 * 1024  # a list of brokers with a password has less than 1 kB
_TEXTS_MAX: Final = 4  # of a file that are remembered: an error may be of the text before

_texts: Final[dict[Path, deque[str]]] = {}  # by file: what `current` has read there


class SecretText(str):
    """A URL or a secret as it was when the process read it.

    It passes for the text wherever no connection is made; who connects to PostgreSQL, RabbitMQ, Redis or Kafka asks
    `current`.
    """

    __slots__ = ("ca_file", "file")

    file: Path | None
    """Where it was read; None: from a variable, so that it stays."""
    ca_file: str
    """PEM of the CAs that sign certificates of the server that the URL names; empty: the system's."""

    def __new__(cls, text: str, file: Path | None = None, ca_file: str = "") -> "SecretText":
        """With its origin."""
        made = super().__new__(cls, text)
        made.file, made.ca_file = file, ca_file
        return made

    def __repr__(self) -> str:
        """Without the secret: whatever holds it may be logged."""
        return MASK


def current(text: str) -> str:
    """The text as its file has it now, or as it is if it came from none. Raises Unavailable if that cannot be read."""
    if not isinstance(text, SecretText) or text.file is None:
        return text
    try:
        found = SecretText(read_secret(text.file), text.file, text.ca_file)
    except ValueError as error:
        raise Unavailable(f"a secret's file {text.file}: {error}") from None
    known = _texts.setdefault(text.file, deque(maxlen=_TEXTS_MAX))
    if found not in known:
        known.append(found)
    return found


def texts_of(text: str) -> list[str]:
    """The text as it was when the process read it, and as `current` has read it since."""
    file = text.file if isinstance(text, SecretText) else None
    return [text, *_texts.get(file, ())] if file is not None else [text]


def ca_file_of(url: str) -> str:
    """The file of the CAs for a server's URL; empty: the system's."""
    return url.ca_file if isinstance(url, SecretText) else ""


def is_from_file(text: str) -> bool:
    """Whether it may change while the process runs."""
    return isinstance(text, SecretText) and text.file is not None


def read_secret(path: Path) -> str:
    """What a file holds, without the newline at its end. Raises ValueError with the reason."""
    try:
        with path.open("rb") as file:
            content = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    if len(content) > SECRET_BYTES_MAX:
        raise ValueError(f"has more than {SECRET_BYTES_MAX} bytes")
    try:
        secret = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("is no text in UTF-8") from None
    if not secret:
        raise ValueError("is empty")
    return secret
