"""The few kinds of panels that the dashboards have, and a dashboard as a list of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
_WIDTH, _NARROW, _HEIGHT = 12, 6, 8  # of 24 columns; rows of 30 pixels
RATE: Final = "$__rate_interval"  # Grafana's: as long as there are enough scrapes in it


@dataclass(frozen=True, slots=True)
class Query:
    """An expression, and what its lines are called: labels in `{{ }}`."""

    expr: str
    legend: str = ""


def quantiles(metric: str, by: str = "", matching: str = "") -> tuple[Query, ...]:
    """p50, p95 and p99 of a histogram."""
    labels, legend = (f"{by}, le", f"{{{{{by}}}}} ") if by else ("le", "")
    return tuple(
        Query(
            f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{matching}[{RATE}])))",
            f"{legend}p{int(share * 100)}",
        )
        for share in (0.5, 0.95, 0.99)
    )


def rate(metric: str, by: str = "", matching: str = "") -> Query:
    """Of a counter a second, summed by that label."""
    if by:
        return Query(f"sum by ({by}) (rate({metric}{matching}[{RATE}]))", f"{{{{{by}}}}}")
    return Query(f"sum(rate({metric}{matching}[{RATE}]))")


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph; with `is_stat` the newest figure. `unit`: Grafana's id, `short` is a plain number."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    description: str = ""
    is_stat: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Panels by row. `uid`: of its address, never to be renamed."""

    uid: str
    title: str
    rows: dict[str, Sequence[Panel]]

    @property
    def queries(self) -> list[str]:
        """All expressions."""
        return [query.expr for panels in self.rows.values() for panel in panels for query in panel.queries]

    def json(self) -> str:
        """The document that Grafana reads."""
        builder = dashboard.Dashboard(self.title).uid(self.uid).tags(["voltstream"]).timezone("browser")
        builder.time("now-6h", "now").refresh("30s").readonly()
        builder.with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        number = 0
        for name, panels in self.rows.items():
            number += 1
            builder.with_row(dashboard.Row(name).id(number))
            for panel in panels:
                number += 1
                builder.with_panel(_built(panel, number))
        return str(JSONEncoder(sort_keys=True, indent=2).encode(builder.build())) + "\n"


def _built(panel: Panel, number: int) -> "stat.Panel | timeseries.Panel":
    built = stat.Panel().span(_NARROW) if panel.is_stat else timeseries.Panel().span(_WIDTH).min(0)
    built.id(number).title(panel.title).description(panel.description).unit(panel.unit).height(_HEIGHT)
    built.datasource(_SOURCE)
    for letter, query in zip("ABCDEFGH", panel.queries, strict=False):
        built.with_target(prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter))
    return built
