"""The setting for Kafka: what it may be, and that no password shows."""

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import ConfigError
from kit.log.kafka import client_options
from kit.log.kafka_url import KafkaUrl, parse_kafka_url
from voltstream.settings import load_settings

HOST = st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True)
SERVER = st.tuples(HOST, st.integers(1, 65_535)).map(lambda pair: f"{pair[0]}:{pair[1]}")
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)  # NUL separates in PLAIN


@given(st.lists(SERVER, min_size=1, max_size=4), TEXT, TEXT, st.booleans())
def test_any_login_comes_back_percent_decoded(servers: list[str], user: str, password: str, each: bool) -> None:
    prefix = f"sasl_ssl://{quote(user, safe='')}:{quote(password, safe='')}@"
    text = f",{prefix if each else ''}".join(servers)
    url = parse_kafka_url(f"{prefix}{text}?mechanism=SCRAM-SHA-512")
    assert url == KafkaUrl(tuple(servers), "sasl_ssl", user, password, "SCRAM-SHA-512")
    assert url.address == ",".join(servers)


def test_tls_is_by_scheme() -> None:
    assert parse_kafka_url("a:1, b:2") == KafkaUrl(("a:1", "b:2"))
    assert parse_kafka_url("ssl://a:1,ssl://b:2") == parse_kafka_url("ssl://a:1,b:2")
    assert parse_kafka_url("ssl://[::1]:1").scheme == "ssl"
    options = client_options("sasl_ssl://u:p%40@a:1")
    assert (options["security_protocol"], options["sasl_mechanism"], options["sasl_plain_password"]) == (
        "SASL_SSL",
        "PLAIN",
        "p@",
    )
    assert set(client_options("a:1")) == {"bootstrap_servers"}


@pytest.mark.parametrize(
    "wrong",
    [
        "kafka://h:1",
        "https://u:hush@h:1",
        "ssl://u:hush@h:1",
        "sasl_ssl://h:1",
        "sasl_ssl://u@h:1",
        "u:hush@h:1",
        "h:1,ssl://h:2",
        "ssl://h:1,sasl_ssl://u:hush@h:2",
        "sasl_ssl://u:hush@h:1,sasl_ssl://u:hush2@h:2",
        "ssl://h",
        "ssl://h:0",
        "ssl://h:1,",
        "ssl://h:1?mechanism=PLAIN",
        "sasl_ssl://u:hush@h:1?mechanism=GSSAPI",
        "sasl_ssl://u:hush%00@h:1",
    ],
)
def test_anything_else_is_an_error_before_any_connection_and_shows_no_password(wrong: str) -> None:
    with pytest.raises(ValueError, match=re.compile("write host:port|mechanism")):
        parse_kafka_url(wrong)
    with pytest.raises(ConfigError, match="VOLTSTREAM_KAFKA_URL=") as raised:
        load_settings(kafka_url=wrong, rabbitmq_url="amqp://h")
    assert "hush" not in str(raised.value)
