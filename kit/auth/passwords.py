"""Passwords, hashed by scrypt (RFC 7914): 32 MiB and some 300 ms each, so that a stolen table is of little use."""

import hashlib
import hmac
import os
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from typing import Final

_COST, _BLOCK, _PARALLEL = 2**15, 8, 3  # ASVS 5.0, appendix C, with the least memory
_SALT_BYTES: Final = 16
_KEY_BYTES: Final = 32
_MEMORY_BYTES_MAX: Final = 64 * 1024 * 1024
_NAME: Final = "scrypt"


def hashed(password: str) -> str:
    """The hash with its salt and parameters, as it is stored. Blocks for some 300 ms."""
    salt = os.urandom(_SALT_BYTES)
    key = _derived(password, salt, _COST, _BLOCK, _PARALLEL)
    return "$".join((_NAME, str(_COST), str(_BLOCK), str(_PARALLEL), b64encode(salt).decode(), b64encode(key).decode()))


def matches(password: str, stored: str) -> bool:
    """Whether it is the password that was hashed; False for a hash that nobody stored here. Blocks for some 300 ms."""
    try:
        name, cost, block, parallel, salt, key = stored.split("$")
        if name != _NAME:
            return False
        derived = _derived(password, b64decode(salt, validate=True), int(cost), int(block), int(parallel))
        return hmac.compare_digest(derived, b64decode(key, validate=True))
    except (ValueError, Base64Error):
        return False


def _derived(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    given = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(given, salt=salt, n=cost, r=block, p=parallel, maxmem=_MEMORY_BYTES_MAX, dklen=_KEY_BYTES)
