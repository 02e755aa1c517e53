"""The key of a file that signed tokens are verified with: a public key, or a secret that is shared with the issuer.

The algorithm follows from the key alone and a token's header must name it, so neither "none" nor a public key taken for
a shared secret is accepted.
"""

import base64
import binascii
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from kit.errors import ConfigError

RSA_BITS_MIN: Final = 2_048  # RFC 7518, 3.3
CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_SECRET_BYTES_MIN: Final = 32  # of HS256: its hash's length (RFC 7518, 3.2)
_KEY_BYTES_MAX: Final = 65_536  # of the file; an RSA key of 16,384 bits has 2,800


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key and the algorithms that a token may be signed with by it."""

    value: Any  # a public key of cryptography's, or the bytes of a shared secret
    algorithms: tuple[str, ...]


class FileKey:
    """Keys of which there is one, for as long as the process runs."""

    version: Final = 0

    def __init__(self, path: Path) -> None:
        """Raises ConfigError where the file holds no key to verify with."""
        self._key = read_key(path)

    def key_for(self, token: str) -> TrustedKey:
        """The key, whatever the token names."""
        return self._key

    async def refresh(self) -> bool:
        """See Keys: there are no others."""
        return False

    def poll(self) -> None:
        """See Keys."""

    async def describe(self) -> str:
        """See Keys."""
        return f"the key of VOLTSTREAM_JWT_KEY_FILE, by {self._key.algorithms[0]}"


def read_key(path: Path) -> TrustedKey:
    """The key and with it the algorithm; surrounding white space is ignored. Raises ConfigError."""

    def wrong(what: str) -> ConfigError:
        return ConfigError(
            f"VOLTSTREAM_JWT_KEY_FILE={path}: {what}; it must hold a public key as PEM (RSA, P-256, P-384, P-521, "
            f"Ed25519) or a shared secret of at least {_SECRET_BYTES_MIN} bytes"
        )

    try:
        with path.open("rb") as file:
            content = file.read(_KEY_BYTES_MAX + 1).strip()
    except OSError as error:
        raise wrong(f"cannot be read ({error.strerror})") from None
    if len(content) > _KEY_BYTES_MAX:
        raise wrong(f"is longer than {_KEY_BYTES_MAX} bytes")
    if b"-----BEGIN" in content:
        if b"PRIVATE KEY" in content:
            raise wrong("holds a private key, which belongs to the issuer alone")
        return _public_key(content, wrong)
    if _is_published(content):
        raise wrong("holds a public key that is not PEM, which as a secret everybody would know")
    if len(content) < _SECRET_BYTES_MIN:
        raise wrong(f"holds a secret of {len(content)} bytes")
    return TrustedKey(content, ("HS256",))


def _public_key(pem: bytes, wrong: Callable[[str], ConfigError]) -> TrustedKey:
    try:
        key = load_pem_public_key(pem)
    except Exception:  # ValueError, UnsupportedAlgorithm, and what lies below them
        raise wrong("holds no public key") from None
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < RSA_BITS_MIN:
            raise wrong(f"holds an RSA key of {key.key_size} bits, fewer than {RSA_BITS_MIN}")
        return TrustedKey(key, ("RS256",))
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in CURVES:
        return TrustedKey(key, (CURVES[key.curve.name],))
    if isinstance(key, ed25519.Ed25519PublicKey):
        return TrustedKey(key, ("EdDSA",))
    raise wrong("holds a public key of another kind")


def _is_published(content: bytes) -> bool:
    """Whether this is a public key in another common form: JWK, SSH, DER, base64."""
    if content.startswith((b"{", b"[", b"ssh-", b"ecdsa-")):
        return True
    candidates = [content]
    with contextlib.suppress(binascii.Error):
        candidates.append(base64.b64decode(b"".join(content.split()), validate=True))
    for candidate in candidates:
        try:
            load_der_public_key(candidate)
        except Exception:  # noqa: S112  # any error: it is no public key
            continue
        return True
    return False
