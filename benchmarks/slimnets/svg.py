"""A plot as an SVG file: lines or points over two axes, in the reader's light or dark.

No library: a page of the repository shows the file as it is, its colours follow the reader's setting by a media query,
and it stands on its own ground, so that it can be read where that is not passed on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 220, 40, 55
TICKS = 5
# Okabe and Ito's colours, which colour-blind readers tell apart, lightened where the ground is dark.
LIGHT = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#555555", "#a3002c", "#5e3c99", "#1b7837")
DARK = ("#56b4e9", "#ff9149", "#35d0a5", "#f0a3cc", "#f0e442", "#9ad4ff", "#bbbbbb", "#ff7a94", "#b9a2e8", "#8fd694")


@dataclass(frozen=True)
class Series:
    """One set of points with a name."""

    name: str
    points: Sequence[tuple[float, float]]
    joined: bool = True  # by a line; else each is a mark
    dashed: bool = False  # or, where not joined, an open mark: what others measured
    colour: int = 0  # its place in LIGHT and DARK


@dataclass(frozen=True)
class Plot:
    """Axes and what is drawn between them."""

    title: str
    x_name: str
    y_name: str
    series: Sequence[Series]
    log_x: bool = False


def svg(plot: Plot) -> str:
    """The file's text. Raises ValueError without a point."""
    points = [point for series in plot.series for point in series.points]
    if not points:
        raise ValueError(f"the plot {plot.title!r} has no points")
    x_axis = _Axis([_scaled(x, plot.log_x) for x, _ in points], LEFT, WIDTH - RIGHT)
    y_axis = _Axis([y for _, y in points], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'font-family="sans-serif" font-size="12">',
        f"<title>{escape(plot.title)}</title>",
        f"<style>{_style()}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="ink" x="{LEFT}" y="22" font-size="14" font-weight="bold">{escape(plot.title)}</text>',
        *_grid(plot, x_axis, y_axis),
    ]
    for place, series in enumerate(plot.series):
        places = [(x_axis.at(_scaled(x, plot.log_x)), y_axis.at(y)) for x, y in series.points]
        parts += _drawn(series, places)
        parts += _entry(series, TOP + 14 + 18 * place)
    return "\n".join([*parts, "</svg>", ""])


class _Axis:
    def __init__(self, values: Sequence[float], begin: float, end: float) -> None:
        low, high = min(values), max(values)
        margin = 0.04 * (high - low) or abs(high) * 0.1 or 1.0
        self.low, self.high, self._begin, self._end = low - margin, high + margin, begin, end

    def at(self, value: float) -> float:
        return self._begin + (value - self.low) / (self.high - self.low) * (self._end - self._begin)

    def ticks(self) -> list[float]:
        """Round numbers within the axis: steps of 1, 2 or 5 times a power of ten."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        first = math.ceil(self.low / step)
        return [step * number for number in range(first, math.floor(self.high / step) + 1)]


def _scaled(x: float, log: bool) -> float:
    return math.log10(x) if log else x


def _grid(plot: Plot, x_axis: _Axis, y_axis: _Axis) -> list[str]:
    parts = []
    for value in _decades(x_axis) if plot.log_x else x_axis.ticks():
        x, label = x_axis.at(value), 10**value if plot.log_x else value
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(
            f'<text class="ink" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{_number(label)}</text>'
        )
    for value in y_axis.ticks():
        y = y_axis.at(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="ink" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>')
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    turned = f'text-anchor="middle" transform="rotate(-90 18 {middle_y})"'
    parts.append(
        f'<text class="ink" x="{middle_x}" y="{HEIGHT - 14}" text-anchor="middle">{escape(plot.x_name)}</text>'
    )
    parts.append(f'<text class="ink" x="18" y="{middle_y}" {turned}>{escape(plot.y_name)}</text>')
    return parts


def _decades(axis: _Axis) -> list[float]:
    """1, 2 and 5 times each power of ten within an axis of logarithms; the powers alone where those are many."""
    powers = range(math.floor(axis.low), math.ceil(axis.high) + 1)
    factors = (1, 2, 5) if axis.high - axis.low < 3 else (1,)
    places = [power + math.log10(factor) for power in powers for factor in factors]
    return [place for place in places if axis.low <= place <= axis.high]


def _drawn(series: Series, places: Sequence[tuple[float, float]]) -> list[str]:
    colour = f"c{series.colour % len(LIGHT)}"
    if series.joined:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dashes = ' stroke-dasharray="6 4"' if series.dashed else ""
        return [f'<polyline class="{colour} line" points="{path}"{dashes}/>']
    kind = "open" if series.dashed else "mark"
    return [f'<circle class="{colour} {kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>' for x, y in places]


def _entry(series: Series, y: float) -> list[str]:
    x = WIDTH - RIGHT + 14
    sample = [(x, y - 4), (x + 20, y - 4)] if series.joined else [(x + 10, y - 4)]
    return [*_drawn(series, sample), f'<text class="ink" x="{x + 28}" y="{y}">{escape(series.name)}</text>']


def _number(value: float) -> str:
    """Three digits at most, thousands as k and millions as M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{0.0 if abs(value) < 1e-12 else value:.3g}"


def _style() -> str:
    return (
        f"{_colours('#ffffff', '#24292f', '#d8dee4', LIGHT)}"
        ".line{fill:none!important;stroke-width:2}.mark{stroke:none!important}.open{fill:none!important;stroke-width:2}"
        f"@media(prefers-color-scheme:dark){{{_colours('#0d1117', '#e6edf3', '#30363d', DARK)}}}"
    )


def _colours(ground: str, ink: str, grid: str, colours: Sequence[str]) -> str:
    own = "".join(f".c{place}{{stroke:{colour};fill:{colour}}}" for place, colour in enumerate(colours))
    return f".ground{{fill:{ground}}}.ink{{fill:{ink}}}.grid{{stroke:{grid}}}{own}"
