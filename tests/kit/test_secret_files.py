"""Secrets by file: every masked setting, from the environment and from the TOML file; read again by who connects."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import ConfigError, Unavailable
from kit.secrets.files import file_names
from kit.secrets.text import SECRET_BYTES_MAX, SecretText, current, read_secret
from kit.secrets.urls import changed_since
from voltstream.runtime.children import environment_of
from voltstream.settings import load_settings, settings_type

URL = "postgresql://u:hush@h/d"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("VOLTSTREAM_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A secret as it is mounted."""
    path = tmp_path / "secret"
    path.write_text(f"{URL}\n")
    return path


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The TOML file that VOLTSTREAM_CONFIG names."""
    path = tmp_path / "voltstream.toml"
    monkeypatch.setenv("VOLTSTREAM_CONFIG", str(path))
    return path


def test_every_masked_setting_can_be_given_by_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fields = settings_type().model_fields
    values = {
        "database_url": URL, "rabbitmq_url": "amqps://u:hush@h", "kafka_url": "sasl_ssl://u:hush@h:1",
        "redis_url": "redis://:hush@h", "mongodb_url": "mongodb://u:hush@h", "chat_urls": '{"ops": "slack://hush"}',
        "lake_url": str(tmp_path), "stripe_key": "sk_test_hush", "stripe_webhook_secret": "whsec_hush",
        "webhook_key": "hush" * 8, "smtp_password": "hush", "sms_password": "hush", "billing_token": "hush",
    }  # fmt: skip
    names = file_names(fields).values()
    assert set(values) <= set(names)
    for name in names:
        (tmp_path / name).write_text(values.get(name, "https://u:hush@h") + "\r\n")
        monkeypatch.setenv(f"VOLTSTREAM_{name.upper()}_FILE", str(tmp_path / name))
    monkeypatch.setenv("VOLTSTREAM_SMS_FROM", "volt")
    settings = load_settings()
    for name in names:
        value = getattr(settings, name)
        expected = values.get(name, "https://u:hush@h")
        assert value == ({"ops": "slack://hush"} if name == "chat_urls" else expected)
    assert "hush" not in str(settings.describe())


def test_the_toml_file_names_files_too_and_the_environment_wins(
    file: Path, toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml.write_text(f'database_url_file = "{file}"\nport = 1\n')
    settings = load_settings()
    assert (settings.database_url, settings.port) == (URL, 1)
    assert settings.secret_files() == {"database_url": file}
    other = "postgresql://other"
    monkeypatch.setenv("VOLTSTREAM_DATABASE_URL", other)
    settings = load_settings()
    assert (settings.database_url, settings.secret_files()) == (other, {})
    assert load_settings(database_url="postgresql://third").secret_files() == {}
    monkeypatch.delenv("VOLTSTREAM_DATABASE_URL")
    toml.write_text(f'database_url = "{other}"\n')
    monkeypatch.setenv("voltstream_database_url_file", str(file))
    assert load_settings().database_url == URL


def test_each_file_is_read_once_and_only_where_its_secret_is_used(
    file: Path, toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return read_secret(path)

    monkeypatch.setattr("kit.secrets.files.read_secret", counted)
    unreadable = tmp_path / "not-there"
    toml.write_text(f'database_url_file = "{unreadable}"\nredis_url_file = "{unreadable}"\n')
    monkeypatch.setenv("VOLTSTREAM_DATABASE_URL_FILE", str(file))
    monkeypatch.setenv("VOLTSTREAM_REDIS_URL", "redis://h")
    monkeypatch.setenv("VOLTSTREAM_MONGODB_URL_FILE", str(unreadable))
    settings = load_settings(mongodb_url="mongodb://h")
    assert read == [file]
    assert (settings.database_url, settings.redis_url, settings.mongodb_url) == (URL, "redis://h", "mongodb://h")
    monkeypatch.delenv("VOLTSTREAM_REDIS_URL")
    with pytest.raises(ConfigError, match=r"redis_url_file=.*cannot be read"):
        load_settings(mongodb_url="mongodb://h")


@pytest.mark.parametrize("where", ["environment", "toml"])
def test_a_secret_by_file_and_by_value_is_an_error_that_shows_neither(
    where: str, file: Path, toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "environment":
        toml.write_text("")
        monkeypatch.setenv("VOLTSTREAM_DATABASE_URL_FILE", str(file))
        monkeypatch.setenv("VOLTSTREAM_DATABASE_URL", "postgresql://u:hush@h/d")
    else:
        toml.write_text(f'database_url = "{URL}"\ndatabase_url_file = "{file}"\n')
    with pytest.raises(ConfigError, match=r"(?i)database_url and .*database_url_file are both") as raised:
        load_settings()
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        (b"\n", "is empty"),
        (b"\xff", "is no text in UTF-8"),
        (b"x" * (SECRET_BYTES_MAX + 1), "has more than"),
    ],
)
def test_a_file_that_holds_no_secret_is_an_error_with_the_mend(
    tmp_path: Path, content: bytes | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("VOLTSTREAM_DATABASE_URL_FILE", str(path))
    with pytest.raises(ConfigError, match=f"VOLTSTREAM_DATABASE_URL_FILE=.*{says}.*name a file that holds the secret"):
        load_settings()


def test_what_a_file_holds_is_checked_and_not_shown(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLTSTREAM_REDIS_URL_FILE", str(file))
    with pytest.raises(ConfigError, match=r"VOLTSTREAM_REDIS_URL=.*start it with redis://") as raised:
        load_settings()
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize("mistyped", ["REDIS_URI_FILE", "PORT_FILE"])
def test_what_is_no_secret_has_no_file(mistyped: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"VOLTSTREAM_{mistyped}", "/x")
    with pytest.raises(ConfigError, match=f"VOLTSTREAM_{mistyped}: there is no such setting"):
        load_settings()


def test_a_child_reads_the_same_files(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLTSTREAM_DATABASE_URL_FILE", str(file))
    settings = load_settings(redis_url="redis://h")
    environment = environment_of(settings)
    assert "hush" not in str({name: value for name, value in environment.items() if name.startswith("VOLTSTREAM_")})
    monkeypatch.delenv("VOLTSTREAM_DATABASE_URL_FILE")
    for name, value in environment.items():
        if name.startswith("VOLTSTREAM_"):
            monkeypatch.setenv(name, value)
    assert load_settings() == settings
    assert load_settings().secret_files() == {"database_url": file}


def test_who_connects_reads_the_file_again(file: Path) -> None:
    secret = SecretText(URL, file, "ca")
    assert not changed_since(secret, current(secret))
    file.write_text("postgresql://u:new@h/d\n")
    assert current(secret) == "postgresql://u:new@h/d"
    assert changed_since(secret, URL)
    file.write_text("postgresql://u:n/ew@h/d\n")
    assert not changed_since(secret, URL)
    file.unlink()
    assert not changed_since(secret, URL)
    with pytest.raises(Unavailable, match="cannot be read"):
        current(secret)
    assert current(SecretText(URL)) == current(URL) == URL


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1).map(str.strip).filter(bool))
def test_any_text_comes_back_without_its_newline(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "secret")
        path.write_bytes(f"{text}\n".encode())
        assert current(SecretText("", path)) == text
