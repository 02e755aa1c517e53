"""What the code says of a service that its chart has to know: command, port, servers, secrets, queues, paths."""

from collections.abc import Iterable
from functools import cache
from typing import Any, Final, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from deploy.gateways.routing import routings
from kit.retention import StandardTableSettings
from kit.secrets.files import masked
from kit.service import Service
from kit.settings import PREFIX, Settings
from kit.web.health import HEALTHZ, METRICS, READY
from kit.web.limits.settings import RequestLimitSettings
from voltstream.runtime.children import READY_S_MAX, STOP_S_MAX
from voltstream.services import all_services, follows_config, queue_of, servers_needed, service
from voltstream.settings import settings_type

SERVERS: Final = ("database_url", "rabbitmq_url", "kafka_url", "redis_url", "mongodb_url")
# Settings that the charts set, or that only the embedded run has.
OF_THE_CHART: Final = frozenset(
    {
        "host",
        "hosts",
        "port",
        "data_dir",
        "config_dir",
        "free_space_mb_min",
        "drain_s",
        "client_certificate_header",
        "billing_url",
        "billing_token",
    }
)
_TOKENS: Final = "jwt_"  # settings of those that verify tokens
_DOCUMENTS: Final = "reporting"  # the one service that uses MongoDB, where that is set


class Call(NamedTuple):
    """A service that another asks over HTTP: by which setting it knows the address, and the token for it."""

    service: str
    setting: str
    token: str


class Outside(NamedTuple):
    """What is outside of the platform and reached where a setting is set."""

    port: int
    port_setting: str = ""  # which says another port
    peers: str = "outside"  # whose addresses: of `global` of the charts


CALLS: Final = {"notifications": Call("billing", "billing_url", "billing_token")}
OUTSIDE: Final = {
    "stripe_key": Outside(443),
    "stripe_api_base": Outside(443),
    "smtp_host": Outside(587, "smtp_port"),
    "fcm_account_file": Outside(443),
    "fcm_url": Outside(443),
    "sms_url": Outside(443),
    "webhook_key": Outside(443),
    "chat_urls": Outside(443),
    "lake_url": Outside(443),
    "jwt_jwks_url": Outside(443),
    "jwt_discovery": Outside(443),
    "otlp_endpoint": Outside(4318, peers="tracing"),
}


def facts_of(one: Service[Any]) -> dict[str, Any]:
    """The facts of a service, as the values of its chart have them."""
    fields = fields_of(one)
    needed = secrets_needed(one)
    by_file = sorted(name for name, field in fields.items() if masked(field))
    call = CALLS.get(one.name)
    optional = [name for name in by_file if name not in needed and name not in OF_THE_CHART | set(SERVERS)]
    if one.name == _DOCUMENTS:
        optional.append("mongodb_url")
    if call is not None:
        optional.append(call.token)
    return {
        "summary": one.summary,
        "command": ["serve", one.name],
        "port": port_of(one),
        "probes": {"alive": HEALTHZ, "ready": READY, "metrics": METRICS},
        "startSeconds": round(READY_S_MAX),
        "stopSeconds": round(STOP_S_MAX),
        "schema": one.owned_schema,
        "role": one.role if one.has_database else "",
        "connects": sorted(needed),
        "kafkaAddress": "rabbitmq_url" in needed and "kafka_url" not in needed,
        "ordered": "log_reader" in one.backends,
        "followsConfig": follows_config(one),
        "serves": one.router is not None,
        "paths": _paths_by_service().get(one.name, []),
        "queues": sorted(queue_of(one, consumes) for consumes in one.consumes),
        "calls": [] if call is None else [_call(call)],
        "outside": [{"setting": name, **_camel(OUTSIDE[name])} for name in sorted(OUTSIDE.keys() & fields.keys())],
        "optionalSecrets": sorted(optional),
        "files": sorted(name for name in fields if name.endswith("_file")),
        "settings": sorted(fields.keys() - set(by_file) - OF_THE_CHART - _files(fields)),
    }


def extra_facts() -> dict[str, dict[str, Any]]:
    """Those of what is no service: the migrations' job and the simulated fleet."""
    gateway = service("gateway")
    return {
        "migrations": {
            "summary": "tables, roles and rights of all services, brought up to date before them",
            "command": ["migrate", "--json"],
            "connects": ["database_url"],
            "optionalSecrets": [],
            "files": ["tls_ca_file"],
            "settings": ["log_level", "partitions"],
        },
        "simulator": {
            "summary": "a simulated fleet that sends readings to the gateway now and then",
            "command": ["simulate", "--json"],
            "connects": [],
            "calls": [{"service": gateway.name, "port": port_of(gateway), "variable": f"{PREFIX}URL", "token": ""}],
            "tokenVariable": f"{PREFIX}DEVICE_TOKEN",
            "optionalSecrets": [],
            "files": [],
            "settings": [],
        },
    }


def secrets_needed(one: Service[Any]) -> tuple[str, ...]:
    """The settings of the servers that it connects to. Redis also where it sums up requests over several processes."""
    needed = servers_needed(one)
    return (*needed, "redis_url") if one.router is not None and "redis_url" not in needed else needed


def port_of(one: Service[Any]) -> int:
    """Of its routes and its health."""
    default: int = Settings.model_fields["port"].default
    return one.health_port or default


def fields_of(one: Service[Any]) -> dict[str, FieldInfo]:
    """The settings that it reads: those of every process, and its groups."""
    groups: list[type[BaseModel] | None] = [Settings, one.settings]
    groups.append(RequestLimitSettings if one.router is not None else None)
    groups.append(StandardTableSettings if one.migrations is not None else None)
    fields = {name: field for group in groups if group is not None for name, field in group.model_fields.items()}
    return {name: field for name, field in fields.items() if one.router is not None or not name.startswith(_TOKENS)}


def all_facts() -> dict[str, dict[str, Any]]:
    """Of all charts, by name."""
    return {**{one.name: facts_of(one) for one in all_services()}, **extra_facts()}


def secret_names() -> frozenset[str]:
    """All settings that can be given by file."""
    return frozenset(name for name, field in settings_type().model_fields.items() if masked(field))


@cache  # for all services at once
def _paths_by_service() -> dict[str, list[dict[str, str]]]:
    return {
        one.service: [
            *({"path": path, "type": "Exact"} for path in one.exact),
            *({"path": path, "type": "Prefix"} for path in one.prefixes),
        ]
        for one in routings()
    }


def _call(call: Call) -> dict[str, Any]:
    called = service(call.service)
    variable = f"{PREFIX}{call.setting.upper()}"
    return {"service": called.name, "port": port_of(called), "variable": variable, "token": call.token}


def _files(fields: Iterable[str]) -> set[str]:
    return {name for name in fields if name.endswith("_file")}


def _camel(outside: Outside) -> dict[str, Any]:
    return {"port": outside.port, "portSetting": outside.port_setting, "peers": outside.peers}
