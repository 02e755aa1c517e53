"""What tells a database from every other: the live view of one is never shown as that of another."""

import psycopg
import pytest

from kit.errors import ConfigError
from voltstream.runtime.database import bring_up_to_date, database_id_of

_PARTITIONS = 2


def test_a_database_that_was_not_prepared_has_no_id_and_says_what_to_do(database_url: str) -> None:
    with pytest.raises(ConfigError, match="voltstream migrate"):
        database_id_of(database_url)


def test_a_database_keeps_its_id_and_one_made_anew_with_the_same_name_has_another(database_url: str) -> None:
    bring_up_to_date(database_url, _PARTITIONS)
    first = database_id_of(database_url)
    bring_up_to_date(database_url, _PARTITIONS)
    assert database_id_of(database_url) == first
    server, _, name = database_url.rpartition("/")
    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
        admin.execute(f"CREATE DATABASE {name}".encode())
    bring_up_to_date(database_url, _PARTITIONS)
    assert database_id_of(database_url) != first
