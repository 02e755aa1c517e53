"""The Redis client of a URL: TLS verified, and a login that is read again at each connect where it is from a file."""

from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import SSLConnection
from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError as RedisConnectionError

from kit.errors import ConfigError, Unavailable
from kit.masking import mask_secrets
from kit.secrets.text import ca_file_of, current, is_from_file
from kit.tls import client_context


def redis_client(url: str, **options: Any) -> Redis:
    """A client that connects when first used. Of rediss:// the certificate is verified, chain and name, unless the URL
    has options of the driver's own (`ssl_…`). Raises ConfigError for a malformed URL."""
    try:
        client: Redis = Redis.from_url(url, **options)
    except ValueError as error:
        raise ConfigError(f"VOLTSTREAM_REDIS_URL: {mask_secrets(str(error))}") from None
    pool = client.connection_pool
    if issubclass(pool.connection_class, SSLConnection) and "ssl_" not in urlsplit(url).query:
        pool.connection_class = _verifying(ca_file_of(url))
    if is_from_file(url) and pool.connection_kwargs.pop("password", None) is not None:
        pool.connection_kwargs.pop("username", None)
        pool.connection_kwargs["credential_provider"] = _CurrentLogin(url)
    return client


def _verifying(ca_file: str) -> type[SSLConnection]:
    """redis-py's own context trusts the system's CAs beside those named."""

    class Verifying(SSLConnection):
        def _connection_arguments(self) -> dict[str, Any]:
            return {**super()._connection_arguments(), "ssl": client_context(ca_file)}

    return Verifying


class _CurrentLogin(CredentialProvider):
    """The login of a URL as its file has it when a connection is made."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        try:
            parts = urlsplit(current(self._url))
        except (Unavailable, ValueError) as error:
            raise RedisConnectionError(mask_secrets(str(error))) from None
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return (user, password) if user else (password,)
