"""Laws of suggestions: a typo is corrected, and no name of another quantity is ever suggested."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.admission.field_names import meant_field
from ingest.admission.wire import DETAILS, FIELDS

KNOWN = (*FIELDS, *DETAILS)
OLD = FIELDS  # as if the details were not known


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("connectorId", "connector_id"),
        ("StationID", "station_id"),
        ("station-id", "station_id"),
        ("energyWh", "energy_wh"),
        ("ENERGY_WH", "energy_wh"),
        ("enery_wh", "energy_wh"),
        ("energgy_wh", "energy_wh"),
        ("enegry_wh", "energy_wh"),
        ("energi_wh", "energy_wh"),
        ("voltageL1V", "voltage_l1_v"),
        ("voltage_l1v", "voltage_l1_v"),
        ("energy_exportt_wh", "energy_export_wh"),
        ("staus", "status"),
        ("frequencyHz", "frequency_hz"),
    ],
)
def test_another_spelling_of_the_same_words_is_corrected(name: str, meant: str) -> None:
    assert meant_field(name, KNOWN) == meant


@pytest.mark.parametrize(
    "name",
    [
        *("energy_export_wh", "energy_import_wh", "energy_reactive_wh", "energy_interval_wh", "energy_wh_export"),
        *("voltage_l1_v", "voltage_l4_v", "voltage_n_v", "voltage_a", "power_export_w", "power_offered_w", "power_va"),
        *("current_export_a", "current_offered_a", "current_l1_a", "current_w", "soh_pct", "soc_min_pct"),
        *("temperature_k2", "frequency_hz", "session_tag", "x", "", "_", "seq2", "ts2", "stop_reason", "tss"),
        "x" * 10_000,
    ],
)
def test_a_name_of_another_quantity_is_not_corrected(name: str) -> None:
    assert meant_field(name, OLD) is None


_words = sorted({word for name in KNOWN for word in name.split("_")} | {"import", "l4", "n", "min", "avg", "soh", "va"})


@given(st.lists(st.sampled_from(_words), min_size=1, max_size=4).map("_".join))
def test_no_name_made_of_the_words_of_fields_is_taken_for_another(name: str) -> None:
    assert meant_field(name, KNOWN) in (
        None,
        *(known for known in KNOWN if known.replace("_", "") == name.replace("_", "")),
    )


@given(st.text(max_size=80))
def test_a_suggestion_has_as_many_words_and_differs_in_a_letter_at_most(name: str) -> None:
    meant = meant_field(name, KNOWN)
    assert meant is None or abs(len(meant.replace("_", "")) - sum(map(str.isalnum, name))) <= 1


@given(known=st.sampled_from(KNOWN), data=st.data())
def test_a_slip_never_leads_to_a_third_name(known: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(known) - 1))
    name = known[:at] + data.draw(st.text("abcdefghijklmnopqrstuvwxyz", max_size=1)) + known[at + 1 :]
    assert meant_field(name, KNOWN) in (None, known, name)
