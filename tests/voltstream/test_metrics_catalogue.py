"""docs/metrics.md is what the code says; that a running platform shows it is in test_one_trace.py."""

from voltstream.metrics_catalogue import PAGE, declared_metrics, page


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == page(), "run `python -m voltstream.metrics_catalogue`"


def test_a_name_is_declared_once() -> None:
    names = [one.name for one in declared_metrics()]
    assert sorted(set(names)) == names
