"""The report's figures, from plain data; Plotly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from storage.artifact import Manifest

COLOURS = ("#2c5f8a", "#d9822b", "#3f8f5b", "#8a4f9e", "#b23b3b", "#5b6b7a")
MAX_POINTS = 4000  # of a curve: longer ones are thinned, the last step always stays


def embed(name: str, figure: go.Figure) -> str:
    """A script that draws `figure` into the element `figure-<name>`. No text of the data can end the script."""
    data = figure.to_json().replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return f"draw('figure-{name}', {data});"


def _layout(figure: go.Figure, *, height: int, **axes: Any) -> go.Figure:
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 20, "t": 30, "b": 45},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#1c2733"},
        colorway=COLOURS,
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},  # above the plot, which makes room for as many lines as it has
        **axes,
    )
    return figure


def reasons(funnel: Mapping[str, Any]) -> go.Figure | None:
    """Documents dropped by reason, stacked by source."""
    order = sorted(funnel["total"]["dropped"], key=lambda reason: funnel["total"]["dropped"][reason]["documents"])
    if not order:
        return None
    figure = go.Figure()
    for source, row in funnel["sources"].items():
        values = [row["dropped"].get(reason, {}).get("documents", 0) for reason in order]
        if any(values):
            figure.add_bar(y=order, x=values, name=source, orientation="h")
    _layout(figure, height=120 + 26 * len(order), barmode="stack", xaxis_title="documents", showlegend=True)
    return figure.update_yaxes(automargin=True)


def mixtures(plans: Mapping[str, Sequence[Any]]) -> go.Figure:
    """Target and realised share of every component, by training stage."""
    labels = [(stage, row) for stage, rows in plans.items() for row in rows]
    places = [[stage for stage, _ in labels], [row.component for _, row in labels]]
    figure = go.Figure()
    figure.add_bar(x=places, y=[100 * row.target_share for _, row in labels], name="target")
    figure.add_bar(x=places, y=[100 * row.realised_share for _, row in labels], name="realised")
    return _layout(figure, height=360, barmode="group", yaxis_title="% of tokens")


def curves(steps: Mapping[str, Sequence[Mapping[str, Any]]], field: str, title: str) -> go.Figure:
    """One quantity over the tokens of all training stages, one after the other."""
    figure, before = go.Figure(), 0
    for stage, rows in steps.items():
        stride = -(-len(rows) // MAX_POINTS)
        kept = [*rows[:-1:stride], rows[-1]]
        figure.add_scatter(x=[before + row["tokens"] for row in kept], y=[row[field] for row in kept], mode="lines", name=stage)
        before += rows[-1]["tokens"]
    return _layout(figure, height=320, xaxis_title="tokens", yaxis_title=title)


def bits_per_byte(scores: Mapping[str, Any]) -> go.Figure:
    """Held-out bits per byte by domain, beside the unigram model's."""
    domains = list(scores["bits_per_byte"])
    figure = go.Figure()
    figure.add_bar(x=domains, y=[scores["unigram_bits_per_byte"][domain] for domain in domains], name="unigram, add-one")
    figure.add_bar(x=domains, y=[scores["bits_per_byte"][domain] for domain in domains], name="checkpoint")
    return _layout(figure, height=320, barmode="group", yaxis_title="bits per byte")


def timings(artifacts: Mapping[str, Manifest]) -> go.Figure | None:
    """Seconds that making each artifact took; several artifacts of one stage are added up."""
    seconds: dict[str, float] = {}
    for key, manifest in artifacts.items():
        if (wall_s := manifest.info.get("wall_s")) is not None:
            stage = key.partition("/")[0]
            seconds[stage] = seconds.get(stage, 0.0) + wall_s
    if not seconds:
        return None
    figure = go.Figure(go.Bar(y=list(seconds)[::-1], x=list(seconds.values())[::-1], orientation="h", marker_color=COLOURS[0]))
    return _layout(figure, height=90 + 24 * len(seconds), xaxis_title="seconds").update_yaxes(automargin=True)
