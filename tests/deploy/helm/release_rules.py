"""Rules for the release as a whole: names, selectors, quotas, migrations."""

from collections.abc import Iterator, Sequence
from typing import Final

from kit.settings import PREFIX
from tests.deploy.helm.objects import Pod, label, namespaced, of_kind, pods, replicas_max, selected, selects, variables
from tests.deploy.helm.rendered import Document
from tests.deploy.helm.rules import rule

_CLUSTER_WIDE: Final = ("Namespace",)


@rule
def selectors_find_what_they_are_for(documents: Sequence[Document]) -> Iterator[str]:
    for one in of_kind(documents, "Deployment", "StatefulSet"):
        if not selects(one["spec"]["selector"], one["spec"]["template"]["metadata"]["labels"]):
            yield label(one)
        if len(selected(documents, one["metadata"]["namespace"], one["spec"]["selector"])) != 1:
            yield f"{label(one)}: selects pods of another"
    for one in of_kind(documents, "Service", "PodDisruptionBudget"):
        selector = {"matchLabels": one["spec"]["selector"]} if one["kind"] == "Service" else one["spec"]["selector"]
        if "voltstream/server" in selector["matchLabels"]:
            continue
        if len(selected(documents, one["metadata"]["namespace"], selector)) != 1:
            yield label(one)
    there = {(one["kind"], one["metadata"]["namespace"], one["metadata"]["name"]) for one in namespaced(documents)}
    for one in of_kind(documents, "HorizontalPodAutoscaler"):
        target = one["spec"]["scaleTargetRef"]
        if (target["kind"], one["metadata"]["namespace"], target["name"]) not in there:
            yield label(one)
    for one in of_kind(documents, "StatefulSet"):
        if ("Service", one["metadata"]["namespace"], one["spec"]["serviceName"]) not in there:
            yield label(one)
    for one in of_kind(documents, "Ingress"):
        for path in (path for host in one["spec"]["rules"] for path in host["http"]["paths"]):
            if ("Service", one["metadata"]["namespace"], path["backend"]["service"]["name"]) not in there:
                yield f"{label(one)}: {path['path']}"


@rule
def names_are_unique_and_in_a_namespace_of_ours(documents: Sequence[Document]) -> Iterator[str]:
    namespaces = {one["metadata"]["name"] for one in of_kind(documents, "Namespace")}
    seen = set()
    for one in documents:
        if label(one) in seen:
            yield f"{label(one)} twice"
        seen.add(label(one))
        if one["kind"] not in _CLUSTER_WIDE and one["metadata"].get("namespace") not in namespaces:
            yield f"{label(one)}: its namespace is not there"


@rule
def what_the_migrations_need_is_there_before_them(documents: Sequence[Document]) -> Iterator[str]:
    weights = {
        label(one): int(one["metadata"]["annotations"].get("helm.sh/hook-weight", "0"))
        for one in namespaced(documents)
        if "pre-install,pre-upgrade" in str(one["metadata"].get("annotations", {}).get("helm.sh/hook"))
    }
    jobs = of_kind(documents, "Job")
    yield from (f"{label(one)} is no hook" for one in jobs if label(one) not in weights)
    for one in namespaced(documents):
        own = one["metadata"]["name"] in ("migrations", "voltstream-migrations") and one["kind"] != "Job"
        if own and weights.get(label(one), 0) >= 0:
            yield label(one)


@rule
def the_next_pod_is_stopped_once_the_one_before_is_known(documents: Sequence[Document]) -> Iterator[str]:
    """Proxies find out about both by looking: of the one that stops within its drain, of the new one as fast."""
    for pod in pods(documents):
        drain_s = float(variables(pod).get("VOLTSTREAM_DRAIN_S") or 0)
        if pod.workload["kind"] == "Deployment" and pod.workload["spec"].get("minReadySeconds", 0) < drain_s:
            yield label(pod.workload)


@rule
def a_quota_has_room_for_all_replicas(documents: Sequence[Document]) -> Iterator[str]:
    """For as many as autoscaling makes, and one more of each Deployment while it is replaced."""
    for quota in of_kind(documents, "ResourceQuota"):
        own = [pod for pod in pods(documents) if pod.namespace == quota["metadata"]["namespace"]]
        hard = quota["spec"]["hard"]
        for name, bound in hard.items():
            used = sum(_most(documents, pod) * _quantity_of(pod, name) for pod in own)
            if used > amount(str(bound)):
                yield f"{label(quota)}: {name} {bound}, used {used:g}"


@rule
def workers_are_no_more_than_partitions(documents: Sequence[Document]) -> Iterator[str]:
    found = {pod.name: variables(pod).get(f"{PREFIX}PARTITIONS") for pod in pods(documents) if pod.name != "simulator"}
    if len(set(found.values())) > 1 or None in found.values():
        yield f"partitions differ: {found}"
    for pod in pods(documents):
        if pod.workload["kind"] == "StatefulSet" and replicas_max(documents, pod) > int(found[pod.name] or 0):
            yield f"{pod.name}: more than {found[pod.name]}"


def amount(quantity: str) -> float:
    """Of Kubernetes: 100m, 256Mi, 2."""
    units = {"m": 1e-3, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
    for unit, factor in units.items():
        if quantity.endswith(unit):
            return float(quantity.removesuffix(unit)) * factor
    return float(quantity)


def _most(documents: Sequence[Document], pod: Pod) -> int:
    return replicas_max(documents, pod) + int(pod.workload["kind"] == "Deployment")


def _quantity_of(pod: Pod, name: str) -> float:
    if name == "pods":
        return 1.0
    part, _, what = name.partition(".")
    return amount(str(pod.container["resources"][part][what]))
