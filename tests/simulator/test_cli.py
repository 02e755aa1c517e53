"""The commands, as a terminal sees them: exit codes, one JSON document, words with the mend."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("processes")

ROOT = Path(__file__).parents[2]
APP = """
import typer
from simulator.cli import replay, simulate

app = typer.Typer()
app.command()(simulate)
app.command()(replay)
app()
"""
WITHIN_S = 60  # a bound against hanging


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", APP, *words]


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(
        command(*words), capture_output=True, text=True, timeout=WITHIN_S, env=environment, check=False
    )


@pytest.fixture(scope="module")
def sink_url() -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.simulator.http_sink", "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


@pytest.fixture
def a_csv(tmp_path: Path) -> Path:
    path = tmp_path / "a.csv"
    path.write_text("station_id,h,ts\n" + "".join(f"A,{at},{1_767_600_000_000 + at * 1_000}\n" for at in range(50)))
    return path


def test_past_days_are_sent_and_summed_up(sink_url: str) -> None:
    done = run("simulate", "--url", sink_url, "--days", "0.01", "--stations", "20", "--faults", "drop=0.1", "--json")
    summary = json.loads(done.stdout)
    assert (done.returncode, summary["error"], done.stderr) == (0, None, "")
    assert 0 < summary["sent"] < 40 * 15


def test_load_is_summed_up(sink_url: str) -> None:
    done = run("simulate", "--url", sink_url, "--load", "--for", "1s", "--json")
    summary = json.loads(done.stdout)
    assert done.returncode == 0
    assert summary["sent"] == summary["acknowledged"] > 0


def test_ctrl_c_ends_a_live_simulation_with_a_summary(sink_url: str) -> None:
    words = ("simulate", "--url", sink_url, "--rate", "200")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FORCE_COLOR": "1"}
    with subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        process.stderr.read(1)  # the bar is there: it runs
        process.send_signal(signal.SIGINT)
        try:
            out, _ = process.communicate(timeout=WITHIN_S)
        finally:
            process.kill()  # one that ignores Ctrl-C, as in the background of a shell, is not waited for
    assert process.returncode == 0
    assert "interrupted" in out
    assert "True" in out


def test_replay_goes_through_and_then_has_nothing_to_do(sink_url: str, a_csv: Path) -> None:
    options = ("--map", "power_w=h", "--set", "connector_id=1", "--data-dir", str(a_csv.parent))
    words = ("replay", str(a_csv), "--url", sink_url, *options, "--json")
    first, second = (json.loads(run(*words).stdout) for _ in range(2))
    assert (first["sent"], first["accepted"], first["complete"]) == (50, 50, True)
    assert (second["sent"], second["resumed_from"], second["complete"]) == (0, 50, True)
    assert (first["already_sent"], second["already_sent"]) == (False, True)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("simulate", "--for", "1x"), 2, "30s, 5m, 2h"),
        (("simulate", "--load"), 2, "--for 30s"),
        (("simulate", "--faults", "dorp=1"), 2, "known are"),
        (("simulate", "--for", "1s", "--token", "vsd_…"), 2, "copy it whole"),
        (("simulate", "--url", "ftp://x", "--for", "1s"), 2, "begins with http://"),
        (("replay", "none.csv"), 2, "No such file"),
        (("replay", "{csv}", "--map", "h"), 2, "--map field=column"),
        (("replay", "{csv}"), 2, "--ignore h"),
        (("replay", "{csv}", "--token", "vsd_a\nb"), 2, "copy it whole"),
    ],
)
def test_a_wrong_word_is_one_line_and_code_2(a_csv: Path, words: tuple[str, ...], code: int, said: str) -> None:
    words = (*(word.format(csv=a_csv) for word in words),)
    if words[0] == "replay":
        words = (*words, "--data-dir", str(a_csv.parent))
    done = run(*words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
