"""docs/finance.md, run as it stands: every command succeeds in a shell, and what it leaves is right."""

import asyncio
import csv
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
import pytest
from pypdf import PdfReader

from tests.voltstream.platform import ROOT, Up, environment, up
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("processes")

_PAGE: Final = ROOT / "docs" / "finance.md"
_END: Final = "--- end of the block ---"
_BILLING: Final = "/api/v1/billing"
_KWH: Final = {"D-1": "11.4", "D-2": "10.2", "D-3": "7.8", "D-4": "14"}


def blocks() -> dict[str, list[str]]:
    """The page's commands by heading, in order."""
    found: dict[str, list[str]] = {}
    for section in re.split(r"^#+ ", _PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        found[section.splitlines()[0]] = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return found


def exported(block: str) -> dict[str, str]:
    """The settings that a block exports, as `platform.environment` names them."""
    lines = [shlex.split(line)[1:] for line in block.splitlines() if line.startswith("export ")]
    pairs = [word.split("=", 1) for words in lines for word in words]
    return {name.removeprefix("VOLTSTREAM_").lower(): value for name, value in pairs}


class Shell:
    """A shell that goes on from block to block, and ends at the first command that fails."""

    def __init__(self, process: "subprocess.Popen[str]", errors: Path) -> None:
        self._process, self._errors = process, errors

    async def run(self, block: str) -> str:
        """What its commands print."""
        return await asyncio.to_thread(self._run, block)

    def _run(self, block: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{{\n{block}\n}} </dev/null\nprintf '\\n%s\\n' '{_END}'\n")
        self._process.stdin.flush()
        lines: list[str] = []
        for line in self._process.stdout:
            if line.rstrip("\n") == _END:
                return "".join(lines)
            lines.append(line)
        raise AssertionError(f"{block}\n{''.join(lines)}\n{self._errors.read_text()}")


@contextmanager
def shell(folder: Path, platform: Up, data_dir: Path) -> Iterator[Shell]:
    """In a folder of its own, with what `up` prints exported, and the command voltstream."""
    command = folder / ".venv" / "bin" / "voltstream"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m voltstream "$@"\n')
    command.chmod(0o755)
    tokens = {name: platform.first_line[name] for name in ("device_token", "operator_token")}
    settings = environment(url=platform.api, data_dir=str(data_dir), **tokens)
    errors = folder / "errors"
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            ["/bin/bash", "-euo", "pipefail"], cwd=folder, env=settings, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
        )  # fmt: skip
    with process:
        yield Shell(process, errors)
        assert process.stdin is not None
        process.stdin.close()


def documents(platform: Up, **wanted: str) -> list[dict[str, Any]]:
    """Oldest first."""
    found: list[dict[str, Any]] = platform.get(f"{_BILLING}/invoices", **wanted)["invoices"]
    return found[::-1]


def price(kwh: str) -> Decimal:
    """By the page's tariff, rounded once."""
    return ((Decimal(kwh) * Decimal("0.39") + Decimal("0.5")) * Decimal("1.19")).quantize(
        Decimal("0.01"), "ROUND_HALF_UP"
    )


def summed(folder: Path) -> dict[str, Decimal]:
    """The exact totals incl. VAT of the exported files, by format."""
    rows = csv.DictReader(StringIO((folder / "documents.csv").read_text(encoding="utf-8-sig")))
    lines = (folder / "documents.jsonl").read_text().splitlines()
    cdrs = json.loads((folder / "documents.ocpi").read_text(), parse_float=Decimal)
    amounts = {
        "csv": [row["total_incl_vat"] for row in rows],
        "jsonl": [json.loads(line)["total_incl_vat"] for line in lines],
        "parquet": pq.read_table(folder / "documents.parquet")["total_incl_vat"].to_pylist(),
        "ocpi": [cdr["total_cost"]["incl_vat"] for cdr in cdrs],
    }
    return {name: sum((Decimal(amount) for amount in found), Decimal()) for name, found in amounts.items()}


async def test_finance_gets_through_its_day_by_the_page_alone(data_dir: Path) -> None:
    page, folder = blocks(), data_dir.parent / "day"
    (first, second), *_ = page.values()
    with (
        up(data_dir, "--no-simulator", invoice_settle_s="1", **exported(first)) as platform,
        shell(folder, platform, data_dir) as day,
    ):
        for block in (second, *page["Publish"], *page["Charge"]):
            await day.run(block)
        await eventually(lambda: platform.get(f"{_BILLING}/charges")["charges"], within_s=60)
        listed, decided = (await day.run(page["Hold, and approve"][0])).split("invoiced:", 1)
        assert "register_leapt" in listed
        assert "10200" in decided
        await eventually(
            lambda: {one["driver_id"] for one in documents(platform)} >= {"D-1", "D-2", "D-3"}, within_s=60
        )

        assert (await day.run(page["Invoice"][0])).count("valid by its schema and EN 16931") == 2
        (paid,) = documents(platform, driver_id="D-1")
        assert (paid["status"], Decimal(paid["payable"])) == ("paid", price(_KWH["D-1"]))
        text = "".join(one.extract_text() for one in PdfReader(folder / "invoice.pdf").pages)
        for said in (paid["number"], paid["payable"], "Hafenlogistik GmbH", "Ladewerk GmbH"):
            assert said in text

        await day.run(page["Credit a part"][0])
        (balance,) = platform.get(f"{_BILLING}/balance", driver_id="D-1")["balances"]
        assert [Decimal(balance[name]) for name in ("credited", "refunded", "open_amount")] == [-1, 1, 0]

        late, looked = page["A late reading"]
        await day.run(late)
        await eventually(lambda: len(documents(platform, driver_id="D-3")) == 3, within_s=60)
        assert "credit note" in await day.run(looked)
        (balance,) = platform.get(f"{_BILLING}/balance", driver_id="D-3")["balances"]
        assert Decimal(balance["open_amount"]) == price(_KWH["D-3"])

        await day.run(page["The month"][0])
        (monthly,) = [one for one in documents(platform) if one["driver_id"] is None]
        assert Decimal(monthly["payable"]) == price(_KWH["D-4"])

        reconciled = await day.run(page["Export, and reconcile"][0])
        assert "4 charges: " in reconciled
        totals = summed(folder)
        exact = sum((Decimal(one["total_incl_vat"]) for one in documents(platform)), Decimal())
        assert totals["csv"] == totals["jsonl"] == totals["parquet"] == totals["ocpi"] == exact
        assert platform.get(f"{_BILLING}/charges")["charges"] == []
