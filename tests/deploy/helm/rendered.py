"""The charts of deploy/helm as Kubernetes would get them."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

HELM: Final = Path(__file__).parents[3] / "deploy" / "helm"
UMBRELLA, FOUNDATION = HELM / "voltstream", HELM / "foundation"

Document = dict[str, Any]

# Everything that is optional and off by default.
_ALL: Final[Mapping[str, Any]] = {
    "global": {
        "adjustables": {"billing.paused": True, "telemetry.raw_retention": 365},
        "monitoring": {"enabled": True, "labels": {"release": "prometheus"}},
        "imagePullSecrets": [{"name": "registry"}],
        "image": {"digest": f"sha256:{'0' * 64}"},
        "settings": {"jwt_discovery": True, "jwt_issuer": "https://id.example", "jwt_audience": "voltstream"},
        "ingress": {"webSockets": [{"path": "/ocpp", "service": "gateway"}], "clientCertificates": "chargers"},
    },
    "simulator": {"enabled": True},
    "billing": {"secrets": {"optional": ["stripe_key", "stripe_webhook_secret"], "existing": "billing-by-vault"}},
    "reporting": {"secrets": {"optional": ["mongodb_url"]}},
    "notifications": {
        "secrets": {"optional": ["billing_token", "smtp_password", "otlp_endpoint"]},
        "settings": {"smtp_host": "mail.example", "smtp_port": 465, "mail_from": "voltstream@mail.example"},
    },
    "worker": {"secrets": {"optional": ["lake_url"]}, "settings": {"flush_readings_max": 1_000_000}},
}
# What each environment is rendered of: files of values, and values beside them.
ENVIRONMENTS: Final[Mapping[str, tuple[tuple[str, ...], Mapping[str, Any]]]] = {
    "dev": (("values-dev.yaml",), {}),
    "staging": (("values-staging.yaml",), {}),
    "prod": (("values-prod.yaml",), {}),
    "everything": (("values-prod.yaml",), _ALL),
}


def values_of(environment: str) -> dict[str, Any]:
    """What is given to Helm for this environment, beside the charts' own values."""
    files, beside = ENVIRONMENTS[environment]
    documents = [yaml.safe_load((UMBRELLA / name).read_text("utf-8")) for name in files]
    values: dict[str, Any] = {}
    for one in (*documents, beside):
        values = merged(values, one)
    return values


@cache
def rendered(environment: str) -> tuple[Document, ...]:
    """Both charts' documents: the platform of this environment, and what it stands on."""
    everything = yaml.safe_load((FOUNDATION / "values-all.yaml").read_text("utf-8"))
    return (*render(UMBRELLA, values_of(environment)), *render(FOUNDATION, everything))


def render(chart: Path, values: Mapping[str, Any]) -> list[Document]:
    """The documents of one chart. Raises helm_python's HelmError."""
    import helm_python  # only `make check-deploy` installs it

    with helm_python.Chart.load(chart) as loaded:
        texts = loaded.render(dict(values), name=chart.name, namespace="core-services", is_install=True)
    return [document for text in texts.values() for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """As Helm puts one file of values above another."""
    found = dict(below)
    for key, value in above.items():
        under = found.get(key)
        found[key] = merged(under, value) if isinstance(under, dict) and isinstance(value, Mapping) else value
    return found
