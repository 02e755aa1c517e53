"""Settings: one frozen object per process, from `VOLTSTREAM_*` variables, a TOML file, or both; checked before any I/O.

Later sources win: defaults, then the file that `VOLTSTREAM_CONFIG` names (its keys are the fields below), then
the environment, then the command line's overrides to `load`.
"""

import os
import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from kit.auth.scopes import Kind
from kit.errors import ConfigError
from kit.log.kafka_url import parse_kafka_url
from kit.masking import MASK
from kit.patterns import worded
from kit.secrets.files import SecretFiles, file_names, masked, read_files
from kit.secrets.text import SecretText
from kit.secrets.urls import check_url, shown_url, shown_where_wrong
from kit.spelling import did_you_mean
from kit.tls import asks_for_tls, check_named_files, checked_context
from kit.web.serving.proxies import TrustedProxies

PREFIX: Final = "VOLTSTREAM_"
CONFIG_VARIABLE: Final = f"{PREFIX}CONFIG"
# Options of client commands, which may be set in the same environment.
CLIENT_VARIABLES: Final = frozenset(
    f"{PREFIX}{name}" for name in ("URL", "DEVICE_TOKEN", "OPERATOR_TOKEN", "FINANCE_TOKEN", "ADMIN_TOKEN")
)

URL: Final[JsonDict] = {"masked": "url"}
SECRET: Final[JsonDict] = {"masked": "whole"}
"""`json_schema_extra` of fields whose value is displayed masked, and can be given by file (kit/secrets/files.py)."""


def with_scheme(*schemes: str) -> AfterValidator:
    """A validator of a URL with one of these schemes, or of an empty text."""

    def check(value: str) -> str:
        if value and not value.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError(f"start it with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return value

    return AfterValidator(check)


_HOST: Final = r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])"
_HOSTS: Final = worded(
    rf"^(?:{_HOST}(?: *, *{_HOST})*)?$", "names of hosts without scheme and port, like volt.example, [::1]"
)


_SERVERS: Final = ("database_url", "rabbitmq_url", "kafka_url", "redis_url", "mongodb_url")
_found: Final[ContextVar[SecretFiles]] = ContextVar("_found")  # what `load` has read, for the sources of the settings


