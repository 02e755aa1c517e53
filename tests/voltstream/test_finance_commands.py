"""Commands of finance and of stations, on a platform of their own: what they refuse, and how they say it."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.voltstream.platform import up, voltstream
from voltstream.cli.main import app
from voltstream.errors import PlatformFailed, WrongUsage

pytestmark = pytest.mark.usefixtures("processes")

_ABSENT = "0f6b1c9a-4d5e-47a8-b2c3-d4e5f6a7b8c9"
_WRONG = (
    (("charges", "--status", "lost"), "status"),
    (("charges", "--driver", " x "), "no space at either end"),
    (("charges", "--reason", "because"), "reason"),
    (("approve", "lost", "--why", "x"), "id"),
    (("approve", _ABSENT, "--why", "x"), _ABSENT),
    (("approve", _ABSENT, "--why", ""), "why"),
    (("correct", _ABSENT, "--why", "x", "--energy-wh", "much"), "energy_wh"),
    (("correct", "../invoices", "--why", "x", "--energy-wh", "1"), ""),
    (("void", _ABSENT, "--why", "x"), _ABSENT),
    (("invoices", "--status", "lost"), "status"),
    (("invoices", "--from", "soon"), "--from 'soon'"),
    (("balance",), "say whose balance"),
    (("balance", "--driver", "a", "--customer", _ABSENT), "give one of them"),
    (("balance", "--customer", "x"), "customer_id"),
    (("pay", "2026-0000001"), "there is no document 2026-0000001; `voltstream billing invoices` lists them"),
    (("credit", _ABSENT, "--amount", "1", "--reason", "x"), _ABSENT),
    (("cancel", "", "--reason", "x"), "write it as on the document"),
    (("refund", "x", "--reason", "x"), "write it as on the document"),
)
_WRONG_STATIONS = (
    (("show", "DE*1"), "DE*1 is not registered: `voltstream station set DE*1"),
    (("connector", "DE*1", "1", "--rated-power-w", "22000"), "no station DE*1"),
    (("set", "DE*1", "--country", "DE"), "for DE write DEU"),
    (("set", "DE*1", "--latitude", "52"), "give latitude and longitude"),
    (("connector", "DE*1", "1", "--rated-power-w", "22 kW"), "write whole watts"),
    (("remove", "DE*1"), "no station DE*1"),
    (("show", "A/B"), "A/B: a station's id in the registry has no slash"),
    (("set", "A/B", "--city", "Bonn"), "has no slash"),
    (("connector", "A/B", "1", "--rated-power-w", "22000"), "has no slash"),
    (("remove", "A/connectors/1"), "has no slash"),
)


class Commands:
    """Commands in this process, on one platform."""

    def __init__(self, data_dir: Path, token: str | None = None) -> None:
        self._env = {"VOLTSTREAM_DATA_DIR": str(data_dir), "VOLTSTREAM_FINANCE_TOKEN": token}

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, arguments, env=self._env, prog_name="voltstream")

    def json(self, *arguments: str) -> Any:
        """The document that it prints."""
        shown = self.run(*arguments, "--json")
        assert shown.exception is None, shown.exception
        return json.loads(shown.stdout)


def _issue(data_dir: Path) -> str:
    issued = voltstream("token", "issue", "--kind", "finance", "--data-dir", str(data_dir))
    return issued.stdout.strip()


def test_what_cannot_be_asked_is_one_line_that_says_what_to_write(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VOLTSTREAM_URL", "VOLTSTREAM_OPERATOR_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with up(data_dir, "--no-simulator"):
        finance, operator = Commands(data_dir, _issue(data_dir)), Commands(data_dir)
        for arguments, says in _WRONG:
            shown = finance.run("billing", *arguments)
            assert isinstance(shown.exception, WrongUsage), (arguments, shown.exception, shown.output)
            assert says in str(shown.exception), (arguments, shown.exception)
            assert shown.stdout == ""
        for arguments, says in _WRONG_STATIONS:
            shown = operator.run("station", *arguments)
            assert isinstance(shown.exception, WrongUsage), (arguments, shown.exception, shown.output)
            assert says in str(shown.exception), (arguments, shown.exception)
        refused = operator.run("billing", "statements")
        assert isinstance(refused.exception, PlatformFailed)
        assert "voltstream token issue --kind finance" in str(refused.exception)
        for arguments in (("charges",), ("invoices",), ("statements",)):
            shown = finance.run("billing", *arguments)
            assert (shown.exception, shown.stdout) == (None, ""), arguments
        _stations(operator)


def _files(operator: Commands) -> None:
    """What is exported may be imported again, and is what it was."""
    with tempfile.TemporaryDirectory() as folder:
        for name, format_ in {"stations.csv": "csv", "locations.json": "ocpi"}.items():
            path = str(Path(folder) / name)
            assert operator.json("station", "export", "--format", format_, "--out", path)["file"] == path
            assert operator.json("station", "import", path)["stations"] == []
        (Path(folder) / "stations.csv").write_text("station_id,city\nDE*1,Kiel\nNEW,Bonn\n")
        path = str(Path(folder) / "stations.csv")
        preview = operator.run("station", "import", path, "--dry-run").stdout
        assert "would be: 1 created, 1 changed, 0 unchanged, 0 refused" in preview
        assert operator.json("station", "show", "DE*1")["city"] == "Hamburg"
        assert operator.json("station", "import", path)["created"] == 1
        (Path(folder) / "stations.csv").write_text("station_id,country\nNEW,DE\n")
        refused = operator.run("station", "import", path)
        assert isinstance(refused.exception, WrongUsage)
        assert "for DE write DEU" in str(refused.exception)
        assert str(refused.exception).endswith("import the others with --partial")
        tried = operator.run("station", "import", path, "--dry-run")
        assert (tried.exit_code, "nothing would be imported: 1 refused" in tried.stdout) == (2, True)
        assert operator.run("station", "import", path, "--dry-run", "--json").exit_code == 2
        assert operator.run("station", "import", path, "--partial").exit_code == 1
    assert "DE*1,,,Hamburg" not in operator.run("station", "export").stdout
    operator.json("station", "remove", "NEW")


def _stations(operator: Commands) -> None:
    """A fact that no option names stays; one that is given as nothing is forgotten."""
    operator.json("station", "set", "de*1", "--city", "Hamburg", "--name", "Kai", "--country", "deu")
    changed = operator.json("station", "set", "DE*1", "--name", "", "--latitude", "53.5", "--longitude", "10")
    assert (changed["city"], changed["name"], changed["country"]) == ("Hamburg", None, "DEU")
    operator.json("station", "connector", "DE*1", "1", "--rated-power-w", "22000", "--standard", "IEC_62196_T2")
    connector = operator.json("station", "connector", "DE*1", "1", "--power-type", "AC_3_PHASE")
    assert (connector["rated_power_w"], connector["standard"]) == (22_000, "IEC_62196_T2")
    connector = operator.json("station", "connector", "DE*1", "1", "--rated-power-w", "")
    assert (connector["rated_power_w"], connector["power_type"]) == (None, "AC_3_PHASE")
    shown = operator.run("station", "show", "DE*1")
    assert "connector 1: standard IEC_62196_T2, power_type AC_3_PHASE" in shown.stdout
    assert "DE*1" in operator.run("station", "list").stdout
    assert operator.json("station", "remove", "DE*1", "--connector", "1")["removed"] is True
    assert operator.json("station", "show", "DE*1")["connectors"] == []
    _files(operator)
    operator.json("station", "remove", "DE*1")
    assert isinstance(operator.run("station", "show", "DE*1").exception, WrongUsage)
