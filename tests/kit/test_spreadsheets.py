"""Texts of others in CSV."""

from hypothesis import given
from hypothesis import strategies as st

from kit.spreadsheets import as_text, text_of

SIGNS = "=+-@\t\r\n＝＋－＠"  # the wide signs, too


@given(st.text() | st.text("'" + SIGNS + "x1", max_size=5))
def test_no_cell_is_a_formula_and_every_text_comes_back(text: str) -> None:
    cell = as_text(text)
    assert not cell.startswith(tuple(SIGNS))
    assert text_of(cell) == text
    assert cell == text or text.lstrip("'").startswith(tuple(SIGNS))
