"""The tokens that `up` prints: issued once, kept in clear in the data folder for its owner alone, stored hashed."""

from dataclasses import asdict, dataclass
from typing import Final
from urllib.parse import urlsplit

from kit.auth.scopes import Kind
from kit.auth.token_store import Principal, TokenStore, hash_of
from kit.clock import SystemClock
from kit.settings import Settings
from kit.validation import whole_token
from voltstream.errors import WrongUsage
from voltstream.runtime.data_folder import database_key, read_entries, write_entry

_FILE: Final = "tokens.json"
_LABEL: Final = "voltstream up"
_LEFT_S_MIN: Final = 30 * 86_400.0  # of a token with which `up` begins
_OWN_HOSTS: Final = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Tokens:
    """A device's for all stations, and an operator's."""

    device_token: str
    operator_token: str


def read_tokens(settings: Settings) -> Tokens | None:
    """What `up` issued last for this database, if anything; whether it is still valid only the database knows."""
    kept = read_entries(settings, _FILE).get(database_key(settings))
    return Tokens(**kept) if isinstance(kept, dict) and set(kept) == {"device_token", "operator_token"} else None


def is_own(url: str | None) -> bool:
    """Whether the platform at `url` (None: that of the data folder) is this machine's, whose tokens we have."""
    return url is None or urlsplit(url).hostname in _OWN_HOSTS


def operator_token(settings: Settings, url: str | None, given: str | None) -> str:
    """The operator's token for the platform at `url`: as given, or that of `up`. Raises WrongUsage."""
    token = given
    if token is None and is_own(url):
        kept = read_tokens(settings)
        token = kept.operator_token if kept else None
    if token is None:
        raise WrongUsage("an operator's token is needed: --token, or VOLTSTREAM_OPERATOR_TOKEN, or --data-dir of `up`")
    try:
        return whole_token(token)
    except ValueError as error:
        raise WrongUsage(str(error)) from None


async def working_tokens(settings: Settings, store: TokenStore) -> Tokens:
    """Those of the data folder, or where one of them is not valid (any more, or for long) a new one in its place."""
    kept = read_tokens(settings)
    tokens = Tokens(
        await _working(store, "device", kept.device_token if kept else ""),
        await _working(store, "operator", kept.operator_token if kept else ""),
    )
    if tokens != kept:
        write_entry(settings, _FILE, asdict(tokens))
    return tokens


def _ends_soon(principal: Principal) -> bool:
    return principal.expires_s is not None and principal.expires_s < SystemClock().now_ms() / 1000 + _LEFT_S_MIN


async def _working(store: TokenStore, kind: Kind, kept: str) -> str:
    principal = await store.find(hash_of(kept)) if kept else None
    if principal is not None and principal.kind == kind and not _ends_soon(principal):
        return kept
    token, _ = await store.issue(kind, _LABEL)
    return token
