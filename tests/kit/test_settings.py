"""Settings: where they come from, and what a wrong one says."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from ingest.settings import IngestSettings
from kit.errors import ConfigError
from kit.log.kafka_url import parse_kafka_url
from voltstream.settings import load_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("VOLTSTREAM_")]:
        monkeypatch.delenv(name)


def test_without_any_setting_everything_is_embedded() -> None:
    settings = load_settings()
    assert not settings.distributed_database
    assert not settings.distributed_bus
    assert not settings.distributed_log
    assert not settings.distributed_live
    assert (settings.host, settings.port, settings.partitions) == ("127.0.0.1", 8080, 4)


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "voltstream.toml"
    file.write_text('port = 1\npartitions = 7\nhost = "::1"\n')
    monkeypatch.setenv("VOLTSTREAM_CONFIG", str(file))
    monkeypatch.setenv("VOLTSTREAM_PORT", "2")
    monkeypatch.setenv("VOLTSTREAM_PARTITIONS", "5")
    settings = load_settings(port=3, host=None)
    assert (settings.port, settings.partitions, settings.host) == (3, 5, "::1")


def test_every_wrong_setting_is_named_with_its_value_and_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLTSTREAM_PORT", "99999")
    monkeypatch.setenv("VOLTSTREAM_LOG_LEVEL", "loud")
    monkeypatch.setenv("VOLTSTREAM_KAFKA_URL", "kafka://broker")
    with pytest.raises(ConfigError) as raised:
        load_settings(linger_ms=-1)
    message = str(raised.value)
    assert "VOLTSTREAM_PORT=99999: must be less than or equal to 65535" in message
    assert "VOLTSTREAM_LOG_LEVEL=loud: must be 'debug', 'info', 'warning' or 'error'" in message
    assert "VOLTSTREAM_KAFKA_URL=kafka://broker: write host:port" in message
    assert "VOLTSTREAM_LINGER_MS=-1: must be greater than or equal to 0" in message


@pytest.mark.parametrize(
    ("name", "value", "like"),
    [
        ("NOTIFICATION_ALARM_SUBJECTS", "team/operators", '["one", "another"]'),
        ("CHAT_URLS", "slack://a-secret", '{"name": "value"}'),
        ("INVOICE_TOTAL_MAX", '{"EUR":', '{"name": "value"}'),
    ],
)
def test_a_list_or_a_map_that_is_no_json_is_told_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, like: str
) -> None:
    monkeypatch.setenv(f"VOLTSTREAM_{name}", value)
    with pytest.raises(ConfigError) as raised:
        load_settings()
    assert f"VOLTSTREAM_{name}: is not JSON; write it like {like}" in str(raised.value)
    assert value not in str(raised.value)


def test_a_mistyped_variable_is_an_error_that_names_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLTSTREAM_RABBITMQ_URI", "amqp://localhost")
    with pytest.raises(ConfigError, match=r"VOLTSTREAM_RABBITMQ_URI.*did you mean VOLTSTREAM_RABBITMQ_URL"):
        load_settings()


def test_a_mistyped_key_of_the_file_is_an_error_that_names_the_right_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "voltstream.toml"
    file.write_text("prot = 1\n")
    monkeypatch.setenv("VOLTSTREAM_CONFIG", str(file))
    with pytest.raises(ConfigError, match="did you mean port"):
        load_settings()


@pytest.mark.parametrize("text", [None, "port = = 1"])
def test_a_file_that_cannot_be_read_is_an_error(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "voltstream.toml"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("VOLTSTREAM_CONFIG", str(file))
    with pytest.raises(ConfigError, match="VOLTSTREAM_CONFIG="):
        load_settings()


@pytest.mark.parametrize(
    "overrides",
    [{"kafka_url": "k:9092"}, {"rabbitmq_url": "amqp://u:hush@r"}],
)
def test_rabbitmq_and_kafka_come_together_or_not_at_all(overrides: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="Set both, or neither") as raised:
        load_settings(**overrides)
    assert "hush" not in str(raised.value)


def test_no_password_shows_in_an_error_a_description_or_a_repr() -> None:
    with pytest.raises(ConfigError) as raised:
        load_settings(database_url="mysql://u:hu/sh@p:w@h/d", redis_url="http://:hush@h")
    assert "hu/sh" not in str(raised.value)
    assert "hush" not in str(raised.value)
    settings = load_settings(database_url="postgresql://u:hush@h/d?sslpassword=hush2", redis_url="redis://:hush@h")
    assert settings.describe()["database_url"] == "postgresql://u:***@h/d?sslpassword=***"
    assert settings.describe()["redis_url"] == "redis://:***@h"
    assert "hush" not in repr(settings)


def test_an_inflated_body_may_not_be_bounded_below_the_one_on_the_wire() -> None:
    with pytest.raises(ConfigError, match="INFLATED_BYTES_MAX"):
        load_settings(inflated_bytes_max=2_000, body_bytes_max=4_000)


def test_retention_bounds_the_age_of_what_is_taken() -> None:
    assert IngestSettings(raw_retention_days=30).age_days_effective == 30
    assert IngestSettings(raw_retention_days=0).age_days_effective == 1_830
    assert IngestSettings(raw_retention_days=9_000).age_days_effective == 1_830


def test_settings_cannot_be_changed() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.port = 1


def test_several_kafka_servers_are_a_list() -> None:
    settings = load_settings(kafka_url="a:1, b:2", rabbitmq_url="amqp://r")
    assert parse_kafka_url(settings.kafka_url).servers == ("a:1", "b:2")
    assert settings.distributed_log
