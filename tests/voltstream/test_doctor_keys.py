"""The doctor looks at the key that signed tokens are verified with."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from kit.clock import SystemClock
from tests.kit.jwks_server import jwk_of, running_provider
from voltstream.cli.doctor_data_checks import run_all_checks
from voltstream.settings import load_settings


@pytest.mark.parametrize(("content", "ok", "says"), [(b"x" * 32, True, "HS256"), (b"short", False, "a secret of 5")])
async def test_the_doctor_tells_a_key_that_signed_tokens_can_be_verified_with(
    tmp_path: Path, content: bytes, ok: bool, says: str
) -> None:
    (tmp_path / "key").write_bytes(content)
    nowhere = dict.fromkeys(("database_url", "rabbitmq_url", "kafka_url", "redis_url"), "")
    settings = load_settings(jwt_key_file=str(tmp_path / "key"), data_dir=tmp_path / "data", **nowhere)
    checks = {check.name: check for check in await run_all_checks(settings, SystemClock())}
    assert checks["signed tokens"].ok == ok
    assert says in checks["signed tokens"].detail
    assert ok or "VOLTSTREAM_JWT_KEY_FILE" in checks["signed tokens"].mend


@pytest.mark.parametrize(("status", "ok", "says"), [(200, True, "one of 1 keys of http"), (500, False, "answers 500")])
async def test_the_doctor_reads_the_keys_of_the_identity_provider(
    tmp_path: Path, status: int, ok: bool, says: str
) -> None:
    nowhere = dict.fromkeys(("database_url", "rabbitmq_url", "kafka_url", "redis_url"), "")
    async with running_provider() as provider:
        provider.keys, provider.status = [jwk_of(rsa.generate_private_key(65_537, 2_048), "k")], status
        signed = {"jwt_discovery": True, "jwt_issuer": provider.url, "jwt_audience": "voltstream"}
        settings = load_settings(**signed, data_dir=tmp_path / "data", **nowhere)
        checks = {check.name: check for check in await run_all_checks(settings, SystemClock())}
    assert checks["signed tokens"].ok == ok
    assert says in checks["signed tokens"].detail
    assert ok or "VOLTSTREAM_JWT_ISSUER" in checks["signed tokens"].mend
