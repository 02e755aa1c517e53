"""The charts, rendered by Helm's own engine: linted, held to Kubernetes' schemas, to our rules and to the settings."""

import copy
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import given, settings

import tests.deploy.helm.network_rules
import tests.deploy.helm.pod_rules
import tests.deploy.helm.release_rules  # noqa: F401  # each adds its rules
from deploy.gateways.routing import operations, routings
from deploy.gateways.site import CONNECT_S, READ_S, Site
from tests.certificates import Authority
from tests.deploy.helm.any_values import any_values
from tests.deploy.helm.breakers import BREAKERS
from tests.deploy.helm.objects import Pod, destination, mounted_secrets, of_kind, pods, variables
from tests.deploy.helm.release_rules import amount
from tests.deploy.helm.rendered import (
    ENVIRONMENTS,
    FOUNDATION,
    HELM,
    UMBRELLA,
    Document,
    merged,
    render,
    rendered,
    values_of,
)
from tests.deploy.helm.rules import RULES
from tests.deploy.promql import KNOWN
from voltstream.cli.commands.serve import urls_needed
from voltstream.services import service
from voltstream.settings import load_settings

pytestmark = pytest.mark.deploy

helm = pytest.importorskip("helm_python", reason="make check-deploy installs it")
schemas = pytest.importorskip("kubernetes_validate", reason="make check-deploy installs it")

# Of operators: kubernetes-validate has no schemas of them, and no operator has looked at these.
CUSTOM: Final = {
    "postgresql.cnpg.io/v1": {"Cluster", "ScheduledBackup"},
    "rabbitmq.com/v1beta1": {"Policy", "RabbitmqCluster"},
    "kafka.strimzi.io/v1beta2": {"Kafka", "KafkaNodePool", "KafkaTopic"},
    "redis.redis.opstreelabs.in/v1beta2": {"RedisReplication", "RedisSentinel"},
    "monitoring.coreos.com/v1": {"ServiceMonitor"},
}
_SECRETS: Final = {
    "database_url": "postgresql://me:secret@database/voltstream?sslmode=verify-full",
    "rabbitmq_url": "amqps://me:secret@rabbitmq/%2F",
    "kafka_url": "ssl://kafka:9092",
    "redis_url": "rediss://:secret@redis:6379/0",
    "mongodb_url": "mongodb://me:secret@mongodb/voltstream",
    "otlp_endpoint": "http://collector:4318",
    "lake_url": "s3://lake/voltstream",
    "chat_urls": "{}",
    "sms_url": "https://sms.example",
}
_ALLOWED: Final = {"dev": {"every_image_has_a_version"}}  # rules that are not for an environment


