"""Settings that change while a process runs: precedence of sources, the last good value, and what follows a change."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason
from pydantic import BaseModel, Field, model_validator

from kit.config.adjustable import adjustable, adjustables_of
from kit.config.flags import FlagRule, FlagSubject
from kit.config.folder import ConfigFolder
from kit.config.runtime import RuntimeConfig
from kit.config.values import EMPTY, ConfigSnapshot
from kit.settings import composed_of
from tests.waiting import eventually


class Oven(BaseModel):
    """A group of settings."""

    heat_k: int = Field(
        300, ge=1, le=1_000, description="the heat", json_schema_extra=adjustable("oven.heat", unit="K")
    )
    heat_max_k: int = Field(600, ge=1, le=1_000, json_schema_extra=adjustable("oven.heat_max", unit="K"))
    label: str = Field("", max_length=5, pattern="^[a-z]*$", json_schema_extra=adjustable("oven.label"))
    ratio: float = Field(0.5, ge=0, lt=1, json_schema_extra=adjustable("oven.ratio"))
    paused: bool = Field(False, json_schema_extra=adjustable("oven.paused"))
    grill: bool = Field(False, json_schema_extra=adjustable("oven.grill", flag=True))
    place: str = "kitchen"

    @model_validator(mode="after")
    def _not_beyond(self) -> Self:
        if self.heat_k > self.heat_max_k:
            raise ValueError("hotter than it may be")
        return self


KIND: Any = composed_of([Oven])
HEATS = st.integers(1, 600)
SCALARS = st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@pytest.fixture
def config() -> Iterator[RuntimeConfig]:
    opened = RuntimeConfig(KIND(), {"heat_k": ("oven", "shop")})
    yield opened
    opened.close()


def service(revision: int = 1, **documents: Any) -> ConfigSnapshot:
    return ConfigSnapshot(revision, {name.replace("__", "."): document for name, document in documents.items()})


def heat(value: object, revision: int = 1) -> ConfigSnapshot:
    return service(revision, oven__heat={"value": value, "version": revision})


@given(st.none() | HEATS, st.none() | HEATS, st.none() | HEATS)
def test_the_config_service_is_before_a_folder_and_a_folder_before_the_environment(
    static: int | None, in_folder: int | None, at_service: int | None
) -> None:
    config = RuntimeConfig(KIND() if static is None else KIND(heat_k=static))
    try:
        if in_folder is not None:
            config.apply_folder({"oven.heat": in_folder})
        if at_service is not None:
            config.apply_snapshot(heat(at_service))
        given_here = [("service", at_service), ("file", in_folder), ("file", static if static != 300 else None)]
        source, value = next(((s, v) for s, v in given_here if v is not None), ("default", 300))
        assert (config.resolved("oven.heat").source, config.resolved("oven.heat").value) == (source, value)
        assert config.group(Oven).heat_k == value
        assert config.client.get_integer_value("oven.heat", -1) == value
        config.apply_snapshot(ConfigSnapshot(9, {}))  # back at its default there
        assert config.group(Oven).heat_k == next((v for _, v in given_here[1:] if v is not None), 300)
    finally:
        config.close()


def test_a_group_is_the_same_object_until_one_of_its_settings_changes(config: RuntimeConfig) -> None:
    before = config.group(Oven)
    assert config.apply_snapshot(heat(300)) == ["oven.heat"]  # set to what it is: its source is another
    assert config.group(Oven) is before
    assert config.apply_snapshot(heat(301, 2)) == ["oven.heat"]
    assert config.group(Oven).heat_k == 301
    assert (before.heat_k, config.group(Oven).place) == (300, "kitchen")
    assert config.apply_snapshot(heat(301, 2)) == []


def test_the_snapshot_that_was_read_last_is_in_force_whatever_its_revision_is(config: RuntimeConfig) -> None:
    """A database that was restored, or a standby without the last commits, has a lower one and gives it out again."""
    config.apply_snapshot(heat(400, 7))
    assert config.apply_snapshot(heat(500, 6)) == ["oven.heat"]
    assert (config.group(Oven).heat_k, config.snapshot.revision) == (500, 6)
    assert config.apply_snapshot(heat(600, 7)) == ["oven.heat"]


@pytest.mark.parametrize("value", [0, 1_001, "400", 400.5, None, True, [], {"value": 4}])
def test_a_value_that_cannot_be_leaves_the_last_good_one(config: RuntimeConfig, value: object) -> None:
    config.apply_snapshot(heat(400))
    config.apply_snapshot(heat(value, 2))
    assert config.group(Oven).heat_k == 400
    config.apply_snapshot(heat(401, 3))
    assert config.group(Oven).heat_k == 401


def test_values_that_do_not_fit_together_leave_the_last_good_group(config: RuntimeConfig) -> None:
    config.apply_snapshot(heat(500))
    config.apply_folder({"oven.heat_max": 450})
    assert (config.group(Oven).heat_k, config.group(Oven).heat_max_k) == (500, 600)
    config.apply_folder({"oven.heat_max": 550})
    assert config.group(Oven).heat_max_k == 550
    with pytest.raises(ValueError, match="hotter than it may be"):
        config.check("oven.heat", config.would_be(heat(560, 2)))
    config.check("oven.heat", config.would_be(heat(540, 2)))
    assert config.group(Oven).heat_k == 500, "what would be is not yet"


def test_settings_of_another_version_are_ignored(config: RuntimeConfig) -> None:
    config.apply_snapshot(service(1, oven__gone={"value": 3, "version": 1}, oven__heat={"value": 310, "version": 1}))
    assert config.group(Oven).heat_k == 310


def test_a_flag_is_asked_for_a_subject_and_is_no_part_of_a_group(config: RuntimeConfig) -> None:
    rule = {"enabled": True, "percentage": 0, "targets": {"stations": ["de-1"]}, "excepted": {"roles": ["guest"]}}
    config.apply_snapshot(service(1, oven__grill={"rule": rule, "version": 1}))
    assert config.enabled("oven.grill", FlagSubject(station_id="DE-1"))
    assert not config.enabled("oven.grill", FlagSubject(station_id="DE-1", role="guest"))
    assert not config.enabled("oven.grill", FlagSubject(station_id="DE-2"))
    assert config.resolved("oven.grill").source == "flag"
    assert config.group(Oven).grill is False
    config.apply_snapshot(service(2))
    assert not config.enabled("oven.grill", FlagSubject(station_id="DE-1"))


def test_a_gate_is_closed_while_its_setting_is_true(config: RuntimeConfig) -> None:
    gate = config.gate("oven.paused")
    told: list[bool] = []
    gate.watch(told.append)
    config.apply_snapshot(service(1, oven__paused={"value": True, "version": 1}))
    assert not gate.is_open
    assert config.gate("oven.paused") is gate
    config.apply_snapshot(service(2, oven__paused={"value": False, "version": 2}))
    config.apply_snapshot(service(3, oven__paused={"value": False, "version": 3}))
    assert (gate.is_open, told) == (True, [False, True])


def test_whoever_asks_for_a_setting_that_is_not_is_told_which_is(config: RuntimeConfig) -> None:
    with pytest.raises(KeyError, match=r"did you mean oven\.heat"):
        config.resolved("oven.haet")
    assert config.used_by("oven.heat") == ("oven", "shop")


def test_bounds_and_types_are_those_of_the_field() -> None:
    declared = adjustables_of(Oven)
    assert set(declared) == {"oven.heat", "oven.heat_max", "oven.label", "oven.ratio", "oven.paused", "oven.grill"}
    one = declared["oven.heat"]
    assert (one.type, one.unit, one.default, dict(one.bounds)) == (
        "integer",
        "K",
        300,
        {"minimum": 1, "maximum": 1_000},
    )
    assert dict(declared["oven.label"].bounds) == {"maxLength": 5, "pattern": "^[a-z]*$"}
    with pytest.raises(ValueError, match=r"oven\.heat: must be .*in K"):
        one.from_json("hot")


@given(
    st.sampled_from(sorted(adjustables_of(Oven))),
    st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
)
def test_what_is_taken_as_json_is_taken_as_text_too(name: str, value: bool | float | str) -> None:
    one = adjustables_of(Oven)[name]
    try:
        taken = one.from_json(value)
    except ValueError:
        return
    text = str(taken).lower() if isinstance(taken, bool) else str(taken)
    assert one.from_text(text) == taken


def test_a_setting_is_declared_once() -> None:
    class Twice(BaseModel):
        a: int = Field(1, json_schema_extra=adjustable("x.y"))
        b: int = Field(1, json_schema_extra=adjustable("x.y"))

    with pytest.raises(TypeError, match="both called"):
        adjustables_of(Twice)

    class Listed(BaseModel):
        a: list[int] = Field([], json_schema_extra=adjustable("x.y"))

    with pytest.raises(TypeError, match="cannot be adjustable"):
        adjustables_of(Listed)


# -- OpenFeature ------------------------------------------------------------------------------------------------------


def test_openfeature_says_the_value_why_and_where_it_is_from(config: RuntimeConfig) -> None:
    client: OpenFeatureClient = config.client
    found = client.get_integer_details("oven.heat", -1)
    assert (found.value, found.reason, found.flag_metadata["source"]) == (300, Reason.DEFAULT, "default")
    config.apply_snapshot(
        service(
            4,
            oven__heat={"value": 310, "version": 2},
            oven__grill={"rule": {"enabled": True, "percentage": 50}, "version": 1},
            oven__label={"value": "hot", "version": 1},
            oven__ratio={"value": 0.25, "version": 1},
        )
    )
    found = client.get_integer_details("oven.heat", -1)
    assert (found.value, found.reason, dict(found.flag_metadata)) == (
        310,
        Reason.STATIC,
        {"source": "service", "version": 2},
    )
    assert (client.get_string_value("oven.label", "?"), client.get_float_value("oven.ratio", 0.0)) == ("hot", 0.25)
    split = client.get_boolean_details("oven.grill", False, EvaluationContext(targeting_key="DE-1"))
    assert split.reason == Reason.SPLIT
    assert split.value == config.enabled("oven.grill", FlagSubject(station_id="DE-1"))


def test_openfeature_gets_the_default_where_there_is_no_such_setting_or_another_type(config: RuntimeConfig) -> None:
    missing = config.client.get_integer_details("oven.nothing", 7)
    assert (missing.value, missing.error_code) == (7, ErrorCode.FLAG_NOT_FOUND)
    for found in (
        config.client.get_string_details("oven.heat", "x"),
        config.client.get_boolean_details("oven.heat", True),
        config.client.get_integer_details("oven.paused", 3),
        config.client.get_object_details("oven.heat", {"a": 1}),
    ):
        assert found.error_code == ErrorCode.TYPE_MISMATCH
        assert found.value in ("x", True, 3, {"a": 1})


async def test_openfeature_is_told_of_changes_and_of_a_service_that_is_away(config: RuntimeConfig) -> None:
    events: list[Any] = []
    client = config.client
    client.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, lambda e: events.append(e.flags_changed))
    client.add_handler(ProviderEvent.PROVIDER_STALE, lambda e: events.append(e.message))
    config.apply_snapshot(heat(320))
    config.stale("away")
    config.stale("away")
    await eventually(lambda: len(events) == 2)  # it calls handlers in a thread
    assert events == [["oven.heat"], "away"]
    assert client.get_integer_value("oven.heat", -1) == 320


def test_two_configurations_in_a_process_are_apart(config: RuntimeConfig) -> None:
    other = RuntimeConfig(KIND())
    config.apply_snapshot(heat(320))
    assert other.client.get_integer_value("oven.heat", -1) == 300
    other.close()
    assert config.client.get_integer_value("oven.heat", -1) == 320


# -- A folder of files ------------------------------------------------------------------------------------------------


class ConfigMap:
    """A folder as Kubernetes mounts a ConfigMap: `..data` is a symlink to a folder, which is swapped in one step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0
        folder.mkdir()

    def put(self, files: dict[str, str]) -> None:
        self._count += 1
        fresh, old = self.folder / f"..{self._count}", self.folder / f"..{self._count - 1}"
        fresh.mkdir()
        for name, text in files.items():
            (fresh / name).write_text(text)
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        (self.folder / "..data_tmp").symlink_to(fresh.name)
        (self.folder / "..data_tmp").replace(self.folder / "..data")
        shutil.rmtree(old, ignore_errors=True)


