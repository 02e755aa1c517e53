"""Certificates for servers that listen with TLS."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HOST: Final = "localhost"
"""The only name that URLs of such servers have: a certificate of it does not fit 127.0.0.1."""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM files of a server's certificate and key (PKCS 8, no password), and of the CA that has signed it."""

    certificate: Path
    key: Path
    ca: Path

    def context(self) -> ssl.SSLContext:
        """Of a client that trusts the CA."""
        return ssl.create_default_context(cafile=self.ca)
