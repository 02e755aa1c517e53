"""Certificate authorities made in a test, and certificates of servers and clients that they sign."""

from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from deploy.servers import ServerTls

_VALID = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """A client's certificate and its key, in PEM, and what proxies make of it for their header."""

    certificate: Path
    key: Path

    @property
    def as_byte_sequence(self) -> bytes:
        """As RFC 9440 has it."""
        der = x509.load_pem_x509_certificate(self.certificate.read_bytes()).public_bytes(Encoding.DER)
        return b":%b:" % b64encode(der)

    @property
    def as_escaped_pem(self) -> bytes:
        """As nginx escapes it."""
        return quote(self.certificate.read_bytes(), safe="").encode()


class Authority:
    """A CA, whose certificate is in a file."""

    def __init__(self, folder: Path, name: str) -> None:
        self._name, self._key = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), _key()
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        usage = x509.KeyUsage(*(field in ("key_cert_sign", "crl_sign") for field in _KEY_USAGES))
        is_ca = x509.BasicConstraints(ca=True, path_length=0)
        builder = self._builder(self._name, self._key).add_extension(is_ca, True).add_extension(usage, True)
        certificate = builder.sign(self._key, hashes.SHA256())
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(certificate.public_bytes(Encoding.PEM))

    def server(self, host: str) -> ServerTls:
        """A certificate for the server of that name."""
        key = _key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        certificate = self._builder(subject, key).add_extension(names, False).sign(self._key, hashes.SHA256())
        files = ServerTls(self._folder / f"{host}.crt", self._folder / f"{host}.key", self.file)
        files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files

    def client(self, *common_names: str, now: datetime | None = None) -> ClientFiles:
        """A certificate for a client of that name, valid for a day around the moment, by default now."""
        key = _key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common_names])
        certificate = self._builder(subject, key, now).sign(self._key, hashes.SHA256())
        name = uuid4().hex
        files = ClientFiles(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime | None = None
    ) -> x509.CertificateBuilder:
        now = now or datetime.now(UTC)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _VALID)
            .not_valid_after(now + _VALID)
            .add_extension(identifier, False)
            .add_extension(signer, False)
        )


# In the order of x509.KeyUsage's arguments.
_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())
