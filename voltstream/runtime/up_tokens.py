"""The tokens that `up` prints: issued once, kept in clear in the data folder for its owner alone, stored hashed."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from kit.auth.token_store import Kind, TokenStore, hash_of
from kit.errors import ConfigError
from kit.masking import mask_url
from kit.settings import Settings
from kit.validation import whole_token
from voltstream.errors import Usage

_FILE: Final = "tokens.json"
_LABEL: Final = "voltstream up"
_OWN_HOSTS: Final = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Tokens:
    """A device's for all stations, and an operator's."""

    device_token: str
    operator_token: str


def read_tokens(settings: Settings) -> Tokens | None:
    """What `up` issued last for this database, if anything; whether it is still valid only the database knows."""
    kept = _read(settings.data_dir / _FILE).get(_key(settings))
    return Tokens(**kept) if isinstance(kept, dict) and set(kept) == {"device_token", "operator_token"} else None


def operator_token(settings: Settings, url: str | None, given: str | None) -> str:
    """The token to ask the platform at `url` (None: this machine's) with: as given, or that of `up`. Raises Usage."""
    token = given
    if token is None and (url is None or urlsplit(url).hostname in _OWN_HOSTS):  # ours is only for this machine
        kept = read_tokens(settings)
        token = kept.operator_token if kept else None
    if token is None:
        raise Usage("an operator's token is needed: --token, or VOLTSTREAM_OPERATOR_TOKEN, or --data-dir of `up`")
    try:
        return whole_token(token)
    except ValueError as error:
        raise Usage(str(error)) from None


async def working_tokens(settings: Settings, store: TokenStore) -> Tokens:
    """Those of the data folder, or where one of them is not valid (any more) a new one in its place."""
    kept = read_tokens(settings)
    tokens = Tokens(
        await _working(store, "device", kept.device_token if kept else ""),
        await _working(store, "operator", kept.operator_token if kept else ""),
    )
    if tokens != kept:
        _write(settings, tokens)
    return tokens


async def _working(store: TokenStore, kind: Kind, kept: str) -> str:
    if kept and (principal := await store.find(hash_of(kept))) is not None and principal.kind == kind:
        return kept
    token, _ = await store.issue(kind, _LABEL)
    return token


def _key(settings: Settings) -> str:
    """One data folder may have been used with several databases."""
    return mask_url(settings.database_url) if settings.database_url else "embedded"


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}  # an unreadable text is worth no more than none: new tokens are issued
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give this account the right to") from None
    return document if isinstance(document, dict) else {}


def _write(settings: Settings, tokens: Tokens) -> None:
    path = settings.data_dir / _FILE
    document = {**_read(path), _key(settings): asdict(tokens)}
    new = path.with_suffix(".new")
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2)
        new.replace(path)
    except OSError as error:
        raise ConfigError(f"VOLTSTREAM_DATA_DIR={settings.data_dir}: cannot be written ({error.strerror})") from None
