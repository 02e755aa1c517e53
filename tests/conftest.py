"""Fixtures and settings of every test."""

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from deploy.servers import run_folder
from deploy.servers import unused_port as _unused_port
from kit.secrets.text import SecretText
from tests.certificates import Authority
from tests.private_servers import PrivateServers, fresh_database

# No deadlines, and no look at how long examples take to make: a slow machine is not a failing law.
_PROFILES = {"here": 100, "quick": 10, "ci": 150, "thorough": 3_000}  # examples; `quick` is that of `make unit`
for _name, _examples in _PROFILES.items():
    hypothesis.settings.register_profile(
        _name,
        deadline=None,
        print_blob=True,
        derandomize=False,
        max_examples=_examples,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
hypothesis.settings.load_profile("ci" if os.environ.get("CI") == "true" else "here")

# structlog's default renders the local variables of every frame of a traceback, which takes seconds.
structlog.configure(
    processors=[
        structlog.stdlib.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """One seed for hypothesis and for the `seed` fixture: `--hypothesis-seed=N` runs the same again."""
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(random.SystemRandom().getrandbits(32))


def pytest_report_header(config: pytest.Config) -> str:
    """Print the seed where every failure can be read beside it, and how many examples a law is tried on."""
    examples = hypothesis.settings().max_examples
    return f"seed: --hypothesis-seed={config.option.hypothesis_seed}, examples of a law: {examples}"


# What starts servers or other processes, by the fixture that a test asks for.
_SERVER_FIXTURES = frozenset({"session_servers", "embedded", "processes"})
_PROOFS = Path(__file__).parent / "proof"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test: `proof` in its folder, `server` where it starts servers or processes, else `unit`.

    A parameter that has a fixture asked for by name is marked by hand: pytest.param("redis", marks=pytest.mark.server).
    """
    for item in items:
        if any(item.get_closest_marker(mark) is not None for mark in ("server", "deploy", "slow")):
            continue
        fixtures = set(getattr(item, "fixturenames", ()))
        proof = item.path.is_relative_to(_PROOFS)
        item.add_marker("proof" if proof else "server" if fixtures & _SERVER_FIXTURES else "unit")


@pytest.fixture(autouse=True)
def _unit_tests_start_nothing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The marks are true: a unit test that starts a process fails."""
    if request.node.get_closest_marker("unit") is None:
        return

    def refused(*_: object, **__: object) -> None:
        pytest.fail("a unit test started a process; ask for a server's fixture, or for `processes`", pytrace=True)

    monkeypatch.setattr(subprocess.Popen, "__init__", refused)
    monkeypatch.setattr(subprocess.Popen, "__del__", lambda _: None)


@pytest.fixture
def processes() -> None:
    """For a test that starts processes by itself."""


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """The seed of this run, for a test's own random generators."""
    return int(pytestconfig.option.hypothesis_seed)


@pytest.fixture
def unused_port() -> int:
    """A free loopback port."""
    return _unused_port()


@pytest.fixture(scope="session")
def session_servers() -> Iterator[PrivateServers]:
    """All servers of the session, none of them started yet."""
    servers = PrivateServers()
    yield servers
    servers.destroy()


@pytest.fixture(scope="session")
def postgres_url(session_servers: PrivateServers) -> str:
    """The private PostgreSQL's own database: use `database_url`, unless it is about the server."""
    return session_servers.url_of(session_servers.postgres)


@pytest.fixture(scope="session")
def rabbitmq_url(session_servers: PrivateServers) -> str:
    """The private RabbitMQ. Queues live as long as the session: give them names of their own."""
    return session_servers.url_of(session_servers.rabbitmq)


@pytest.fixture(scope="session")
def kafka_url(session_servers: PrivateServers) -> str:
    """The private Kafka, host:port. Topics live as long as the session and are never made by accident."""
    return session_servers.url_of(session_servers.kafka)


@pytest.fixture(scope="session")
def redis_url(session_servers: PrivateServers) -> str:
    """The private Redis."""
    return session_servers.url_of(session_servers.redis)


@pytest.fixture(scope="session")
def mongodb_url(session_servers: PrivateServers) -> str:
    """The private server that speaks MongoDB's protocol."""
    return session_servers.url_of(session_servers.mongodb)


@pytest.fixture(scope="session")
def running_servers(session_servers: PrivateServers) -> PrivateServers:
    """All four, running, for tests of the distributed mode."""
    session_servers.start_all()
    return session_servers


@pytest.fixture
def servers(session_servers: PrivateServers) -> Iterator[PrivateServers]:
    """To stop, kill and start servers in a test; what it leaves stopped is started again after it."""
    yield session_servers
    session_servers.mend()


@pytest.fixture(scope="session")
def authority() -> Iterator[Authority]:
    """The CA of the servers that listen with TLS."""
    folder = run_folder("tls") / "certificates"
    yield Authority(folder, "voltstream test CA")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def tls_servers(session_servers: PrivateServers, authority: Authority) -> Iterator[PrivateServers]:
    """Servers of their own that listen with TLS only, none of them started yet; their certificate names localhost."""
    servers = PrivateServers(authority.server("localhost"))
    yield servers
    servers.destroy()


@pytest.fixture
def tls_url(tls_servers: PrivateServers, authority: Authority) -> Callable[[str], str]:
    """The URL of one of them by name, which has to be verified; it knows the CA."""
    return lambda name: SecretText(tls_servers.url_of(getattr(tls_servers, name)), ca_file=str(authority.file))


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """A fresh, empty database."""
    with fresh_database(postgres_url) as url:
        yield url


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data folder, not there yet, that another test session cannot take away: pytest closes its own temporary folder
    to all but its account whenever a session begins, and root's embedded server runs as another."""
    with tempfile.TemporaryDirectory(prefix="voltstream-", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "data"
