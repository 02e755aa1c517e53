"""A private Apache Kafka: one KRaft node, from Maven Central's artifacts and the installed Java."""

import os
import struct
import subprocess
from pathlib import Path
from typing import ClassVar, Final

from deploy.servers.base import Server
from deploy.servers.errors import ServerFailed
from deploy.servers.maven import Jars, java
from deploy.servers.ports import LOOPBACK

POM: Final = Path(__file__).with_name("pom.xml")
LOG4J: Final = Path(__file__).with_name("log4j.properties")
_CLUSTER_ID: Final = "voltstreamPrivate00000"  # 16 bytes as URL-safe base64; all private servers may share it
_METADATA_KEY: Final = 3
# A killed broker may register again only when its session has timed out: 3 s instead of the usual 9.
_SETTINGS: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{loopback}:{controller}
listeners={scheme}://{loopback}:{port},CONTROLLER://{loopback}:{controller}
advertised.listeners={scheme}://{advertised}
inter.broker.listener.name={scheme}
controller.listener.names=CONTROLLER
listener.security.protocol.map={scheme}:{scheme},CONTROLLER:PLAINTEXT
log.dirs={data}
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
message.max.bytes=8388608
replica.fetch.max.bytes=8388608
"""
_TLS: Final = """\
ssl.keystore.type=PEM
ssl.keystore.location={chain}
ssl.truststore.type=PEM
ssl.truststore.location={tls.ca}
ssl.client.auth=none
"""
_LOGIN: Final = """\
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required \
username="{login[0]}" password="{login[1]}" user_{login[0]}="{login[1]}";
"""


class Kafka(Server):
    """kafka.Kafka on a loopback port each for clients and the controller. Topics are not created automatically."""

    name: ClassVar[str] = "kafka"
    variable: ClassVar[str] = "VOLTSTREAM_KAFKA_URL"
    port_names: ClassVar[tuple[str, ...]] = ("main", "controller")

    def __init__(self, home: Path, jars: Jars) -> None:
        super().__init__(home)
        self._jars = jars
        self.login: tuple[str, str] | None = None  # user and password, with TLS only; it may change between two starts
        self.advertised = (
            ""  # host:port of a proxy by which clients come, set before a start; empty: they come directly
        )

    @property
    def url(self) -> str:
        login = f"{self.login[0]}:{self.login[1]}@" if self.login else ""
        return f"{self._scheme.lower()}://{login}{self.address}" if self.tls else self.address

    @property
    def _scheme(self) -> str:
        if self.tls is None:
            return "PLAINTEXT"
        return "SASL_SSL" if self.login else "SSL"

    def _launch(self) -> None:
        run = java("Kafka")
        self._jars.require()
        data = self.home / "data"
        properties = self.home / "server.properties"
        properties.write_text(self._settings(data))
        classpath = ["-cp", self._jars.classpath, f"-Dlog4j.configuration={LOG4J.as_uri()}"]
        if not (data / "meta.properties").exists():
            self._format([run, *classpath, "kafka.tools.StorageTool", "format"], properties)
        heap = ["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-Djava.awt.headless=true"]
        self._spawn([run, *heap, *classpath, "kafka.Kafka", str(properties)], os.environ)

    def _settings(self, data: Path) -> str:
        own = {"scheme": self._scheme, "advertised": self.advertised or self.address}
        text = _SETTINGS.format(
            loopback=LOOPBACK, port=self.port(), controller=self.port("controller"), data=data, **own
        )
        if self.tls is None:
            return text
        chain = self.home / "chain.pem"
        chain.write_text(self.tls.key.read_text() + self.tls.certificate.read_text())
        text += _TLS.format(tls=self.tls, chain=chain)
        return text + _LOGIN.format(login=self.login) if self.login else text

    def _format(self, command: list[str], properties: Path) -> None:
        done = subprocess.run(
            [*command, "--cluster-id", _CLUSTER_ID, "--config", str(properties), "--ignore-formatted"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ServerFailed(f"kafka: format failed:\n{done.stdout}{done.stderr}")

    def _answers(self) -> bool:
        """Ask for the brokers (Metadata v1, no topics) in Kafka's own protocol: at least one must be alive."""
        request = struct.pack(">hhihi", _METADATA_KEY, 1, 1, -1, 0)
        with self._connect() as connection:
            if self.login:
                return True  # it listens; only a client with a login learns more
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = b""
            while len(answer) < 12 and (more := connection.recv(12 - len(answer))):
                answer += more
        if len(answer) < 12:
            return False
        _, _, brokers = struct.unpack(">iii", answer)
        return bool(brokers)
