"""Starts private RabbitMQ, Redis, PostgreSQL, Kafka and MongoDB servers on free loopback ports, without Docker."""

from deploy.servers.base import Server
from deploy.servers.errors import ServerError, ServerFailed, ServerUnavailable
from deploy.servers.kafka import Kafka
from deploy.servers.keycloak import Keycloak
from deploy.servers.mongodb import MongoDB
from deploy.servers.nginx import Nginx
from deploy.servers.oidc import OidcProvider
from deploy.servers.ports import unused_port
from deploy.servers.postgres import Postgres
from deploy.servers.rabbitmq import RabbitMQ
from deploy.servers.redis import Redis
from deploy.servers.registry import KEYCLOAK, SERVERS, TEST_SERVERS, environment, run_folder, sweep
from deploy.servers.reverse_proxy import ReverseProxy
from deploy.servers.tls import ServerTls
from deploy.servers.traefik import Traefik

__all__ = [
    "KEYCLOAK",
    "SERVERS",
    "TEST_SERVERS",
    "Kafka",
    "Keycloak",
    "MongoDB",
    "Nginx",
    "OidcProvider",
    "Postgres",
    "RabbitMQ",
    "Redis",
    "ReverseProxy",
    "Server",
    "ServerError",
    "ServerFailed",
    "ServerTls",
    "ServerUnavailable",
    "Traefik",
    "environment",
    "run_folder",
    "sweep",
    "unused_port",
]
