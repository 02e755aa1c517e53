"""`voltstream doctor` says whether documents name who sells; billing does not open where they must and do not."""

from pathlib import Path
from typing import Any, Final

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from billing.components import open_billing
from kit.clock import SystemClock
from kit.errors import ConfigError
from kit.service import Context
from voltstream.cli.doctor_data_checks import run_all_checks
from voltstream.settings import load_settings

_NOWHERE: Final = dict.fromkeys(("database_url", "rabbitmq_url", "kafka_url", "redis_url"), "")
_WHOLE: Final = {"seller_name": "Muster", "seller_address": "Am Kai 1 | Hamburg", "seller_vat_id": "DE123456789"}


@pytest.mark.parametrize(
    ("given", "ok", "says"),
    [
        ({}, True, "VOLTSTREAM_SELLER_NAME, VOLTSTREAM_SELLER_ADDRESS, VOLTSTREAM_SELLER_VAT_ID are not set"),
        ({"seller_required": True}, False, "VOLTSTREAM_SELLER_NAME"),
        ({**_WHOLE, "seller_vat_id": ""}, True, "VOLTSTREAM_SELLER_VAT_ID is not set"),
        ({**_WHOLE, "seller_required": True}, True, "documents name Muster"),
        ({**_WHOLE, "seller_vat_id": "", "seller_tax_number": "22/815/0815/4"}, True, "documents name Muster"),
    ],
)
async def test_the_doctor_says_what_documents_lack_of_their_seller(
    tmp_path: Path, given: dict[str, Any], ok: bool, says: str
) -> None:
    settings = load_settings(data_dir=tmp_path / "data", **_NOWHERE, **given)
    checks = {check.name: check for check in await run_all_checks(settings, SystemClock())}
    assert checks["seller"].ok == ok
    assert says in checks["seller"].detail


async def test_billing_does_not_open_where_documents_must_name_their_seller_and_do_not() -> None:
    settings = load_settings(seller_required=True, seller_name="Muster", **_NOWHERE)
    context = Context(settings, SystemClock(), CollectorRegistry(), "", lambda _work, _name: None, {}, FastAPI())  # type: ignore[arg-type, return-value]
    with pytest.raises(ConfigError, match="set VOLTSTREAM_SELLER_ADDRESS, VOLTSTREAM_SELLER_VAT_ID"):
        async with open_billing(context):
            pass
