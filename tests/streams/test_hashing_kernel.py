"""Fingerprints of names, and ids of sessions."""

from uuid import UUID, uuid5

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.kernels.hashing import name_hash
from streams.session_ids import session_octets, session_texts, session_uuid

names = st.lists(st.text(max_size=40), min_size=1, max_size=8)


def hashed(values: list[str]) -> list[int]:
    encoded = [value.encode() for value in values]
    offset = np.cumsum([0, *map(len, encoded)])
    found: list[int] = name_hash(offset, np.frombuffer(b"".join(encoded), np.uint8)).tolist()
    return found


@given(names)
def test_a_name_has_one_fingerprint_whatever_is_hashed_with_it(values: list[str]) -> None:
    assert hashed(values) == [hashed([value])[0] for value in values]
    assert all(0 < value < 2**63 for value in hashed(values))


def test_names_that_are_alike_have_different_fingerprints() -> None:
    alike = [f"{prefix}{n}" for prefix in ("S-", "S-0", "tx", "\0", "12345678", "1234567\0") for n in range(50_000)]
    alike += ["", "a", "a\0", "a\0\0", "\0", "\0\0"]
    assert len(set(hashed(alike))) == len(set(alike))


def test_fingerprints_are_those_that_states_remember() -> None:
    """Persisted: another value here is another state format."""
    assert hashed(["", "S-1", "a name of more than one word"]) == [
        1,
        8_139_085_980_288_034_770,
        4_427_950_081_086_723_641,
    ]


@given(st.lists(st.integers(1, 2**63 - 1), max_size=5))
def test_a_sessions_id_is_the_uuid5_of_its_key(keys: list[int]) -> None:
    expected = [uuid5(UUID("6f9f1f0e-7d0b-4a57-9b70-5a0c7f2d7c11"), str(key)) for key in keys]
    assert [session_uuid(key) for key in keys] == expected
    many = np.array(keys, np.int64)
    assert session_octets(many).tobytes() == b"".join(one.bytes for one in expected)
    assert session_texts(many).tobytes().decode() == "".join(map(str, expected))
