"""The Redis client of a URL: TLS verified, and a login that is read again at each connect where it is from a file."""

import asyncio
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, SSLConnection
from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from kit.errors import Unavailable
from kit.secrets.text import ca_file_of, is_from_file
from kit.secrets.urls import check_url, current_url, without_secrets, wrong_url
from kit.tls import client_context

_SETTING: Final = "VOLTSTREAM_REDIS_URL"


def redis_client(url: str, **options: Any) -> Redis:
    """A client that connects when first used. Of rediss:// the certificate is verified, chain and name, unless the URL
    has options of the driver's own (`ssl_…`). Raises ConfigError for a malformed URL; of one from a file,
    Unavailable."""
    try:
        check_url(url)
        client: Redis = Redis.from_url(url, **options)
    except ValueError as error:
        raise wrong_url(url, error, _SETTING) from None
    pool = client.connection_pool
    tls = issubclass(pool.connection_class, SSLConnection) and "ssl_" not in urlsplit(url).query
    pool.connection_class = _connection(pool.connection_class, url, tls=tls)
    if is_from_file(url) and pool.connection_kwargs.pop("password", None) is not None:
        pool.connection_kwargs.pop("username", None)
        pool.connection_kwargs["credential_provider"] = _CurrentLogin(url)
    return client


def _connection(kind: type[AbstractConnection], url: str, *, tls: bool) -> type[AbstractConnection]:
    """A connection of that kind whose errors have no secret. `tls`: it trusts only the URL's CAs, while redis-py's own
    context trusts the system's beside them."""
    ca_file = ca_file_of(url)

    class Connection(kind):  # type: ignore[misc, valid-type]  # a class by its value
        def _connection_arguments(self) -> dict[str, Any]:
            arguments: dict[str, Any] = super()._connection_arguments()
            return arguments | {"ssl": client_context(ca_file)} if tls else arguments

        async def on_connect_check_health(self, check_health: bool = True) -> None:
            try:
                await super().on_connect_check_health(check_health=check_health)
            except RedisError as error:  # "unknown command 'HELLO', with args beginning with: '3' 'AUTH'" and the login
                error.args = (without_secrets(error, url),)
                raise

    return Connection


class _CurrentLogin(CredentialProvider):
    """The login of a URL as its file has it when a connection is made."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        try:
            parts = urlsplit(current_url(self._url, _SETTING))
        except Unavailable as error:
            raise RedisConnectionError(str(error)) from None
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return (user, password) if user else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return await asyncio.to_thread(self.get_credentials)  # a mounted file may be on a slow disk
