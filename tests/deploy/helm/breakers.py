"""What breaks each rule: changes to rendered documents, of which the rule has to find every one."""

from collections.abc import Callable
from typing import Any, Final

from tests.deploy.helm.objects import of_kind, pods
from tests.deploy.helm.rendered import Document

Breaker = Callable[[list[Document]], object]


def _workload(documents: list[Document], name: str) -> Document:
    (found,) = (pod.workload for pod in pods(documents) if pod.name == name)
    return found


def _pod(documents: list[Document], name: str = "billing") -> Any:
    return _workload(documents, name)["spec"]["template"]["spec"]


def _container(documents: list[Document], name: str = "billing") -> Any:
    return _pod(documents, name)["containers"][0]


def _object(documents: list[Document], kind: str, name: str) -> Any:
    return next(one for one in of_kind(documents, kind) if one["metadata"]["name"] == name)


def _without(documents: list[Document], kind: str, name: str) -> None:
    documents.remove(_object(documents, kind, name))


def _env(documents: list[Document], name: str, value: str) -> None:
    _container(documents)["env"].append({"name": name, "value": value})


def _secrets(documents: list[Document]) -> Any:
    return next(one["secret"] for one in _pod(documents)["volumes"] if one["name"] == "secrets")


def _rules(documents: list[Document], name: str, direction: str) -> list[Any]:
    found: list[Any] = _object(documents, "NetworkPolicy", name)["spec"][direction]
    return found


def _to_redis(documents: list[Document], name: str) -> Any:
    return next(one for one in _rules(documents, name, "egress") if one["ports"][0]["port"] == 6379)


