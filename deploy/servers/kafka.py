"""A private Apache Kafka: one KRaft node, from Maven Central's artifacts and the installed Java."""

import os
import socket
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
listeners=PLAINTEXT://{loopback}:{port},CONTROLLER://{loopback}:{controller}
advertised.listeners=PLAINTEXT://{loopback}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
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


class Kafka(Server):
    """kafka.Kafka on a loopback port each for clients and the controller. Topics are not created automatically."""

    name: ClassVar[str] = "kafka"
    variable: ClassVar[str] = "VOLTSTREAM_KAFKA_URL"
    port_names: ClassVar[tuple[str, ...]] = ("main", "controller")

    def __init__(self, home: Path, jars: Jars) -> None:
        super().__init__(home)
        self._jars = jars

    @property
    def url(self) -> str:
        return f"{LOOPBACK}:{self.port()}"

    def _launch(self) -> None:
        run = java("Kafka")
        self._jars.require()
        data = self.home / "data"
        properties = self.home / "server.properties"
        properties.write_text(
            _SETTINGS.format(loopback=LOOPBACK, port=self.port(), controller=self.port("controller"), data=data)
        )
        classpath = ["-cp", self._jars.classpath, f"-Dlog4j.configuration={LOG4J.as_uri()}"]
        if not (data / "meta.properties").exists():
            self._format([run, *classpath, "kafka.tools.StorageTool", "format"], properties)
        heap = ["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-Djava.awt.headless=true"]
        self._spawn([run, *heap, *classpath, "kafka.Kafka", str(properties)], os.environ)

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
        with socket.create_connection((LOOPBACK, self.port()), timeout=1) as connection:
            connection.settimeout(5)
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(12, socket.MSG_WAITALL)
        if len(answer) < 12:
            return False
        _, _, brokers = struct.unpack(">iii", answer)
        return bool(brokers)
