"""`voltstream billing export | pdf`: the same files as over HTTP."""

import json
from pathlib import Path

import pytest

from billing.customers.models import NewCustomer
from billing.declaration import SERVICE as BILLING
from kit.database.migrations import migrate
from tests.billing.customers_wanted import wanted
from tests.billing.exports.conftest import fill
from tests.billing.exports.ocpi_model import read_checked
from tests.billing.exports.registry import CONNECTOR, Station, register, register_whole
from tests.billing.exports.test_exports import FORMATS, read, sums
from tests.billing.making import assigned, session
from tests.billing.running import open_running
from tests.voltstream.platform import voltstream
from voltstream.runtime.database import sources_of

pytestmark = pytest.mark.usefixtures("processes")


@pytest.fixture
async def filled_url(billing_url: str) -> str:
    """A database with some billing, prepared as `voltstream migrate` does it."""
    async with open_running(billing_url) as billing:
        await fill(billing, 6)
    return billing_url


def test_an_export_is_written_whole_with_its_totals(filled_url: str, tmp_path: Path) -> None:
    totals = set()
    for format_ in FORMATS:
        out = tmp_path / f"it.{format_}"
        done = voltstream(
            "billing", "export", "--format", format_, "--out", str(out), "--json", database_url=filled_url
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        rows = read(format_, out.read_bytes())
        assert (said["documents"], said["bytes"], said["file"]) == (len(rows), out.stat().st_size, str(out))
        euros = said["currencies"]["EUR"]
        assert [f"{total:.6f}" for total in sums(rows)] == [euros["total_excl_vat"], euros["total_incl_vat"]]
        totals.add(json.dumps(said["currencies"]))
    assert len(totals) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"it.{format_}" for format_ in FORMATS)


def test_an_export_names_what_it_leaves_out_and_says_so_by_its_exit_code(filled_url: str, tmp_path: Path) -> None:
    plug = {**CONNECTOR, "evse_id": None}
    register(filled_url, {"NL-0": Station(), "NL-1": Station(connectors={1: plug})})
    out = tmp_path / "cdrs.json"
    arguments = ("billing", "export", "--format", "ocpi", "--out", str(out))
    done = voltstream(*arguments, "--json", database_url=filled_url)
    assert done.returncode == 1
    said, cdrs = json.loads(done.stdout), read_checked(out.read_bytes())
    assert {cdr["cdr_location"]["id"] for cdr in cdrs} == {"NL-0"}
    assert said["documents"] == len(cdrs) > 0
    charges = said["left_out"]["charges"]
    assert said["left_out"]["documents"] == len(charges) > 0
    assert {(one["station_id"], *one["missing"]) for one in charges} == {("NL-1", "evse_id"), ("NL-2", "station")}
    people = voltstream(*arguments, database_url=filled_url)
    assert people.returncode == 1
    assert "NL-1, connector 1: evse_id (" in people.stderr
    assert "NL-2, connector 1: station (" in people.stderr
    assert "`voltstream station set`" in people.stderr
    register_whole(filled_url, ["NL-0", "NL-1", "NL-2"])
    again = voltstream(*arguments, "--json", database_url=filled_url)
    assert again.returncode == 0
    assert json.loads(again.stdout)["documents"] == len(cdrs) + len(charges)
    assert json.loads(again.stdout)["left_out"] == {"documents": 0, "currencies": {}, "charges": []}


def test_a_database_without_the_registry_is_to_be_migrated(database_url: str, tmp_path: Path) -> None:
    migrate(database_url, sources_of([BILLING]))
    refused = voltstream("billing", "export", "--out", str(tmp_path / "it"), database_url=database_url)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "voltstream migrate" in refused.stderr
    migrated = voltstream("migrate", database_url=database_url)
    assert migrated.returncode == 0, migrated.stderr
    done = voltstream("billing", "export", "--format", "ocpi", "--out", str(tmp_path / "it"), database_url=database_url)
    assert (done.returncode, (tmp_path / "it").read_text()) == (0, "[]\n")


def test_an_export_to_stdout_is_the_file_and_its_totals_are_on_stderr(filled_url: str) -> None:
    done = voltstream("billing", "export", "--format", "jsonl", "--out", "-", database_url=filled_url)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert json.loads(done.stderr)["documents"] == len(rows) > 6
    people = voltstream("billing", "export", "--out", "/dev/null/x", database_url=filled_url)
    assert (people.returncode, people.stdout) == (2, "")
    assert "/dev/null/x" in people.stderr


def test_a_receipt_is_had_by_number(filled_url: str, tmp_path: Path) -> None:
    out = tmp_path / "it.pdf"
    done = voltstream("billing", "pdf", "2026-0000001", "--out", str(out), "--json", database_url=filled_url)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"number": "2026-0000001", "file": str(out), "bytes": out.stat().st_size}
    assert out.read_bytes().startswith(b"%PDF-")
    for wrong in ("2026-9999999", "x"):
        refused = voltstream("billing", "pdf", wrong, "--out", str(out), database_url=filled_url)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


async def test_an_einvoice_is_had_by_number_in_both_syntaxes_and_in_a_pdf(billing_url: str, tmp_path: Path) -> None:
    async with open_running(billing_url) as billing:
        customer = NewCustomer.model_validate(wanted("Hafenlogistik GmbH", "ann"))
        async with billing.database.transaction() as connection:
            await billing.components.customers.add(connection, customer)
        charged = session()
        await billing.deliver(assigned(charged.id, "ann"), charged, session())
    for name, arguments, begins in (
        ("ubl", ("einvoice",), b"<?xml"),
        ("cii", ("einvoice", "--format", "cii"), b"<?xml"),
        ("pdf", ("pdf", "--facturx"), b"%PDF-"),
    ):
        command, *options = arguments
        out = tmp_path / name
        done = voltstream("billing", command, "2026-0000001", *options, "--out", str(out), database_url=billing_url)
        assert done.returncode == 0, done.stderr
        assert out.read_bytes().startswith(begins)
        refused = voltstream("billing", command, "2026-0000002", *options, "--out", str(out), database_url=billing_url)
        assert (refused.returncode, "/api/v1/billing/customers" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--from", "2026-03-02T00:00:00Z", "--to", "2026-03-01T00:00:00Z"),
        ("--from", "yesterday"),
        ("--format", "xls"),
    ],
)
def test_a_wrong_range_is_reported(arguments: tuple[str, ...], tmp_path: Path) -> None:
    refused = voltstream("billing", "export", "--out", str(tmp_path / "it"), *arguments)
    assert refused.returncode == 2
    assert not list(tmp_path.iterdir())
