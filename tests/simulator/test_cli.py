"""The commands, as a terminal sees them: exit codes, one JSON document, messages that say how to fix it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from kit.clock import SystemClock
from simulator.cli_runs import Destination, LoadRun, SimulationRun
from simulator.encode import Format
from simulator.fleet.faults import FaultPlan
from simulator.fleet.run import slow_rate
from simulator.fleet.spec import FleetSpec
from simulator.load.bodies import LoadSpec
from simulator.load.load import Load
from simulator.transports import Encoding
from tests.simulator.http_sink import Sink, serving

pytestmark = pytest.mark.usefixtures("processes")

ROOT = Path(__file__).parents[2]
A_PAST = ("--days", "0.01", "--stations", "20")
APP = """
import typer
from simulator.cli import replay, simulate

app = typer.Typer()
app.command()(simulate)
app.command()(replay)
app()
"""
TOKEN = ("--token", "vsd_" + "x" * 43)
WITHIN_S = 60  # a bound against hanging


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", APP, *words]


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VOLTSTREAM_")}
    environment = {**inherited, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
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
    done = run("simulate", "--url", sink_url, *TOKEN, *A_PAST, "--faults", "drop=0.1", "--json")
    summary = json.loads(done.stdout)
    assert (done.returncode, summary["error"], done.stderr) == (0, None, "")
    assert 0 < summary["sent"] < 40 * 15


def test_load_is_summed_up(sink_url: str) -> None:
    done = run("simulate", "--url", sink_url, *TOKEN, "--load", "--for", "1s", "--json")
    summary = json.loads(done.stdout)
    assert done.returncode == 0
    assert summary["sent"] == summary["acknowledged"] > 0


def test_ctrl_c_ends_a_live_simulation_with_a_summary(sink_url: str) -> None:
    words = ("simulate", "--url", sink_url, *TOKEN, "--rate", "200")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FORCE_COLOR": "1"}
    with subprocess.Popen(
        command(*words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # tests in a shell's background ignore it
    ) as process:
        assert process.stderr is not None
        process.stderr.read(1)  # the bar is there: it runs
        process.send_signal(signal.SIGINT)
        try:
            out, _ = process.communicate(timeout=WITHIN_S)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "interrupted" in out
    assert "True" in out


def test_replay_goes_through_and_then_has_nothing_to_do(sink_url: str, a_csv: Path) -> None:
    options = ("--map", "power_w=h", "--set", "connector_id=1", "--data-dir", str(a_csv.parent))
    words = ("replay", str(a_csv), "--url", sink_url, *TOKEN, *options, "--json")
    first, second = (json.loads(run(*words).stdout) for _ in range(2))
    assert (first["sent"], first["accepted"], first["complete"]) == (50, 50, True)
    assert (second["sent"], second["resumed_from"], second["complete"]) == (0, 50, True)
    assert (first["already_sent"], second["already_sent"]) == (False, True)


async def test_a_refused_token_is_told_with_the_option_that_names_another() -> None:
    clock = SystemClock()
    async with serving(Sink(script=[401] * 100)) as sink:
        target = Destination(sink.url, "vsd_x", clock, Encoding.IDENTITY, 1)
        spec = FleetSpec(seed=1, start_ms=clock.now_ms() - 60_000, stations=1)
        run = SimulationRun(spec, FaultPlan(), target, Format.JSON, 100, clock.now_ms(), False, None, True)
        outcome = await run.run()
        assert (outcome.code, outcome.summary["accepted"]) == (1, 0)
        assert outcome.error is not None
        assert outcome.error.startswith("401: scripted")
        assert "--token or VOLTSTREAM_DEVICE_TOKEN" in outcome.error
        load = Load(LoadSpec(sink.url, "vsd_x", 0.1, 1, 1, 1, 1, 1, Format.JSON, None, "SIM"), clock)
        assert "--token or VOLTSTREAM_DEVICE_TOKEN" in ((await LoadRun(load, quiet=True).run()).error or "")


def test_a_slow_rate_is_warned_of_with_a_better_one(sink_url: str) -> None:
    slow = ("simulate", "--url", sink_url, *TOKEN, "--stations", "200", "--rate", "1", "--for", "10ms", "--json")
    done = run(*slow)
    assert done.returncode == 0
    assert "each of 400 connectors is read every 400 s" in done.stderr
    assert "--rate 40 reads each of them every 10 s" in done.stderr
    assert run(*slow, "--days", "0.001").stderr == "", "the past is sent as fast as it goes"


@pytest.mark.parametrize(("connectors", "rate"), [(100, 50.0), (400, 40.0), (1, 1 / 60), (60_000, 1_000.0)])
def test_at_a_reading_a_minute_and_connector_nothing_is_warned_of(connectors: int, rate: float) -> None:
    assert slow_rate(connectors, rate) is None
    assert slow_rate(connectors, connectors / 61) is not None


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
        (("replay", "{csv}", *TOKEN), 2, "--ignore h"),
        (("replay", "{csv}", "--token", "vsd_a\nb"), 2, "copy it whole"),
        (("replay", "{csv}", "--ignore", "h", "--set", "connector_id=1"), 2, "--token or VOLTSTREAM_DEVICE_TOKEN"),
        (("simulate", "--for", "1s"), 2, "--token or VOLTSTREAM_DEVICE_TOKEN"),
        (("simulate", "--load", "--for", "1s"), 2, "--token or VOLTSTREAM_DEVICE_TOKEN"),
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