BREAKERS: Final[dict[str, tuple[Breaker, ...]]] = {
    "every_container_has_requests_and_limits": (
        lambda all_: _container(all_).pop("resources"),
        lambda all_: _container(all_)["resources"]["limits"].pop("memory"),
    ),
    "every_image_has_a_version": (
        lambda all_: _container(all_).update(image="voltstream:latest"),
        lambda all_: _container(all_).update(image="registry:5000/voltstream"),
    ),
    "every_port_has_a_service_and_a_policy": (
        lambda all_: _without(all_, "Service", "billing"),
        lambda all_: _container(all_)["ports"].append({"name": "debug", "containerPort": 5678}),
        lambda all_: (
            [rule["ports"][0].update(port=9) for rule in _rules(all_, "billing", "ingress")]
            + [rule["ports"][0].update(port=9) for rule in _rules(all_, "billing-from-notifications", "ingress")]
        ),
    ),
    "every_namespace_denies_what_no_policy_allows": (
        lambda all_: _without(all_, "NetworkPolicy", "deny-all"),
        lambda all_: _object(all_, "NetworkPolicy", "deny-all")["spec"].update(ingress=[{}]),
        lambda all_: _without(all_, "NetworkPolicy", "relay"),
    ),
    "every_pod_is_confined": (
        lambda all_: _pod(all_)["securityContext"].update(runAsUser=0),
        lambda all_: _pod(all_)["securityContext"].pop("seccompProfile"),
        lambda all_: _container(all_)["securityContext"].update(readOnlyRootFilesystem=False),
        lambda all_: _container(all_)["securityContext"].update(privileged=True),
        lambda all_: _container(all_)["securityContext"]["capabilities"].update(add=["NET_RAW"]),
        lambda all_: _pod(all_).pop("automountServiceAccountToken"),
        lambda all_: _pod(all_).pop("enableServiceLinks"),
        lambda all_: _pod(all_).update(serviceAccountName="default"),
        lambda all_: _pod(all_).update(hostNetwork=True),
    ),
    "every_account_is_there_and_has_no_token": (
        lambda all_: _without(all_, "ServiceAccount", "billing"),
        lambda all_: _object(all_, "ServiceAccount", "billing").pop("automountServiceAccountToken"),
    ),
    "what_runs_more_than_once_is_spread_and_has_a_budget": (
        lambda all_: _without(all_, "PodDisruptionBudget", "relay"),
        lambda all_: _pod(all_, "worker")["topologySpreadConstraints"].pop(),
        lambda all_: _pod(all_)["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"].update(
            {"app.kubernetes.io/name": "other"}
        ),
    ),
    "deployments_are_replaced_one_by_one": (
        lambda all_: _workload(all_, "billing")["spec"].pop("strategy"),
        lambda all_: _workload(all_, "billing")["spec"]["strategy"]["rollingUpdate"].update(maxUnavailable="25%"),
    ),
    "every_service_is_probed": (
        lambda all_: _container(all_).pop("startupProbe"),
        lambda all_: _container(all_)["livenessProbe"]["httpGet"].update(path="/ready"),
        lambda all_: _container(all_)["readinessProbe"]["httpGet"].update(port="metrics"),
    ),
    "every_pod_has_time_to_stop": (
        lambda all_: _pod(all_).update(terminationGracePeriodSeconds=40),
        lambda all_: [one.update(value="0") for one in _container(all_)["env"] if one["name"] == "VOLTSTREAM_DRAIN_S"],
        lambda all_: [one.update(value="60") for one in _container(all_)["env"] if one["name"] == "VOLTSTREAM_DRAIN_S"],
    ),
    "secrets_are_settings_that_the_pod_names": (
        lambda all_: _secrets(all_)["items"].append({"key": "password", "path": "password"}),
        lambda all_: _secrets(all_)["items"].pop(),
        lambda all_: _secrets(all_).update(defaultMode=0o444),
        lambda all_: _container(all_)["env"].remove(
            next(one for one in _container(all_)["env"] if one["name"] == "VOLTSTREAM_REDIS_URL_FILE")
        ),
        lambda all_: all_.append(
            {
                "kind": "Secret",
                "metadata": {"name": _secrets(all_)["secretName"], "namespace": "core-services"},
                "stringData": {},
            }
        ),
    ),
    "variables_are_settings": (
        lambda all_: _env(all_, "VOLTSTREAM_DATABSE_URL", "x"),
        lambda all_: _env(all_, "VOLTSTREAM_LOG_LEVEL_FILE", "/x"),
        lambda all_: _env(all_, "VOLTSTREAM_DATA_DIR", "/x"),
    ),
    "no_secret_stands_in_the_open": (
        lambda all_: _object(all_, "ConfigMap", "voltstream-adjustables")["data"].update(stripe_key="sk_1"),
        lambda all_: _object(all_, "ConfigMap", "voltstream-adjustables")["data"].update(x="amqp://me:secret@host/"),
        lambda all_: _env(all_, "VOLTSTREAM_STRIPE_KEY", "sk_1"),
        lambda all_: _container(all_)["args"].append("postgresql://me:secret@host/db"),
    ),
    "selectors_find_what_they_are_for": (
        lambda all_: _workload(all_, "billing")["spec"]["selector"]["matchLabels"].update(tier="api"),
        lambda all_: _workload(all_, "billing")["spec"].update(
            selector={"matchLabels": {"app.kubernetes.io/part-of": "voltstream"}}
        ),
        lambda all_: _object(all_, "Service", "billing")["spec"]["selector"].update(tier="api"),
        lambda all_: _object(all_, "PodDisruptionBudget", "billing")["spec"]["selector"]["matchLabels"].update(a="b"),
        lambda all_: _object(all_, "HorizontalPodAutoscaler", "worker")["spec"]["scaleTargetRef"].update(
            kind="Deployment"
        ),
        lambda all_: _without(all_, "Service", "worker"),
        lambda all_: _object(all_, "Ingress", "voltstream")["spec"]["rules"][0]["http"]["paths"][0]["backend"][
            "service"
        ].update(name="nobody"),
    ),
    "every_arrow_has_both_ends": (
        lambda all_: _without(all_, "NetworkPolicy", "billing-from-notifications"),
        lambda all_: _rules(all_, "redis", "ingress").pop(0),
        lambda all_: _rules(all_, "billing", "egress").remove(_to_redis(all_, "billing")),
        lambda all_: _to_redis(all_, "billing")["ports"][0].update(port=6380),
        lambda all_: _workload(all_, "billing")["spec"]["template"]["metadata"]["labels"].pop("voltstream/redis"),
    ),
    "arrows_are_those_of_the_declarations": (
        lambda all_: _rules(all_, "relay", "egress").append(_to_redis(all_, "billing")),
        lambda all_: _rules(all_, "billing", "egress").remove(_to_redis(all_, "billing")),
        lambda all_: _rules(all_, "bridge", "egress").append(
            {
                "to": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "billing"}}}],
                "ports": [{"port": 8080}],
            }
        ),
    ),
    "what_is_outside_is_open_by_port_alone": (
        lambda all_: _rules(all_, "billing", "egress").append({}),
        lambda all_: _rules(all_, "billing", "egress").append({"to": [{"ipBlock": {"cidr": "1.2.3.4/32"}}]}),
        lambda all_: _rules(all_, "billing", "egress").append(
            {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": []}}], "ports": [{"port": 443}]}
        ),
    ),
    "names_are_unique_and_in_a_namespace_of_ours": (
        lambda all_: all_.append(_object(all_, "Service", "billing")),
        lambda all_: _object(all_, "Service", "billing")["metadata"].update(namespace="elsewhere"),
        lambda all_: _object(all_, "Service", "billing")["metadata"].pop("namespace"),
        lambda all_: all_.append({"kind": "ClusterRole", "metadata": {"name": "voltstream"}}),
    ),
    "what_the_migrations_need_is_there_before_them": (
        lambda all_: _object(all_, "ServiceAccount", "migrations")["metadata"].pop("annotations"),
        lambda all_: _object(all_, "NetworkPolicy", "migrations")["metadata"]["annotations"].update(
            {"helm.sh/hook-weight": "5"}
        ),
        lambda all_: _object(all_, "Job", "migrations")["metadata"].pop("annotations"),
    ),
    "the_next_pod_is_stopped_once_the_one_before_is_known": (
        lambda all_: _workload(all_, "billing")["spec"].pop("minReadySeconds"),
        lambda all_: _workload(all_, "billing")["spec"].update(minReadySeconds=9),
    ),
    "a_quota_has_room_for_all_replicas": (
        lambda all_: _object(all_, "HorizontalPodAutoscaler", "worker")["spec"].update(maxReplicas=500),
        lambda all_: _container(all_)["resources"]["requests"].update(memory="1Ti"),
    ),
    "workers_are_no_more_than_partitions": (
        lambda all_: _object(all_, "HorizontalPodAutoscaler", "worker")["spec"].update(maxReplicas=17),
        lambda all_: [
            one.update(value="3") for one in _container(all_)["env"] if one["name"] == "VOLTSTREAM_PARTITIONS"
        ],
    ),
}