@pytest.fixture(params=ENVIRONMENTS)
def environment(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("chart", [UMBRELLA, FOUNDATION], ids=lambda path: str(path.name))
def test_lint_finds_nothing(chart: Path) -> None:
    given = [values_of(name) for name in ENVIRONMENTS] if chart == UMBRELLA else [{}, _foundation_with_all()]
    for values in given:
        report = helm.lint(chart, values, strict=True)
        assert report["errors"] == []
        assert [one["error"] for one in report["messages"] if one["severity"] > 1] == []


@pytest.mark.parametrize("name", BREAKERS)
def test_a_rule_holds_and_finds_what_breaks_it(name: str) -> None:
    check = RULES[name]
    for environment in ENVIRONMENTS:
        if name not in _ALLOWED.get(environment, ()):
            assert list(check(rendered(environment))) == [], environment
    for number, breaks in enumerate(BREAKERS[name]):
        broken = copy.deepcopy(list(rendered("everything")))
        breaks(broken)
        assert list(check(broken)), f"breaker {number}"


@settings(max_examples=12)
@given(values=any_values())
def test_rules_hold_for_any_values(values: dict[str, Any]) -> None:
    documents = (*render(UMBRELLA, merged(values_of("prod"), values)), *render(FOUNDATION, _foundation_with_all()))
    for name, check in RULES.items():
        assert list(check(documents)) == [], name


def test_every_rule_is_shown_to_fail() -> None:
    assert BREAKERS.keys() == RULES.keys()


def test_kubernetes_schemas_accept_every_document(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the three newest versions, strictly: no field that they do not know."""
    monkeypatch.setattr(schemas.utils, "schema_contents", cache(schemas.utils.schema_contents))
    plain = [*render(FOUNDATION, {}), *(one for name in ENVIRONMENTS for one in rendered(name))]
    documents = {yaml.safe_dump(one): one for one in plain if one["kind"] not in CUSTOM.get(one["apiVersion"], ())}
    for version in schemas.utils.all_versions()[-3:]:
        for one in documents.values():
            schemas.validate(one, version, strict=True)


def test_kubernetes_schemas_refuse_a_field_that_is_none() -> None:
    broken = copy.deepcopy(of_kind(rendered("prod"), "Deployment")[0])
    broken["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
    with pytest.raises(schemas.ValidationError):
        schemas.validate(broken, schemas.utils.all_versions()[-1], strict=True)


def test_every_custom_resource_is_rendered_by_something() -> None:
    found = {(one["apiVersion"], one["kind"]) for one in rendered("everything")}
    assert {(version, kind) for version, kinds in CUSTOM.items() for kind in kinds} <= found


def test_settings_accept_what_each_pod_is_given(
    environment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path, "ca").file
    for pod in pods(rendered(environment)):
        given = _variables_as_mounted(pod, tmp_path, authority)
        with monkeypatch.context() as patched:
            for name, value in given.items():
                patched.setenv(name, value)
            loaded = load_settings()
        if pod.serves:
            names = pod.container["args"][1:]
            needed = urls_needed([service(name) for name in names])
            assert all(getattr(loaded, url) for url in needed), pod.name
            assert loaded.host == "0.0.0.0"  # noqa: S104  # what the pod is given
        if pod.container["args"][0] == "migrate":
            assert loaded.database_url
            assert not loaded.rabbitmq_url


def _variables_as_mounted(pod: Pod, folder: Path, ca_file: Path) -> dict[str, str]:
    """Its variables, with files that are here in the place of mounted ones."""
    given = {name: str(value) for name, value in variables(pod).items() if value is not None}
    for key in mounted_secrets(pod):
        file = folder / key
        file.write_text(_SECRETS.get(key, f"a-secret-of-32-characters-{key}"), "utf-8")
        given[f"VOLTSTREAM_{key.upper()}_FILE"] = str(file)
    if "VOLTSTREAM_TLS_CA_FILE" in given:
        given["VOLTSTREAM_TLS_CA_FILE"] = str(ca_file)
    return given


def test_an_ingress_leads_every_route_to_its_service(environment: str) -> None:
    ingresses = of_kind(rendered(environment), "Ingress")
    for one in operations():
        for path in (one.path, re.sub(r"\{[^}]*\}", "X", one.path)):
            assert destination(path, ingresses) == one.service, path
    assert destination("/metrics", ingresses) == destination("/api/v1/nothing", ingresses) == ""


def test_an_ingress_has_tls_and_bounds(environment: str) -> None:
    documents = rendered(environment)
    for one in of_kind(documents, "Ingress"):
        hosts = [rule["host"] for rule in one["spec"]["rules"]]
        assert [host for tls in one["spec"]["tls"] for host in tls["hosts"]] == hosts
        annotations = one["metadata"]["annotations"]
        body = amount(annotations["nginx.ingress.kubernetes.io/proxy-body-size"].replace("m", "Mi"))
        assert body == max(routing.body_bytes_max for routing in routings())
        expected = {"limit-rps": Site().requests_per_s, "limit-connections": Site().requests_at_once}
        expected |= {"proxy-connect-timeout": CONNECT_S}
        expected |= {"proxy-read-timeout": 3600 if one["metadata"]["name"].endswith("websockets") else READ_S}
        for name, value in expected.items():
            assert annotations[f"nginx.ingress.kubernetes.io/{name}"] == str(value)
        served = {pod.name: variables(pod).get("VOLTSTREAM_HOSTS", "") for pod in pods(documents)}
        for path in one["spec"]["rules"][0]["http"]["paths"]:
            assert hosts[0] in served[path["backend"]["service"]["name"]].split(",")


def test_what_services_are_scaled_by_is_a_metric() -> None:
    adapter = yaml.safe_load((HELM / "prometheus-adapter.yaml").read_text("utf-8"))["rules"]
    offered = {rule["name"]["as"]: rule for part in ("custom", "external") for rule in adapter[part]}
    used = set()
    for scaler in of_kind(rendered("everything"), "HorizontalPodAutoscaler"):
        for one in scaler["spec"]["metrics"]:
            part = one["type"].lower()
            used |= {one[part]["metric"]["name"]} if part != "resource" else set()
    assert used == offered.keys()
    for rule in offered.values():
        series = set(re.findall(r"\b(?:streams|rabbitmq)_[a-z_]+", f"{rule['seriesQuery']} {rule['metricsQuery']}"))
        assert series
        assert series <= KNOWN.keys()


def test_queues_that_scale_a_service_are_those_that_it_consumes() -> None:
    for scaler in of_kind(rendered("prod"), "HorizontalPodAutoscaler"):
        consumed = {f"_{one.event_type.rpartition('.')[0].replace('.', '_')}" for one in _consumes(scaler)}
        queues = [
            queue
            for one in scaler["spec"]["metrics"]
            if one["type"] == "External" and "selector" in one["external"]["metric"]
            for queue in one["external"]["metric"]["selector"]["matchExpressions"][0]["values"]
        ]
        assert len(queues) == len(_consumes(scaler))
        assert all(queue.endswith(tuple(consumed)) for queue in queues)


def _consumes(scaler: Document) -> tuple[Any, ...]:
    return service(scaler["metadata"]["name"]).consumes


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"global": {"settings": {"partitons": 8}}}, "partitons"),
        ({"global": {"settings": {"partitions": 0}}}, "partitions"),
        ({"global": {"settings": {"log_level": "loud"}}}, "log_level"),
        ({"global": {"adjustables": {"billing.pause": "true"}}}, "billing.pause"),
        ({"global": {"secrets": {"values": {"postgres_url": "x"}}}}, "postgres_url"),
        ({"bridge": {"settings": {"linger_ms": 5}}}, "linger_ms"),  # the gateway's
        ({"relay": {"secrets": {"optional": ["stripe_key"]}}}, "optional"),
        ({"telemtry": {"enabled": True}}, "telemtry"),
        ({"worker": {"autoscaling": {"max": 17}}}, "above the 16 partitions"),
        ({"worker": {"autoscaling": {"max": 2}}}, "below replicas"),
        ({"global": {"ingress": {"host": ""}}}, "ingress.host"),
        ({"global": {"secrets": {"create": True}}}, "no value for the secret"),
    ],
)
def test_wrong_values_are_refused_by_name(wrong: Mapping[str, Any], said: str) -> None:
    with pytest.raises(helm.HelmError, match=said):
        render(UMBRELLA, merged(values_of("prod"), wrong))


def test_what_is_switched_off_leaves_nothing() -> None:
    off = render(UMBRELLA, merged(values_of("prod"), {"reporting": {"enabled": False}}))
    assert not [one for one in off if one["metadata"]["labels"]["app.kubernetes.io/name"] == "reporting"]
    ingress = [one for one in of_kind(off, "Ingress") if one["metadata"]["namespace"] == "auxiliary"]
    assert "/api/v1/reports" not in yaml.safe_dump(ingress)


def test_servers_are_not_made_unless_asked_for() -> None:
    assert not [one for one in render(FOUNDATION, {}) if one["apiVersion"] in CUSTOM]


def test_the_foundation_has_what_the_platform_names() -> None:
    topics = of_kind(render(FOUNDATION, _foundation_with_all()), "KafkaTopic")
    defaults = yaml.safe_load((UMBRELLA / "values.yaml").read_text("utf-8"))["global"]
    assert [one["spec"]["partitions"] for one in topics] == [defaults["settings"]["partitions"]]
    servers = yaml.safe_load((FOUNDATION / "values.yaml").read_text("utf-8"))["servers"]
    for name in ("database", "rabbitmq", "kafka", "redis"):
        assert defaults["servers"][name]["port"] == servers[name]["port"]


def test_the_databases_login_may_make_services_roles_and_restore() -> None:
    (database,) = (
        one
        for one in of_kind(render(FOUNDATION, _foundation_with_all()), "Cluster")
        if one["metadata"]["name"] == "database"
    )
    (login,) = database["spec"]["managed"]["roles"]
    assert login["name"] == database["spec"]["bootstrap"]["initdb"]["owner"]
    assert login["createrole"]
    assert login["createdb"]


def test_rabbitmq_has_a_name_of_all_its_nodes() -> None:
    (headless,) = (
        one for one in of_kind(rendered("prod"), "Service") if one["metadata"]["name"] == "rabbitmq-headless"
    )
    assert headless["spec"]["clusterIP"] == "None"


def _foundation_with_all() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOUNDATION / "values-all.yaml").read_text("utf-8"))
    return found
