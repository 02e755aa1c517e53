"""Rules for pods: what they may, what they are given, how they stop."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from deploy.helm.facts import CALLS, secret_names
from kit.settings import CLIENT_VARIABLES, PREFIX
from tests.deploy.helm.objects import (
    label,
    mounted_secrets,
    of_kind,
    pods,
    replicas_max,
    selects,
    variables,
)
from tests.deploy.helm.rendered import Document
from tests.deploy.helm.rules import rule
from voltstream.runtime.children import STOP_S_MAX
from voltstream.services import service
from voltstream.settings import settings_type

_LOGIN: Final = re.compile(r"[a-z]+://[^/\s:@]*:[^/\s@]+@")


@rule
def every_container_has_requests_and_limits(documents: Sequence[Document]) -> Iterator[str]:
    for pod in pods(documents):
        resources = pod.container.get("resources", {})
        for part in ("requests", "limits"):
            for what in ("cpu", "memory"):
                if not resources.get(part, {}).get(what):
                    yield f"{pod.name}: no {part} of {what}"


@rule
def every_image_has_a_version(documents: Sequence[Document]) -> Iterator[str]:
    for pod in pods(documents):
        image = str(pod.container["image"])
        tag = image.rpartition("/")[2].partition(":")[2]
        if "@sha256:" not in image and (not tag or tag == "latest"):
            yield f"{pod.name}: {image}"


@rule
def every_pod_is_confined(documents: Sequence[Document]) -> Iterator[str]:
    for pod in pods(documents):
        security, container = pod.spec.get("securityContext", {}), pod.container.get("securityContext", {})
        wanted = {
            "non-root": security.get("runAsNonRoot") is True and security.get("runAsUser", 0) > 0,
            "seccomp": security.get("seccompProfile", {}).get("type") == "RuntimeDefault",
            "read-only": container.get("readOnlyRootFilesystem") is True,
            "no escalation": container.get("allowPrivilegeEscalation") is False and not container.get("privileged"),
            "no capabilities": container.get("capabilities", {}).get("drop") == ["ALL"]
            and not container["capabilities"].get("add"),
            "no token": pod.spec.get("automountServiceAccountToken") is False,
            "no variables of Services": pod.spec.get("enableServiceLinks") is False,
            "own account": pod.spec.get("serviceAccountName") not in (None, "default"),
            "not the host's": not any(pod.spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")),
        }
        yield from (f"{pod.name}: {what}" for what, holds in wanted.items() if not holds)


@rule
def every_account_is_there_and_has_no_token(documents: Sequence[Document]) -> Iterator[str]:
    accounts = {
        (one["metadata"]["namespace"], one["metadata"]["name"]): one for one in of_kind(documents, "ServiceAccount")
    }
    for pod in pods(documents):
        account = accounts.get((pod.namespace, pod.spec["serviceAccountName"]))
        if account is None or account.get("automountServiceAccountToken") is not False:
            yield pod.name


@rule
def what_runs_more_than_once_is_spread_and_has_a_budget(documents: Sequence[Document]) -> Iterator[str]:
    for pod in (pod for pod in pods(documents) if replicas_max(documents, pod) > 1):
        budgets = [
            one
            for one in of_kind(documents, "PodDisruptionBudget")
            if one["metadata"]["namespace"] == pod.namespace and selects(one["spec"]["selector"], pod.labels)
        ]
        if len(budgets) != 1:
            yield f"{pod.name}: {len(budgets)} budgets"
        spread = pod.spec.get("topologySpreadConstraints", [])
        by = {one["topologyKey"] for one in spread if selects(one["labelSelector"], pod.labels)}
        if by != {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}:
            yield f"{pod.name}: spread by {sorted(by)}"


@rule
def deployments_are_replaced_one_by_one(documents: Sequence[Document]) -> Iterator[str]:
    for one in of_kind(documents, "Deployment"):
        strategy = one["spec"].get("strategy", {})
        if strategy.get("rollingUpdate") != {"maxUnavailable": 1, "maxSurge": 1}:
            yield label(one)


@rule
def every_service_is_probed(documents: Sequence[Document]) -> Iterator[str]:
    paths = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/ready"}
    for pod in (pod for pod in pods(documents) if pod.serves):
        for probe, path in paths.items():
            found = pod.container.get(probe, {}).get("httpGet", {})
            if found.get("path") != path or found.get("port") not in {port["name"] for port in pod.ports}:
                yield f"{pod.name}: {probe}"


@rule
def every_pod_has_time_to_stop(documents: Sequence[Document]) -> Iterator[str]:
    """To drain, twice if it serves routes, and then what `up` gives a child."""
    for pod in (pod for pod in pods(documents) if pod.serves):
        drain_s = float(variables(pod).get(f"{PREFIX}DRAIN_S", "0"))
        has_routes = any(service(name).router is not None for name in pod.container["args"][1:])
        if has_routes and not drain_s:
            yield f"{pod.name}: requests fail while it stops"
        if pod.spec.get("terminationGracePeriodSeconds", 30) < 2 * drain_s + STOP_S_MAX + 5:
            yield pod.name


@rule
def secrets_are_settings_that_the_pod_names(documents: Sequence[Document]) -> Iterator[str]:
    known = secret_names()
    made = {
        (one["metadata"]["namespace"], one["metadata"]["name"]): set(one["stringData"])
        for one in of_kind(documents, "Secret")
    }
    for pod in pods(documents):
        mounted = mounted_secrets(pod)
        named = {
            one["name"].removeprefix(PREFIX).removesuffix("_FILE").lower()
            for one in pod.container.get("env", [])
            if one["name"].endswith("_FILE") and one.get("value", "").startswith("/etc/voltstream/secrets/")
        }
        yield from (f"{pod.name}: {key} is no secret" for key in mounted - known)
        if named != mounted:
            yield f"{pod.name}: mounts {sorted(mounted)}, names {sorted(named)}"
        volume = next((one["secret"] for one in pod.spec["volumes"] if one["name"] == "secrets"), None)
        if volume is None:
            continue
        if volume["defaultMode"] != 0o400:
            yield f"{pod.name}: others read its secrets"
        keys = made.get((pod.namespace, volume["secretName"]), mounted)
        yield from (f"{pod.name}: {key} is in no Secret" for key in mounted - keys)


@rule
def variables_are_settings(documents: Sequence[Document]) -> Iterator[str]:
    fields = settings_type().model_fields
    known = {f"{PREFIX}{name.upper()}" for name in fields} | set(CLIENT_VARIABLES)
    known |= {f"{PREFIX}{name.upper()}_FILE" for name in secret_names()}
    for pod in pods(documents):
        names = [one["name"] for one in pod.container.get("env", [])]
        yield from (f"{pod.name}: {name}" for name in names if name not in known)
        yield from (f"{pod.name}: {name} twice" for name in set(names) if names.count(name) > 1)


@rule
def no_secret_stands_in_the_open(documents: Sequence[Document]) -> Iterator[str]:
    """In ConfigMaps, variables, arguments and annotations."""
    secret = {f"{PREFIX}{name.upper()}" for name in secret_names()}
    open_variables = {f"{PREFIX}{call.setting.upper()}" for call in CALLS.values()} | {f"{PREFIX}KAFKA_URL"}
    for one in documents:
        if one["kind"] == "ConfigMap":
            yield from (f"{label(one)}: {key}" for key in one["data"] if key in secret_names())
        if one["kind"] != "Secret" and _LOGIN.search(str(one)):
            yield f"{label(one)}: a login"
    for pod in pods(documents):
        for variable in pod.container.get("env", []):
            if variable["name"] in secret - open_variables and "value" in variable:
                yield f"{pod.name}: {variable['name']}"