@pytest.fixture
def mounted(tmp_path: Path) -> ConfigMap:
    return ConfigMap(tmp_path / "config")


def folder_of(mounted: ConfigMap) -> ConfigFolder:
    return ConfigFolder(mounted.folder, adjustables_of(Oven))


def test_a_mounted_folder_is_read_again_after_each_swap_and_only_then(mounted: ConfigMap) -> None:
    folder = folder_of(mounted)
    mounted.put({"oven.heat": "310\n", "oven.paused": "true", "oven.label": "hot", "oven.ratio": "0.25"})
    assert folder.look() == {"oven.heat": 310, "oven.paused": True, "oven.label": "hot", "oven.ratio": 0.25}
    assert folder.look() is None
    mounted.put({"oven.heat": "310"})
    assert folder.look() == {"oven.heat": 310}
    mounted.put({"oven.heat": "320"})
    assert folder.look() == {"oven.heat": 320}
    mounted.put({})
    assert folder.look() == {}


def test_a_plain_folder_is_read_again_after_each_change(tmp_path: Path) -> None:
    folder = ConfigFolder(tmp_path, adjustables_of(Oven))
    assert folder.look() == {}
    (tmp_path / "oven.heat").write_text("310")
    assert folder.look() == {"oven.heat": 310}
    (tmp_path / "oven.heat").write_text("3200")  # beyond its bound
    assert folder.look() == {"oven.heat": 310}
    assert "less than or equal to 1000" in folder.faults["oven.heat"]
    (tmp_path / "oven.heat").write_text("320")
    (tmp_path / "oven.haet").write_text("320")
    assert folder.look() == {"oven.heat": 320}
    assert folder.faults == {"oven.haet": "there is no such setting; did you mean oven.heat?"}


