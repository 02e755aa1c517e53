"""What the charts say of services is what the code says, and nothing that the charts have to know is left out."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import streams.declaration  # noqa: F401  # an import below it starts `file`, which no unit test may
from deploy.helm.charts import CHART, generated_files
from deploy.helm.facts import CALLS, OF_THE_CHART, OUTSIDE, SERVERS, all_facts, fields_of, secret_names
from schemas.topics import FRAMES_QUEUE_PREFIX, READINGS_TOPIC
from voltstream.services import SERVICES, all_services, service
from voltstream.settings import settings_type

ROOT = Path(__file__).parents[3]
_CALLS_TOKENS = frozenset(call.token for call in CALLS.values())
_BY_HAND = {"values.yaml", "values-dev.yaml", "values-staging.yaml", "values-prod.yaml"}


@cache
def _facts() -> dict[str, dict[str, Any]]:
    return all_facts()


def test_generated_files_are_those_of_the_code() -> None:
    """Else: python -m deploy.helm."""
    generated = generated_files()
    for name, text in generated.items():
        assert (CHART / name).read_text("utf-8") == text, name
    there = {str(path.relative_to(CHART)) for path in CHART.rglob("*") if path.is_file()}
    rest = there - generated.keys() - _BY_HAND
    assert not [name for name in rest if not name.startswith(("templates/", "charts/library/"))]


def test_every_service_has_a_chart_and_a_switch() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    assert _facts().keys() == values.keys() - {"global"}
    assert _facts().keys() - SERVICES.keys() == {"migrations", "simulator"}


def test_every_setting_that_names_another_machine_is_known_to_the_policies() -> None:
    """A new one would be refused by the network, and nobody would know why."""
    fields = settings_type().model_fields
    places = {name for name in fields if re.search(r"_(?:url|host|base|endpoint)$|^jwt_discovery$", name)}
    assert places <= OUTSIDE.keys() | set(SERVERS) | {call.setting for call in CALLS.values()}
    assert OUTSIDE.keys() <= fields.keys()
    for outside in OUTSIDE.values():
        assert not outside.port_setting or fields[outside.port_setting].default == outside.port


def test_every_setting_can_be_given_to_some_chart() -> None:
    given = {
        name
        for its in _facts().values()
        for part in ("settings", "optionalSecrets", "connects", "files")
        for name in its[part]
    }
    assert settings_type().model_fields.keys() - given == OF_THE_CHART - _CALLS_TOKENS
    assert secret_names() >= {name for its in _facts().values() for name in its["optionalSecrets"]}


def test_a_service_whose_code_names_a_server_connects_to_it() -> None:
    """MongoDB is of one service, which no declaration says."""
    for one in all_services():
        folder = ROOT / SERVICES[one.name].partition(":")[0].rpartition(".")[0].replace(".", "/")
        text = "".join(path.read_text("utf-8") for path in folder.rglob("*.py"))
        its = _facts()[one.name]
        if re.search(r"settings\.mongodb_url", text):
            assert "mongodb_url" in its["optionalSecrets"], one.name


def test_a_pod_runs_as_the_user_of_the_image() -> None:
    user = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))["global"]["user"]
    assert f"USER {user}\n" in (ROOT / "deploy" / "Dockerfile").read_text("utf-8")


def test_the_topic_of_the_readings_is_made() -> None:
    assert f"name: {READINGS_TOPIC}\n" in (CHART.parent / "foundation" / "templates" / "brokers.yaml").read_text(
        "utf-8"
    )


def test_rabbitmq_gives_no_frame_up_wherever_we_install_it() -> None:
    """By a policy: RabbitMQ 4 dead-letters a message after 20 deliveries."""
    deploy = ROOT / "deploy"
    compose = yaml.safe_load((deploy / "compose.yaml").read_text("utf-8"))
    command = compose["services"]["rabbitmq-policy"]["command"]
    assert command[2:] == [
        "set_policy", "voltstream-frames", f"^{FRAMES_QUEUE_PREFIX}", '{"delivery-limit": -1}',
        "--apply-to=quorum_queues", "--priority=10",
    ]  # fmt: skip
    template = (CHART.parent / "foundation" / "templates" / "brokers.yaml").read_text("utf-8")
    (policy,) = (one for one in template.split("---\n") if "\nkind: Policy\n" in one)
    assert f"  pattern: ^{FRAMES_QUEUE_PREFIX}\n  applyTo: quorum_queues\n" in policy
    assert "  definition:\n    delivery-limit: -1\n" in policy
    by_hand = f"'^{FRAMES_QUEUE_PREFIX}' '{{\"delivery-limit\": -1}}'"
    assert by_hand in (deploy / "README.md").read_text("utf-8")


def test_a_service_reads_settings_of_its_own_alone() -> None:
    assert "flush_readings_max" not in fields_of(service("gateway"))
    assert "jwt_issuer" not in fields_of(service("worker"))
    assert {"flush_readings_max", "partitions"} <= fields_of(service("worker")).keys()
