"""What a running platform shows at /metrics, against what the code declares."""

from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from voltstream.metrics_catalogue import declared_metrics

# Of the bridge and of the simulated fleet, which are not in every run; of a command.
_ELSEWHERE: Final = ("bridge_", "simulated_", "billing_reconcile_")
_OF_PROMETHEUS_CLIENT: Final = ("process_", "python_")


def check_shown(text: str) -> None:
    """Of an embedded run: every metric that is declared is shown, with its type and labels, and no other."""
    families = [
        family
        for family in text_string_to_metric_families(text)
        if not family.name.startswith((*_OF_PROMETHEUS_CLIENT, *_ELSEWHERE)) and not family.name.endswith("_created")
    ]
    declared = {one.name: one for one in declared_metrics() if not one.name.startswith(_ELSEWHERE)}
    assert {family.name for family in families} == declared.keys()
    for family in families:
        assert (family.name, family.type) == (family.name, declared[family.name].type)
        labels = {label for sample in family.samples for label in sample.labels}
        assert (family.name, labels - {*declared[family.name].labels, "le"}) == (family.name, set())
