"""Questions to rendered documents of Kubernetes: which pods there are, what selects them, what they may reach."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from tests.deploy.helm.rendered import Document

WORKLOADS: Final = ("Deployment", "StatefulSet", "Job", "CronJob")
NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"


class Pod(NamedTuple):
    """The template of a workload's pods."""

    workload: Document
    namespace: str
    labels: Mapping[str, str]
    spec: Mapping[str, Any]

    @property
    def name(self) -> str:
        """As its workload."""
        return str(self.workload["metadata"]["name"])

    @property
    def container(self) -> Mapping[str, Any]:
        """The one that it has."""
        (found,) = self.spec["containers"]
        return dict(found)

    @property
    def ports(self) -> list[Mapping[str, Any]]:
        """Of its container."""
        return list(self.container.get("ports", []))

    @property
    def serves(self) -> bool:
        """Whether it runs until it is stopped."""
        return self.workload["kind"] in ("Deployment", "StatefulSet")


class Arrow(NamedTuple):
    """Who may open connections to what, and by which port."""

    source: str
    target: str  # a workload, or `server:NAME`
    port: int


def label(document: Document) -> str:
    """`Deployment core-services/billing`."""
    metadata = document["metadata"]
    return f"{document['kind']} {metadata.get('namespace', '-')}/{metadata['name']}"


def of_kind(documents: Iterable[Document], *kinds: str) -> list[Document]:
    """Those of these kinds."""
    return [one for one in documents if one["kind"] in kinds]


def pods(documents: Iterable[Document]) -> list[Pod]:
    """Of all workloads."""
    found = []
    for one in of_kind(documents, *WORKLOADS):
        spec = one["spec"]["jobTemplate"]["spec"] if one["kind"] == "CronJob" else one["spec"]
        template = spec["template"]
        found.append(Pod(one, one["metadata"]["namespace"], template["metadata"]["labels"], template["spec"]))
    return found


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches; an empty one matches all."""
    equal = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    among = [labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", [])]
    return equal and all(among)


def selected(documents: Sequence[Document], namespace: str, selector: Mapping[str, Any]) -> list[Pod]:
    """The pods in this namespace that a selector matches."""
    return [pod for pod in pods(documents) if pod.namespace == namespace and selects(selector, pod.labels)]


def peer_matches(peer: Mapping[str, Any], namespace: str, labels: Mapping[str, str], own: str) -> bool:
    """Whether a peer of a policy in the namespace `own` is a pod of this namespace with these labels."""
    if "ipBlock" in peer:
        return False
    in_namespace = (
        selects(peer["namespaceSelector"], {NAMESPACE_NAME: namespace})
        if "namespaceSelector" in peer
        else namespace == own
    )
    return in_namespace and selects(peer.get("podSelector", {}), labels)


def policies_of(documents: Sequence[Document], namespace: str, labels: Mapping[str, str]) -> list[Document]:
    """The policies that select such pods."""
    return [
        one
        for one in of_kind(documents, "NetworkPolicy")
        if one["metadata"]["namespace"] == namespace and selects(one["spec"]["podSelector"], labels)
    ]


class Node(NamedTuple):
    """One end of an arrow: a workload's pods, or a server's."""

    name: str
    namespace: str
    labels: Mapping[str, str]


def nodes(documents: Sequence[Document]) -> list[Node]:
    """All that the charts know by labels: their workloads, and servers by their operators."""
    workloads = [Node(pod.name, pod.namespace, pod.labels) for pod in pods(documents)]
    servers = [
        Node(f"server:{labels['voltstream/server']}", one["metadata"]["namespace"], labels)
        for one in of_kind(documents, "NetworkPolicy")
        if "voltstream/server" in (labels := one["spec"]["podSelector"].get("matchLabels", {}))
    ]
    controllers = [
        Node("ingress", one["metadata"]["namespace"], one["spec"]["podSelector"]["matchLabels"])
        for one in of_kind(documents, "NetworkPolicy")
        if one["metadata"]["name"] == "ingress-controller"
    ]
    return [*workloads, *servers, *controllers]


def arrows(documents: Sequence[Document], direction: str) -> set[Arrow]:
    """What policies allow between nodes, seen by the one end (`egress`) or the other (`ingress`)."""
    return set(_arrows(documents, direction))


def _arrows(documents: Sequence[Document], direction: str) -> Iterator[Arrow]:
    everyone = nodes(documents)
    peers_key = "to" if direction == "egress" else "from"
    for own in everyone:
        for policy in policies_of(documents, own.namespace, own.labels):
            for rule in policy["spec"].get(direction, []):
                reached = [
                    other
                    for other in everyone
                    for peer in rule.get(peers_key, [])
                    if peer_matches(peer, other.namespace, other.labels, own.namespace)
                ]
                for other in reached:
                    source, target = (own, other) if direction == "egress" else (other, own)
                    for port in rule.get("ports", []):
                        yield Arrow(source.name, target.name, port["port"])


def replicas_max(documents: Sequence[Document], pod: Pod) -> int:
    """How many there are at most, but while they are replaced."""
    scaled = [
        int(one["spec"]["maxReplicas"])
        for one in of_kind(documents, "HorizontalPodAutoscaler")
        if (one["metadata"]["namespace"], one["spec"]["scaleTargetRef"]["name"]) == (pod.namespace, pod.name)
    ]
    return max([int(pod.workload["spec"].get("replicas", 1)), *scaled]) if pod.serves else 1


def variables(pod: Pod) -> dict[str, Any]:
    """Name -> value of its container's variables; None: from a Secret."""
    return {one["name"]: one.get("value") for one in pod.container.get("env", [])}


def mounted_secrets(pod: Pod) -> set[str]:
    """Names of the settings whose secrets it mounts."""
    volumes = [one["secret"] for one in pod.spec["volumes"] if one["name"] == "secrets"]
    return {item["path"] for volume in volumes for item in volume["items"]}


def namespaced(documents: Sequence[Document]) -> list[Document]:
    """Those that are in a namespace."""
    return [one for one in documents if "namespace" in one["metadata"]]


def destination(path: str, ingresses: Iterable[Document]) -> str:
    """The service to which these Ingresses of one host lead a request: an exact path beats a prefix, a longer prefix a
    shorter one. Empty: none."""
    found = []
    for one in (path for it in ingresses for rule in it["spec"]["rules"] for path in rule["http"]["paths"]):
        exact = one["pathType"] == "Exact"
        if path == one["path"] or (not exact and path.startswith(f"{one['path']}/")):
            found.append((exact, len(one["path"]), str(one["backend"]["service"]["name"])))
    return max(found, default=(False, 0, ""))[2]
