"""A private server that speaks MongoDB's protocol: mongo-java-server, in memory, from Maven Central's artifacts.

MongoDB's own server is in no registry that a test may use. This one has documents, queries, updates and aggregation; it
has no transactions, no change streams and no retryable writes, and it keeps nothing when it ends.
"""

import os
import socket
import struct
from pathlib import Path
from typing import ClassVar, Final

from deploy.servers.base import Server
from deploy.servers.maven import Jars, java
from deploy.servers.ports import LOOPBACK

POM: Final = Path(__file__).parent / "mongodb_server" / "pom.xml"
MAIN: Final = POM.with_name("Main.java")  # started from its source, which wants a JDK
_OP_MSG: Final = 2_013
# {ping: 1, $db: "admin"} as BSON.
_PING: Final = b"\x1e\x00\x00\x00\x10ping\x00\x01\x00\x00\x00\x02$db\x00\x06\x00\x00\x00admin\x00\x00"


class MongoDB(Server):
    """Main.java on one loopback port."""

    name: ClassVar[str] = "mongodb"
    variable: ClassVar[str] = "VOLTSTREAM_MONGODB_URL"
    keeps_data: ClassVar[bool] = False

    def __init__(self, home: Path, jars: Jars) -> None:
        super().__init__(home)
        self._jars = jars

    @property
    def url(self) -> str:
        return f"mongodb://{LOOPBACK}:{self.port()}/voltstream"

    def _launch(self) -> None:
        self._jars.require()
        memory = ["-Xms64m", "-Xmx512m", "-XX:+UseSerialGC"]
        command = [java("MongoDB"), *memory, "-cp", self._jars.classpath, str(MAIN), LOOPBACK, str(self.port())]
        self._spawn(command, os.environ)

    def _answers(self) -> bool:
        """Ping it."""
        body = struct.pack("<ib", 0, 0) + _PING
        with socket.create_connection((LOOPBACK, self.port()), timeout=1) as connection:
            connection.settimeout(5)
            connection.sendall(struct.pack("<iiii", 16 + len(body), 1, 0, _OP_MSG) + body)
            return len(connection.recv(16, socket.MSG_WAITALL)) == 16
