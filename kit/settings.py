"""Settings: one frozen object a process, from `VOLTSTREAM_*` variables, a TOML file, or both; checked before any I/O.

What is said later wins: defaults, then the file that `VOLTSTREAM_CONFIG` names (keys as the fields below), then the
environment, then what the command line hands to `load_settings`.
"""

import os
import tomllib
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from kit.errors import ConfigError
from kit.masking import MASK, mask_url
from kit.validation import did_you_mean

PREFIX: Final = "VOLTSTREAM_"
CONFIG_VARIABLE: Final = f"{PREFIX}CONFIG"
# Options of commands that speak to a platform; they may be set beside the settings of one.
CLIENT_VARIABLES: Final = frozenset(f"{PREFIX}{name}" for name in ("URL", "DEVICE_TOKEN", "OPERATOR_TOKEN"))

_MIB: Final = 1024 * 1024
_URL_SCHEMES: Final = {
    "database_url": ("postgresql", "postgres"),
    "rabbitmq_url": ("amqp", "amqps"),
    "redis_url": ("redis", "rediss", "unix"),
    "otlp_endpoint": ("http", "https"),
    "stripe_api_base": ("http", "https"),
}
_URLS: Final = frozenset({*_URL_SCHEMES, "kafka_url"})
_SECRETS: Final = frozenset({"stripe_key", "stripe_webhook_secret"})


class Settings(BaseSettings):
    """Everything an operator may set. Made by `load_settings`, passed down, never imported."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    database_url: str = Field("", repr=False, description="PostgreSQL as postgresql://…; empty: embedded")
    rabbitmq_url: str = Field("", repr=False, description="RabbitMQ as amqp://…; empty: in-process")
    kafka_url: str = Field("", repr=False, description="Kafka as host:port[,host:port]; empty: in-process")
    redis_url: str = Field("", repr=False, description="Redis as redis://…; empty: in-process")

    data_dir: Path = Field(Path(".data"), description="folder of the embedded database")
    host: str = Field("127.0.0.1", min_length=1, description="address the HTTP API listens on")
    port: int = Field(8080, ge=0, le=65_535, description="port of the HTTP API; 0: any free one")

    # Fixed at the first migration and stored in the database. 1,024: a worker process serves many partitions, and
    # no fleet that one PostgreSQL can store needs more.
    partitions: int = Field(4, ge=1, le=1_024, description="partitions of the log, fixed once migrated; embedded: 2")

    # One group commit waits this long for company: at 3,000 requests/s, 5 ms makes frames of 15.
    linger_ms: int = Field(5, ge=0, le=1_000, description="how long a single reading waits for others")
    flush_interval_ms: int = Field(100, ge=1, le=10_000, description="how often a worker commits")
    # ~150 B a reading in memory: 100,000 are 15 MB, and a column of them stays in a core's cache. Larger flushes commit
    # less often and take their memory anew each time, no faster; at 30,000 the commits are half of the work.
    flush_readings_max: int = Field(100_000, ge=1, le=5_000_000, description="most readings in one commit")

    body_bytes_max: int = Field(8 * _MIB, ge=1_024, le=256 * _MIB, description="largest request body, as sent")
    inflated_bytes_max: int = Field(64 * _MIB, ge=1_024, le=1_024 * _MIB, description="largest body, decompressed")
    readings_per_request_max: int = Field(100_000, ge=1, le=1_000_000, description="most readings in one request")
    age_days_max: int = Field(1_830, ge=1, le=36_500, description="older readings are quarantined")
    future_s_max: int = Field(86_400, ge=60, le=31_536_000, description="readings further ahead are quarantined")
    raw_retention_days: int = Field(0, ge=0, le=36_500, description="raw readings are dropped after; 0: kept")
    lateness_s: int = Field(10, ge=0, le=86_400, description="how far a watermark runs behind the newest reading")
    session_timeout_s: int = Field(7_200, ge=60, le=604_800, description="silence that closes a session")

    publish_timeout_s: int = Field(10, ge=1, le=300, description="longest wait for a broker's confirm")
    # A full frame of 1,000 readings is ~64 kB: 2,000 of them are 128 MB, 2 M readings, ~10 s of a full gateway.
    buffer_frames_max: int = Field(2_000, ge=1, le=100_000, description="most unconfirmed frames of a gateway")

    # Tokens signed by an identity provider or an API gateway are believed where a key is named
    # (kit/auth/signed_tokens.py).
    jwt_key_file: str = Field("", description="public key (PEM) or shared secret that signed tokens are verified with")
    jwt_issuer: str = Field("", max_length=256, description="the `iss` that signed tokens must have; empty: any")
    jwt_audience: str = Field("", max_length=256, description="the `aud` that signed tokens must have; empty: any")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    # Payments by Stripe are offered where its key is set.
    stripe_key: str = Field("", repr=False, description="secret key of Stripe's API, sk_…; empty: no payments by it")
    stripe_webhook_secret: str = Field("", repr=False, description="what Stripe signs its webhooks with, whsec_…")
    stripe_api_base: str = Field("", description="another address of Stripe's API, for a stand-in; empty: Stripe's")
    # A wrong tariff or meter shows in the amount. In currencies of small units (IDR, VND) a session costs 100,000.
    invoice_total_max: int = Field(
        1_000_000, ge=1, le=1_000_000_000, description="whole units of any currency; more is reviewed, not invoiced"
    )

    # Of receipts and of OCPI CDRs.
    seller_name: str = Field("", max_length=100, description="who sells, as receipts name them")
    seller_address: str = Field("", max_length=300, description="the seller's address; its lines are parted by |")
    seller_vat_id: str = Field("", max_length=40, description="the seller's VAT identification number")
    seller_contact: str = Field("", max_length=100, description="where drivers ask about a receipt")
    ocpi_country_code: str = Field("ZZ", pattern=r"^[A-Z]{2}$", description="country_code of OCPI CDRs, ISO 3166-1")
    ocpi_party_id: str = Field("VLT", pattern=r"^[A-Z0-9]{3}$", description="party_id of OCPI CDRs, as eMI3 gave it")

    otlp_endpoint: str = Field("", repr=False, description="OTLP/HTTP collector, http://host:4318; empty: no traces")

    @property
    def distributed_database(self) -> bool:
        """A PostgreSQL by URL, not the embedded one."""
        return bool(self.database_url)

    @property
    def distributed_bus(self) -> bool:
        """Events travel over RabbitMQ."""
        return bool(self.rabbitmq_url)

    @property
    def distributed_log(self) -> bool:
        """Frames travel over RabbitMQ and Kafka."""
        return bool(self.kafka_url)

    @property
    def distributed_live(self) -> bool:
        """The live view is in Redis."""
        return bool(self.redis_url)

    @property
    def age_days_effective(self) -> int:
        """The age beyond which a reading is quarantined: never older than what retention would drop at once."""
        return min(self.age_days_max, self.raw_retention_days or self.age_days_max)

    @property
    def kafka_servers(self) -> list[str]:
        """`kafka_url` as a list of host:port."""
        return [server.strip() for server in self.kafka_url.split(",") if server.strip()]

    def describe(self) -> dict[str, Any]:
        """Every setting as plain JSON values, passwords masked."""
        values = self.model_dump(mode="json")
        return {name: _shown(name, value) for name, value in values.items()}

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("kafka_url")
    @classmethod
    def _kafka_servers(cls, value: str) -> str:
        for server in filter(None, (part.strip() for part in value.split(","))):
            host, colon, port = server.rpartition(":")
            if not (host and colon and port.isdecimal() and 0 < int(port) <= 65_535) or "/" in host:
                raise ValueError("write host:port, several with commas between, without a scheme")
        return value

    @field_validator(*_URL_SCHEMES)
    @classmethod
    def _scheme(cls, value: str, info: Any) -> str:
        schemes = _URL_SCHEMES[info.field_name]
        if value and not value.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError(f"start it with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if bool(self.rabbitmq_url) != bool(self.kafka_url):
            given, missing = ("RABBITMQ", "KAFKA") if self.rabbitmq_url else ("KAFKA", "RABBITMQ")
            raise ValueError(
                f"{PREFIX}{given}_URL is set and {PREFIX}{missing}_URL is not: frames travel through both. "
                "Set both, or neither"
            )
        if bool(self.stripe_key) != bool(self.stripe_webhook_secret):
            given, missing = ("KEY", "WEBHOOK_SECRET") if self.stripe_key else ("WEBHOOK_SECRET", "KEY")
            raise ValueError(
                f"{PREFIX}STRIPE_{given} is set and {PREFIX}STRIPE_{missing} is not: payments need both. "
                "Set both, or neither"
            )
        if (self.jwt_issuer or self.jwt_audience) and not self.jwt_key_file:
            given = "ISSUER" if self.jwt_issuer else "AUDIENCE"
            raise ValueError(f"{PREFIX}JWT_{given} is set and {PREFIX}JWT_KEY_FILE is not: no signed token is believed")
        if self.inflated_bytes_max < self.body_bytes_max:
            raise ValueError(
                f"{PREFIX}INFLATED_BYTES_MAX={self.inflated_bytes_max} is below "
                f"{PREFIX}BODY_BYTES_MAX={self.body_bytes_max}: raise the first or lower the second"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Overrides, then the environment, then the file."""
        path = os.environ.get(CONFIG_VARIABLE)
        if not path:
            return init_settings, env_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=Path(path))