class Settings(BaseSettings):
    """The settings of every process: servers, addresses, partitions, tokens, logs. A process adds the groups of all
    services (`composed_of`). `load` makes the object; it is passed down, never imported."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    database_url: Annotated[str, with_scheme("postgresql", "postgres")] = Field(
        "",
        repr=False,
        description="PostgreSQL as postgresql://…, over TLS with ?sslmode=verify-full; empty: embedded",
        json_schema_extra=URL,
    )
    rabbitmq_url: Annotated[str, with_scheme("amqp", "amqps")] = Field(
        "", repr=False, description="RabbitMQ as amqp://… or amqps://…; empty: in-process", json_schema_extra=URL
    )
    kafka_url: str = Field(
        "",
        repr=False,
        description="Kafka as host:port[,host:port], over TLS ssl://… or sasl_ssl://user:password@…; empty: in-process",
        json_schema_extra=URL,
    )
    redis_url: Annotated[str, with_scheme("redis", "rediss", "unix")] = Field(
        "", repr=False, description="Redis as redis://… or rediss://…; empty: in-process", json_schema_extra=URL
    )
    mongodb_url: Annotated[str, with_scheme("mongodb", "mongodb+srv")] = Field(
        "", repr=False, description="MongoDB for reports as mongodb://…; empty: PostgreSQL", json_schema_extra=URL
    )

    tls_ca_file: str = Field(
        "", description="CAs (PEM) that sign the certificates of the servers above; empty: the system's"
    )

    data_dir: Path = Field(Path(".data"), description="folder of the embedded database")
    host: str = Field("127.0.0.1", min_length=1, description="address the HTTP API listens on")
    port: int = Field(8080, ge=0, le=65_535, description="port of the HTTP API; 0: any free one")

    hosts: str = Field(
        "",
        max_length=4_096,
        pattern=_HOSTS,
        description="names by which clients may address the API, comma separated, without port; empty: any",
    )
    trusted_proxies: str = Field(
        "",
        max_length=4_096,
        description="addresses and networks of reverse proxies whose X-Forwarded-For and -Proto count, comma "
        "separated; empty: nobody's",
    )
    # None by default: a proxy that does not replace the header would pass on what clients write into it.
    client_certificate_header: Literal["", "client-cert", "ssl-client-cert", "x-ssl-client-cert"] = Field(
        "",
        description="header in which these proxies pass on the client certificate that they verified, which then is a "
        "device's identity: Client-Cert as RFC 9440 has it, or percent-encoded PEM; empty: none is read",
    )
    connections_max: int = Field(
        0, ge=0, le=1_000_000, description="most HTTP connections at once; 0: by the open files allowed, 32,768 at most"
    )
    connections_per_address_max: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="most of them from one address, which may be a proxy's; 0: three quarters of all",
    )

    # Longer than proxies take to see that /ready fails, and than they keep idle connections (deploy/gateways).
    drain_s: float = Field(
        0.0, ge=0.0, le=300.0, description="when told to stop: not ready, but answering, for so long; 0: stop at once"
    )

    # Below the 30 s after which any query of a service is ended.
    query_s_max: float = Field(
        20.0, ge=0.1, le=30.0, description="longest query of a request that reads; then 503, which says to ask for less"
    )
    free_space_mb_min: int = Field(
        512, ge=0, le=1_000_000, description="free space in MB below which /ready says degraded (embedded database)"
    )

    # Fixed at the first migration and stored in the database. 1,024: a worker process serves many partitions, and
    # no fleet that one PostgreSQL can store needs more.
    partitions: int = Field(4, ge=1, le=1_024, description="partitions of the log, fixed once migrated; embedded: 2")

    publish_timeout_s: int = Field(10, ge=1, le=300, description="longest wait for a broker's confirm")
    # A full frame of 1,000 readings is ~64 kB: 2,000 of them are 128 MB, 2 M readings, ~10 s of a full gateway.
    buffer_frames_max: int = Field(2_000, ge=1, le=100_000, description="most unconfirmed frames of a gateway")

    # With a key, tokens signed by an identity provider or an API gateway are accepted (kit/auth/signed_tokens.py).
    jwt_jwks_url: Annotated[str, with_scheme("https", "http")] = Field(
        "", max_length=2_048, description="where the identity provider publishes its keys (JWKS), https://…"
    )
    jwt_discovery: bool = Field(
        False, description="read the keys as the discovery document (OIDC) of the issuer says, which is then a URL"
    )
    jwt_key_file: str = Field("", description="public key (PEM) or shared secret that signed tokens are verified with")
    jwt_issuer: str = Field("", max_length=256, description="the `iss` that signed tokens must have; empty: any")
    jwt_audience: str = Field("", max_length=256, description="the `aud` that signed tokens must have; empty: any")
    jwt_roles_claim: str = Field(
        "roles", min_length=1, max_length=256, description="claim with the list of roles, or a path: realm_access.roles"
    )
    jwt_roles: dict[str, Kind] = Field(
        {}, max_length=100, description="the issuer's roles and ours, as JSON; empty: they are named as ours are"
    )
    jwt_scopes_claim: str = Field(
        "", max_length=256, description="claim with the scopes that a token has of its roles'; empty: it has all"
    )
    # With a bound, revocations are deleted once no token that they are about can be valid (kit/auth/token_store.py).
    jwt_lifetime_days_max: int = Field(
        0,
        ge=0,
        le=3_660,
        description="signed tokens say when they were issued (`iat`) and live no longer; 0: no bound",
    )
    jwt_organisation_claim: str = Field(
        "organisation",
        min_length=1,
        max_length=256,
        description="claim with the organisation whose stations a token is for, or a path; a token without: all",
    )

    # Of stored tokens but devices' (kit/auth/token_lifetimes.py).
    token_lifetime_days_max: int = Field(
        365,
        ge=0,
        le=3_660,
        description="days until a person's or service's stored token expires, at most; 0: no bound",
    )
    token_idle_days_max: int = Field(
        90, ge=0, le=3_660, description="days after which such a token that nobody uses is over; 0: never"
    )

    # Kubernetes mounts a ConfigMap as such a folder. Its files are read again when they change (kit/config/folder.py).
    config_dir: str = Field(
        "", description="folder of files named like adjustable settings, as billing.paused; empty: none"
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    otlp_endpoint: Annotated[str, with_scheme("http", "https")] = Field(
        "", repr=False, description="OTLP/HTTP collector, http://host:4318; empty: no traces", json_schema_extra=URL
    )

    @property
    def distributed_database(self) -> bool:
        """Whether PostgreSQL is given by URL, not embedded."""
        return bool(self.database_url)

    @property
    def distributed_bus(self) -> bool:
        """Whether events are sent over RabbitMQ."""
        return bool(self.rabbitmq_url)

    @property
    def distributed_log(self) -> bool:
        """Whether frames are sent over RabbitMQ and Kafka."""
        return bool(self.kafka_url)

    @property
    def distributed_live(self) -> bool:
        """Whether the live view is in Redis."""
        return bool(self.redis_url)

    def describe(self) -> dict[str, Any]:
        """Every setting as plain JSON values, passwords masked."""
        values = self.model_dump(mode="json")
        return {name: _shown(type(self), name, value) for name, value in values.items()}

    def secret_files(self) -> dict[str, Path]:
        """The files of those secrets that are read again while the process runs, by name."""
        values = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: value.file for name, value in values if isinstance(value, SecretText) and value.file is not None}

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("*")
    @classmethod
    def _well_formed(cls, value: Any, info: ValidationInfo) -> Any:
        if value and masked(cls.model_fields[str(info.field_name)]) == "url":
            check_url(value)
        return value

    @field_validator("kafka_url")
    @classmethod
    def _kafka_servers(cls, value: str) -> str:
        if value:
            parse_kafka_url(value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        TrustedProxies.of(value)
        return value

    @field_validator("client_certificate_header", mode="before")
    @classmethod
    def _lower_header(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("tls_ca_file")
    @classmethod
    def _holds_certificates(cls, value: str) -> str:
        checked_context(value)
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if bool(self.rabbitmq_url) != bool(self.kafka_url):
            given, missing = ("RABBITMQ", "KAFKA") if self.rabbitmq_url else ("KAFKA", "RABBITMQ")
            raise ValueError(
                f"{PREFIX}{given}_URL is set and {PREFIX}{missing}_URL is not: frames travel through both. "
                "Set both, or neither"
            )
        if self.client_certificate_header and not self.trusted_proxies:
            raise ValueError(
                f"{PREFIX}CLIENT_CERTIFICATE_HEADER is set and {PREFIX}TRUSTED_PROXIES is not: a certificate counts "
                "where a trusted proxy passes it on. Name the proxies"
            )
        self._check_tls()
        self._check_signed_tokens()
        return self

    def _check_tls(self) -> None:
        servers = {f"{PREFIX}{name.upper()}": str(getattr(self, name)) for name in _SERVERS}
        https = (self.otlp_endpoint, self.jwt_jwks_url, self.jwt_issuer if self.jwt_discovery else "")
        asked = any(map(asks_for_tls, servers.values())) or any(url.startswith("https://") for url in https)
        if self.tls_ca_file and not asked:
            raise ValueError(
                f"{PREFIX}TLS_CA_FILE is set and no server's URL asks for TLS: write "
                "postgresql://…?sslmode=verify-full, amqps://, ssl:// (Kafka), rediss:// or https://"
            )
        for name, url in servers.items():
            check_named_files(name, url, self.tls_ca_file)

    def _check_signed_tokens(self) -> None:
        keys = {"KEY_FILE": self.jwt_key_file, "JWKS_URL": self.jwt_jwks_url, "DISCOVERY": self.jwt_discovery}
        given = [f"{PREFIX}JWT_{name}" for name, value in keys.items() if value]
        checked = {"ISSUER": self.jwt_issuer, "AUDIENCE": self.jwt_audience}
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are set: keys are of one of them; unset the others")
        if not given:
            for name in (name for name, value in checked.items() if value):
                raise ValueError(
                    f"{PREFIX}JWT_{name} is set, and neither {PREFIX}JWT_KEY_FILE nor {PREFIX}JWT_JWKS_URL nor "
                    f"{PREFIX}JWT_DISCOVERY: no signed token is accepted"
                )
        missing = [f"{PREFIX}JWT_{name}" for name, value in checked.items() if not value]
        if given and not self.jwt_key_file and missing:
            raise ValueError(
                f"{given[0]} is set and {' and '.join(missing)} not: an identity provider signs tokens for others too"
            )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Overrides, then the environment, then the file. Without `load`, no file."""
        files = _found.get(None)
        if files is None:
            return init_settings, env_settings
        by_file, toml = (InitSettingsSource(settings_cls, values) for values in (files.environment.values, files.toml))
        return init_settings, by_file, env_settings, toml


