"""Laws of the retry policy."""

from itertools import islice
from pathlib import Path

import pytest

from kit.errors import ConfigError
from kit.retry import QueuePolicy, load_retry_policy, reconnect_pauses_s


def test_the_policy_of_the_package_pauses_from_one_second_to_thirty() -> None:
    policy = load_retry_policy().of("billing_session_completed")
    assert [policy.pause_s(attempt) for attempt in range(1, 9)] == [1, 2, 4, 8, 16, 30, 30, None]
    assert policy.pauses_s() == [1, 2, 4, 8, 16, 30]


def test_one_attempt_means_no_pause() -> None:
    assert QueuePolicy(attempts_max=1).pause_s(1) is None
    assert QueuePolicy(attempts_max=1).pauses_s() == []


def test_a_queue_takes_from_the_default_what_it_leaves_out(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("default: {first_s: 2, ceiling_s: 10}\nqueues: {mail_sent: {attempts_max: 3}}\n")
    policy = load_retry_policy(path)
    assert policy.of("mail_sent") == QueuePolicy(first_s=2, ceiling_s=10, attempts_max=3)
    assert policy.of("other") == QueuePolicy(first_s=2, ceiling_s=10)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("default: {first_s: 0}", "default.first_s"),
        ("default: {ceiling_s: 0.5}", "ceiling_s is below first_s"),
        ("default: {attempts: 3}", "default.attempts"),
        ("queues: {mail: {attempts_max: 20}}", "queues.mail.attempts_max"),
        ("queues: {mail: {factor: much}}", "queues.mail.factor"),
        ("queues: 3", "queues"),
        ("[", "not YAML"),
        ("", "the file"),
    ],
)
def test_an_invalid_policy_is_an_error_that_names_the_field(tmp_path: Path, text: str, names: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=names):
        load_retry_policy(path)


def test_a_missing_policy_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_retry_policy(tmp_path / "nonesuch.yaml")


def test_reconnects_slow_down_to_a_bound() -> None:
    pauses_s = list(islice(reconnect_pauses_s(), 20))
    assert pauses_s == sorted(pauses_s)
    assert pauses_s[-1] == pauses_s[-2] == 5