def _shown(name: str, value: Any) -> Any:
    """A setting's value as people may see it."""
    if name in _SECRETS:
        return MASK if value else ""
    return mask_url(value) if name in _URLS else value


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process; an override of None counts as not given.

    Raises ConfigError that lists every wrong setting, its value and what to write instead. No secret is in it.
    """
    wrong = _unknown_variables() + _unreadable_file()
    if wrong:
        raise ConfigError(_message(wrong))
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        raise ConfigError(_message([_explain(dict(item)) for item in error.errors()])) from None


def _unknown_variables() -> list[str]:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {CONFIG_VARIABLE} | CLIENT_VARIABLES
    return [
        f"{variable}: there is no such setting{did_you_mean(variable.upper(), known)}"
        for variable in sorted(os.environ)
        if variable.upper().startswith(PREFIX) and variable.upper() not in known
    ]


def _unreadable_file() -> list[str]:
    path = os.environ.get(CONFIG_VARIABLE)
    if not path:
        return []
    try:
        tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        return [f"{CONFIG_VARIABLE}={path}: cannot be read ({error.strerror}); name a TOML file, or unset it"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return [f"{CONFIG_VARIABLE}={path}: is not TOML ({error})"]
    return []


def _explain(error: dict[str, Any]) -> str:
    """One line about one of pydantic's errors."""
    mend = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    if not error["loc"]:
        return mend
    name = str(error["loc"][0]).lower()
    field = Settings.model_fields.get(name)
    if field is None:
        return f"{name}: there is no such setting{did_you_mean(name, set(Settings.model_fields))}"
    value = str(_shown(name, str(error["input"])))
    default = f"; default {field.default}" if field.default != "" else ""
    return f"{PREFIX}{name.upper()}={value}: {mend} ({field.description}{default})"


def _message(wrong: list[str]) -> str:
    return "wrong settings:\n" + "\n".join(f"  - {line}" for line in wrong)