def test_a_flag_in_a_file_is_a_rule_or_true_or_false(mounted: ConfigMap) -> None:
    folder = folder_of(mounted)
    mounted.put({"oven.grill": json.dumps({"enabled": True, "percentage": "12.50"})})
    assert folder.look() == {"oven.grill": FlagRule.model_validate({"enabled": True, "percentage": "12.5"})}
    mounted.put({"oven.grill": "true"})
    assert folder.look() == {"oven.grill": FlagRule(enabled=True)}
    mounted.put({"oven.grill": '{"enabled": tru'})
    assert folder.look() == {"oven.grill": FlagRule(enabled=True)}
    assert set(folder.faults) == {"oven.grill"}


def test_a_folder_that_goes_away_keeps_what_it_said(mounted: ConfigMap) -> None:
    folder = folder_of(mounted)
    mounted.put({"oven.heat": "310"})
    assert folder.look() == {"oven.heat": 310}
    away = mounted.folder.with_name("away")
    mounted.folder.rename(away)
    assert folder.look() is None
    assert "cannot be read" in folder.faults[str(mounted.folder)]
    away.rename(mounted.folder)
    assert folder.look() == {"oven.heat": 310}
    assert folder.faults == {}


def test_nothing_that_a_file_holds_is_more_than_a_fault(tmp_path: Path) -> None:
    folder = ConfigFolder(tmp_path, adjustables_of(Oven))
    for name in adjustables_of(Oven):
        (tmp_path / name).write_bytes(b"\xff\x00{\n" * 100)
    (tmp_path / "oven.heat").unlink()
    (tmp_path / "oven.heat").mkdir()
    assert folder.look() == {}
    assert set(folder.faults) == set(adjustables_of(Oven)) - {"oven.heat"}


def test_nothing_set_is_the_configuration_of_the_start(config: RuntimeConfig) -> None:
    assert config.apply_snapshot(EMPTY) == []
    assert config.group(Oven).heat_k == 300
