"""Any values that an operator may give: services on and off, chosen secrets, replicas, autoscaling, monitoring."""

from typing import Any

from hypothesis import strategies as st

from deploy.helm.facts import all_facts


def any_values() -> st.SearchStrategy[dict[str, Any]]:
    """Values above those of production."""
    charts = {name: _chart(its) for name, its in all_facts().items() if name != "simulator"}
    return st.fixed_dictionaries(
        {
            "global": st.fixed_dictionaries(
                {
                    "monitoring": st.fixed_dictionaries({"enabled": st.booleans()}),
                    "drainSeconds": st.integers(1, 30),
                    "image": st.sampled_from([{"tag": "1.2.3"}, {"digest": f"sha256:{'1' * 64}"}]),
                    "settings": st.sampled_from(
                        [{}, {"jwt_jwks_url": "https://id.example", "jwt_issuer": "i", "jwt_audience": "a"}]
                    ),
                    "namespaces": st.sampled_from([{}, {"of": {"gateway": "core-services", "billing": "auxiliary"}}]),
                }
            ),
            "simulator": st.fixed_dictionaries({"enabled": st.booleans()}),
            **charts,
        }
    )


def _chart(its: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    optional = its["optionalSecrets"]
    chosen = st.lists(st.sampled_from(optional), unique=True) if optional else st.just([])
    parts: dict[str, st.SearchStrategy[Any]] = {
        "enabled": st.booleans(),
        "secrets": st.fixed_dictionaries({"optional": chosen, "existing": st.sampled_from(["", "by-vault"])}),
    }
    if "port" in its:
        parts["replicas"] = st.integers(1, 3)
        parts["autoscaling"] = st.fixed_dictionaries({"enabled": st.booleans(), "max": st.integers(3, 4)})
    return st.fixed_dictionaries(parts)