S = TypeVar("S", bound=Settings)
G = TypeVar("G")


def composed_of(groups: Iterable[type[BaseModel]]) -> type[Settings]:
    """Settings with the fields of these groups. Raises TypeError if two groups define one field differently."""
    groups = tuple(groups)
    fields: dict[str, Any] = dict(Settings.model_fields)
    for group in groups:
        for name, field in group.model_fields.items():
            if fields.setdefault(name, field).description != field.description:
                raise TypeError(f"the setting {name} of {group.__name__} is another's already")
    return type("Settings", (*groups, Settings), {"__doc__": Settings.__doc__})


def group_of(settings: Settings, kind: type[G]) -> G:
    """The settings as one of the groups that they are composed of."""
    assert isinstance(settings, kind)  # noqa: S101  # by composition
    return settings


def load(kind: type[S], **overrides: Any) -> S:
    """The settings of this process; an override of None counts as not given.

    Raises ConfigError that lists every wrong setting, its value and what to write instead. No secret is in it.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    path = os.environ.get(CONFIG_VARIABLE)
    wrong = _unknown_variables(kind)
    try:
        files = read_files(kind.model_fields, PREFIX, path, frozenset(given))
        wrong += files.wrong
    except OSError as error:
        wrong.append(f"{CONFIG_VARIABLE}={path}: cannot be read ({error.strerror}); name a TOML file, or unset it")
    except ValueError as error:  # of tomllib, or no UTF-8
        wrong.append(f"{CONFIG_VARIABLE}={path}: is not TOML ({error})")
    if wrong:
        raise ConfigError(_message(wrong))
    token = _found.set(files)
    try:
        return _with_origins(kind(**given), files.paths, given)
    except ValidationError as error:
        raise ConfigError(_message([_explain(kind, dict(item)) for item in error.errors()])) from None
    except SettingsError as error:  # a list or a map of a variable that is no JSON; the value may be a secret
        found = re.search(r'for field "(\w+)"', str(error))
        if found is None:
            raise
        raise ConfigError(_message([_no_json(kind, found[1])])) from None
    finally:
        _found.reset(token)


def _no_json(kind: type[Settings], name: str) -> str:
    is_map = "dict" in str(kind.model_fields[name].annotation)
    like = '{"name": "value"}' if is_map else '["one", "another"]'
    return f"{PREFIX}{name.upper()}: is not JSON; write it like {like}"


def _with_origins(settings: S, paths: Mapping[str, Path], given: Mapping[str, Any]) -> S:
    """Secrets know the file that they are from, and servers' URLs that of their CAs."""
    texts = {name: getattr(settings, name) for name, field in type(settings).model_fields.items() if masked(field)}
    known = {
        name: SecretText(text, None if name in given else paths.get(name), settings.tls_ca_file)
        for name, text in texts.items()
        if isinstance(text, str) and text
    }
    return settings.model_copy(update=known)


