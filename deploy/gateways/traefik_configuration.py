"""Configuration of a site for Traefik 3.7: traefik.yml, which it is started with, and dynamic.yml, which it watches."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from deploy.gateways.routing import Routing
from deploy.gateways.site import CERTIFICATE_HEADERS, CONNECT_S, HEAD_S, IDLE_S, READ_S, Site

_MADE: Final = "# Made by `python -m deploy.gateways`: do not edit.\n"
_BODY_S: Final = 120  # for the whole request: 8 MiB at 70 kB/s
_ENCODED: Final = ("Hash", "Percent", "QuestionMark", "Semicolon")  # ids may have them; services refuse %2F themselves
_LOGGED: Final = ("X-Correlation-Id", "Traceparent")


def traefik_configuration(site: Site, routings: Sequence[Routing], folder: str) -> dict[str, str]:
    """File name -> text. `folder`: where Traefik finds dynamic.yml."""
    return {
        "traefik.yml": _text(_static(site, folder)),
        "dynamic.yml": _text(_dynamic(site, routings)),
    }


class _Dumper(yaml.SafeDumper):
    """What is in several places is written in each."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(document: Mapping[str, Any]) -> str:
    return _MADE + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120)


def _static(site: Site, folder: str) -> dict[str, Any]:
    return {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"format": "json", "level": "INFO"},
        "accessLog": {
            "format": "json",
            "fields": {
                "headers": {"defaultMode": "drop", "names": dict.fromkeys(_LOGGED, "keep")},
                "queryParameters": {"defaultMode": "drop"},
            },
        },
        "entryPoints": {
            "https": {
                "address": site.listen,
                "forwardedHeaders": {"trustedIPs": list(site.balancers)},
                "transport": {
                    "respondingTimeouts": {"readTimeout": f"{_BODY_S}s", "idleTimeout": f"{IDLE_S}s"},
                    "lifeCycle": {"graceTimeOut": f"{HEAD_S}s"},
                },
                "http": {
                    "tls": {},
                    "maxHeaderBytes": 65_536,
                    "encodedCharacters": {f"allowEncoded{name}": True for name in _ENCODED},
                },
            }
        },
        "providers": {"file": {"filename": f"{folder}/dynamic.yml", "watch": True}},
    }


def _dynamic(site: Site, routings: Sequence[Routing]) -> dict[str, Any]:
    routers: dict[str, Any] = {}
    for one in routings:
        retry = "retry-repeatable" if one.repeatable else "retry"
        if one.exact:
            rule = " || ".join(f"Path(`{path}`)" for path in one.exact)
            routers[f"{one.service}-exact"] = _router(rule, 100, one.service, retry)
        if one.prefixes:
            rule = " || ".join(f"Path(`{path}`) || PathPrefix(`{path}/`)" for path in one.prefixes)
            routers[one.service] = _router(rule, 10, one.service, retry)
    services = {one.service: _service(site.servers_of(one.service)) for one in routings}
    if site.ocpp:
        routers["ocpp"] = _router("PathPrefix(`/ocpp/`)", 10, "ocpp", "retry")
        services["ocpp"] = _service(site.ocpp, checked=False)
    longest = max(one.body_bytes_max for one in routings if one.repeatable)
    return {
        "http": {
            "routers": routers,
            "middlewares": _middlewares(site, longest),
            "services": services,
            "serversTransports": {
                "services": {
                    "maxIdleConnsPerHost": 64,
                    "forwardingTimeouts": {
                        "dialTimeout": f"{CONNECT_S}s",
                        "responseHeaderTimeout": f"{READ_S}s",
                        "idleConnTimeout": f"{site.upstream_idle_s}s",
                    },
                }
            },
        },
        "tls": {
            "stores": {"default": {"defaultCertificate": {"certFile": site.certificate, "keyFile": site.key}}},
            "options": {"default": {"minVersion": "VersionTLS12"}},
        },
    }


def _router(rule: str, priority: int, service: str, retry: str) -> dict[str, Any]:
    return {
        "entryPoints": ["https"],
        "rule": rule,
        "priority": priority,
        "service": service,
        "middlewares": ["rate", "at-once", "headers", retry],
    }


def _service(servers: Sequence[str], *, checked: bool = True) -> dict[str, Any]:
    balancer: dict[str, Any] = {
        "servers": [{"url": f"http://{server}"} for server in servers],
        "serversTransport": "services",
        "passHostHeader": True,
    }
    if checked:
        # /ready answers within 2 s whatever hangs behind it. Where none answers in time Traefik has nobody to ask: a
        # machine that is busy for seconds must not fail every request.
        balancer["healthCheck"] = {"path": "/ready", "interval": "1s", "timeout": "15s"}
    return {"loadBalancer": balancer}


def _middlewares(site: Site, repeatable_bytes_max: int) -> dict[str, Any]:
    of_address: dict[str, Any] = {"ipStrategy": {"ipv6Subnet": 64}}
    if site.balancers:
        of_address["ipStrategy"]["excludedIPs"] = list(site.balancers)
    # A request of which nothing was sent goes to another server, whatever its method; one that was sent and got no
    # answer (502) only where it may be taken twice.
    retry = {"attempts": 3, "initialInterval": "50ms", "status": ["502"]}
    return {
        "rate": {
            "rateLimit": {
                "average": site.requests_per_s,
                "period": "1s",
                "burst": site.requests_burst,
                "sourceCriterion": of_address,
            }
        },
        "at-once": {"inFlightReq": {"amount": site.requests_at_once, "sourceCriterion": of_address}},
        "headers": {
            "headers": {
                "stsSeconds": 31_536_000,
                "customRequestHeaders": dict.fromkeys(CERTIFICATE_HEADERS, ""),
            }
        },
        "retry": {"retry": {**retry, "maxRequestBodyBytes": 262_144}},
        "retry-repeatable": {
            "retry": {**retry, "retryNonIdempotentMethod": True, "maxRequestBodyBytes": repeatable_bytes_max}
        },
    }
