"""`voltstream frames`: what RabbitMQ gave up is found by whoever has its URL."""

import json

import pytest

from tests.voltstream.platform import voltstream

pytestmark = pytest.mark.usefixtures("processes")


def test_frames_are_counted_by_partition_and_put_back(rabbitmq_url: str) -> None:
    settings = {"rabbitmq_url": rabbitmq_url, "kafka_url": "127.0.0.1:1", "partitions": "2"}
    for command, member in (("dead", "dead"), ("put-back", "put_back")):
        done = voltstream("frames", command, "--json", **settings)
        assert (done.returncode, done.stderr) == (0, "")
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert found == [{"partition": 0, member: 0}, {"partition": 1, member: 0}]


def test_without_rabbitmq_there_are_none_to_look_for() -> None:
    refused = voltstream("frames", "dead")
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert "set VOLTSTREAM_RABBITMQ_URL" in refused.stderr