def _shown(kind: type[Settings], name: str, value: Any) -> Any:
    """A setting's value for display, masked if secret."""
    how = masked(kind.model_fields.get(name))
    if how == "whole":
        return MASK if value else ""
    return shown_url(value) if how == "url" else value


def _unknown_variables(kind: type[Settings]) -> list[str]:
    names = (*kind.model_fields, *file_names(kind.model_fields))
    known = {f"{PREFIX}{name.upper()}" for name in names} | {CONFIG_VARIABLE} | CLIENT_VARIABLES
    return [
        f"{variable}: there is no such setting{did_you_mean(variable.upper(), known)}"
        for variable in sorted(os.environ)
        if variable.upper().startswith(PREFIX) and variable.upper() not in known
    ]


def _explain(kind: type[Settings], error: dict[str, Any]) -> str:
    """One of pydantic's errors as one line."""
    fix = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    if not error["loc"]:
        return fix
    name = str(error["loc"][0]).lower()
    field = kind.model_fields.get(name)
    if field is None:
        return f"{name}: there is no such setting{did_you_mean(name, set(kind.model_fields))}"
    given = str(error["input"])
    value = shown_where_wrong(given) if masked(field) == "url" else _shown(kind, name, given)
    default = f"; default {field.default}" if field.default != "" else ""
    return f"{PREFIX}{name.upper()}={value}: {fix} ({field.description}{default})"


def _message(wrong: list[str]) -> str:
    return "wrong settings:\n" + "\n".join(f"  - {line}" for line in wrong)
