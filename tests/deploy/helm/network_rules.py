"""Rules for the network: every port, every arrow, and nothing else."""

from collections.abc import Iterator, Sequence

from deploy.helm.facts import CALLS, secrets_needed
from tests.deploy.helm.objects import (
    arrows,
    mounted_secrets,
    nodes,
    of_kind,
    pods,
    policies_of,
    selects,
)
from tests.deploy.helm.rendered import Document
from tests.deploy.helm.rules import rule
from voltstream.services import all_services


@rule
def every_port_has_a_service_and_a_policy(documents: Sequence[Document]) -> Iterator[str]:
    services = of_kind(documents, "Service")
    for pod in pods(documents):
        for port in pod.ports:
            of_pod = [
                target
                for one in services
                if one["metadata"]["namespace"] == pod.namespace
                and selects({"matchLabels": one["spec"]["selector"]}, pod.labels)
                for target in one["spec"]["ports"]
            ]
            if not any(target["targetPort"] in (port["name"], port["containerPort"]) for target in of_pod):
                yield f"{pod.name}: no Service for {port['containerPort']}"
            opened = {
                one["port"]
                for policy in policies_of(documents, pod.namespace, pod.labels)
                for allowed in policy["spec"].get("ingress", [])
                for one in allowed.get("ports", [])
            }
            if port["containerPort"] not in opened:
                yield f"{pod.name}: no policy opens {port['containerPort']}"


@rule
def every_namespace_denies_what_no_policy_allows(documents: Sequence[Document]) -> Iterator[str]:
    denying = {
        one["metadata"]["namespace"]
        for one in of_kind(documents, "NetworkPolicy")
        if one["spec"]["podSelector"] == {}
        and set(one["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        and not one["spec"].get("ingress")
        and not one["spec"].get("egress")
    }
    yield from sorted({pod.namespace for pod in pods(documents)} - denying)
    for pod in pods(documents):
        if not [one for one in policies_of(documents, pod.namespace, pod.labels) if one["spec"]["podSelector"]]:
            yield f"{pod.name}: no policy of its own"


@rule
def every_arrow_has_both_ends(documents: Sequence[Document]) -> Iterator[str]:
    outgoing, incoming = arrows(documents, "egress"), arrows(documents, "ingress")
    # The controller's policy names ports, not services: it may reach none but those whose own policies agree.
    yield from (f"{one} is not let in" for one in sorted(outgoing - incoming) if one.source != "ingress")
    yield from (f"{one} is not let out" for one in sorted(incoming - outgoing) if one.source != one.target)


@rule
def arrows_are_those_of_the_declarations(documents: Sequence[Document]) -> Iterator[str]:
    servers = {node.name for node in nodes(documents) if node.name.startswith("server:")}
    there = {pod.name: pod for pod in pods(documents)}
    declared = {("migrations", "server:database")} if "migrations" in there else set()
    declared |= {("simulator", "gateway")} if "simulator" in there else set()
    for one in (one for one in all_services() if one.name in there):
        declared |= {(one.name, f"server:{name.removesuffix('_url')}") for name in secrets_needed(one)}
        call = CALLS.get(one.name)
        if call is not None and call.token in mounted_secrets(there[one.name]):
            declared.add((one.name, call.service))
    found = {(one.source, one.target) for one in arrows(documents, "egress") if one.source in there}
    declared = {(source, target) for source, target in declared if target in servers | there.keys()}
    yield from (f"{one} is allowed" for one in sorted(found - declared))
    yield from (f"{one} is missing" for one in sorted(declared - found))


@rule
def what_is_outside_is_open_by_port_alone(documents: Sequence[Document]) -> Iterator[str]:
    """Never to addresses of the cluster, and never to any port."""
    for pod in pods(documents):
        for policy in policies_of(documents, pod.namespace, pod.labels):
            for allowed in policy["spec"].get("egress", []):
                blocks = [peer["ipBlock"] for peer in allowed.get("to", []) if "ipBlock" in peer]
                if not allowed.get("ports") or not allowed.get("to"):
                    yield f"{pod.name}: anything"
                if any(block["cidr"] == "0.0.0.0/0" and "10.0.0.0/8" not in block["except"] for block in blocks):
                    yield f"{pod.name}: private addresses"
