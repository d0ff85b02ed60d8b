"""Charts as SVG that the page's style sheet colours: scales, axes, and a frame to draw into.

Colours are classes (``c-blue``), never values, so that one drawing serves both colour schemes and
print. Every mark that stands for a configuration carries its key (``data-c``), which the script
reads; without the script the chart is the same picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

COLOURS = ("blue", "vermilion", "green", "purple", "orange", "sky", "yellow", "black")
SHAPES = (
    "circle", "square", "diamond", "triangle", "down", "plus", "cross", "pentagon",
)  # fmt: skip
"""Colour and shape always change together, so that neither is needed to tell marks apart."""
MAX_TICKS = 8


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] onto pixels [start, end]; end may be the smaller one."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round values inside the range, 1, 2 or 5 times a power of ten apart."""
        step = _round_step((self.high - self.low) / MAX_TICKS)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]

    def tick_text(self, value: float) -> str:
        """A tick's label, with as many decimals as the step needs."""
        step = _round_step((self.high - self.low) / MAX_TICKS)
        if self.high >= 1e6:
            return f"{value / 1e6:g} M"
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        return f"{value + 0.0:.{decimals}f}" if abs(value) > step / 2 else "0"


def _round_step(step: float) -> float:
    power = 10 ** math.floor(math.log10(step))
    return power * next((m for m in (1, 2, 5) if m * power >= step * (1 - 1e-9)), 10)


def scale_of(
    values: Iterable[float], start: float, end: float, *, pad: float = 0.05, zero: bool = False
) -> Scale:
    """A scale that holds all values with some room around them.

    Args:
        values: finite ones.
        start: pixel of the low end.
        end: pixel of the high end.
        pad: room at each end, as a share of the range.
        zero: whether 0 must be in it; an end that is 0 gets no room.
    """
    known = list(values) + ([0.0] if zero else [])
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    room = (high - low) * pad if high > low else max(abs(high), 1e-3) * 0.1
    low, high = (
        (low if zero and low == 0 else low - room),
        (high if zero and high == 0 else high + room),
    )
    return Scale(low, high if high > low else low + 1.0, start, end)


@dataclass
class Chart:
    """A frame with two scales; parts are drawn in the order they come.

    Attributes:
        width: pixels of the drawing's own grid.
        height: the same.
        x: scale of the horizontal axis.
        y: scale of the vertical axis.
        parts: SVG.
    """

    width: float
    height: float
    x: Scale
    y: Scale
    parts: list[str] = field(default_factory=list)

    def add(self, *parts: str) -> None:
        """Draw on top of what is there."""
        self.parts += parts

    def axes(self, x_name: str = "", y_name: str = "", *, grid: str = "xy") -> None:
        """Both axes with ticks and names; ``grid``: lines across at the ticks of these axes."""
        if "x" in grid:
            self._x_axis(x_name)
        if "y" in grid:
            self._y_axis(y_name)
        left, right, top, bottom = self.x.start, self.x.end, self.y.end, self.y.start
        self.add(line(left, bottom, right, bottom, "axis"), line(left, top, left, bottom, "axis"))

    def _x_axis(self, name: str) -> None:
        bottom, top = self.y.start, self.y.end
        for value in self.x.ticks:
            at = self.x(value)
            self.add(line(at, top, at, bottom, "grid"))
            self.add(text(at, bottom + 18, self.x.tick_text(value), "soft", anchor="middle"))
        if name:
            middle = (self.x.start + self.x.end) / 2
            self.add(text(middle, bottom + 40, name, anchor="middle"))

    def _y_axis(self, name: str) -> None:
        left, right = self.x.start, self.x.end
        for value in self.y.ticks:
            at = self.y(value)
            self.add(line(left, at, right, at, "grid"))
            self.add(text(left - 8, at + 4, self.y.tick_text(value), "soft", anchor="end"))
        if name:
            self.add(text(left, self.y.end - 12, name))

    def svg(self, title: str, description: str, *, classes: str = "") -> str:
        """The drawing, named and described for people who do not see it."""
        return (
            f'<svg class="chart {classes}" viewBox="0 0 {number(self.width)} '
            f'{number(self.height)}" role="group" aria-label="{escape(title)}">'
            f"<desc>{escape(description)}</desc>{''.join(self.parts)}</svg>"
        )


def number(value: float) -> str:
    """A coordinate: a tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0")


def line(x1: float, y1: float, x2: float, y2: float, classes: str) -> str:
    """A straight line."""
    return (
        f'<line class="{classes}" x1="{number(x1)}" y1="{number(y1)}" '
        f'x2="{number(x2)}" y2="{number(y2)}"/>'
    )


def polyline(points: Sequence[tuple[float, float]], classes: str, more: str = "") -> str:
    """A line through points; ``more``: further attributes."""
    found = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    return f'<polyline class="{classes}" points="{found}"{more}/>'


def text(x: float, y: float, content: str, classes: str = "", *, anchor: str = "start") -> str:
    """Words, escaped."""
    return (
        f'<text class="{classes}" x="{number(x)}" y="{number(y)}" '
        f'text-anchor="{anchor}">{escape(content)}</text>'
    )


def bar(x: float, y: float, width: float, height: float, classes: str, more: str = "") -> str:
    """A filled rectangle."""
    return (
        f'<rect class="{classes}" x="{number(x)}" y="{number(y)}" width="{number(max(width, 0))}" '
        f'height="{number(max(height, 0))}"{more}/>'
    )


def interval(chart: Chart, low: float, high: float, at: float, classes: str) -> str:
    """A horizontal interval with ends, ``at`` pixels from the top."""
    a, b = chart.x(low), chart.x(high)
    return path(f"M{_p(a, at - 4)}V{number(at + 4)}M{_p(a, at)}H{number(b)}"
                f"M{_p(b, at - 4)}V{number(at + 4)}", f"interval {classes}")  # fmt: skip


def upright(chart: Chart, low: float, high: float, at: float, classes: str) -> str:
    """A vertical interval with ends, ``at`` pixels from the left."""
    a, b = chart.y(low), chart.y(high)
    return path(f"M{_p(at - 4, a)}H{number(at + 4)}M{_p(at, a)}V{number(b)}"
                f"M{_p(at - 4, b)}H{number(at + 4)}", f"interval {classes}")  # fmt: skip


def path(d: str, classes: str, more: str = "") -> str:
    """A path."""
    return f'<path class="{classes}" d="{d}"{more}/>'


def mark(
    shape: str, x: float, y: float, size: float, classes: str, *, key: str = "", name: str = ""
) -> str:
    """One mark of ``SHAPES``, centred; ``size`` is half its width.

    ``key`` is the configuration it stands for, ``name`` what a screen reader says of it.
    """
    more = ""
    if key:
        more = (
            f' data-c="{escape(key)}" data-x="{number(x)}" data-y="{number(y)}" role="button" '
            f'tabindex="-1" aria-label="{escape(name)}"'
        )
    return path(_outline(shape, x, y, size), f"mark {classes}", more)


def _outline(shape: str, x: float, y: float, r: float) -> str:
    if shape == "circle":
        return (
            f"M{_p(x - r, y)}a{number(r)} {number(r)} 0 1 0 {number(2 * r)} 0"
            f"a{number(r)} {number(r)} 0 1 0 {number(-2 * r)} 0z"
        )
    if shape == "plus":
        t = r / 2.6
        corners = [(-t, -r), (t, -r), (t, -t), (r, -t), (r, t), (t, t),
                   (t, r), (-t, r), (-t, t), (-r, t), (-r, -t), (-t, -t)]  # fmt: skip
    elif shape == "cross":
        t = r / 2
        corners = [(-r, -r + t), (-r + t, -r), (0, -t), (r - t, -r), (r, -r + t), (t, 0),
                   (r, r - t), (r - t, r), (0, t), (-r + t, r), (-r, r - t), (-t, 0)]  # fmt: skip
    else:
        corners = {
            "square": [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
            "diamond": [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)],
            "triangle": [(0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
            "down": [(0, 1.2), (1.1, -0.8), (-1.1, -0.8)],
            "pentagon": [
                (1.1 * math.sin(k * math.tau / 5), -1.1 * math.cos(k * math.tau / 5))
                for k in range(5)
            ],
        }[shape]
        corners = [(a * r, b * r) for a, b in corners]
    return "M" + "L".join(_p(x + a, y + b) for a, b in corners) + "z"


def _p(x: float, y: float) -> str:
    return f"{number(x)} {number(y)}"


@dataclass(frozen=True)
class Key:
    """One entry of a legend."""

    name: str
    shape: str
    classes: str
    size: float = 6.0


def legend(entries: Sequence[Key], x: float, y: float, width: float) -> tuple[list[str], float]:
    """Entries from left to right, in as many lines as they need; also the height they take."""
    parts, at, row = [], x, y
    for entry in entries:
        room = 30 + 7.2 * len(entry.name)
        if at > x and at + room > x + width:
            at, row = x, row + 22
        parts.append(mark(entry.shape, at + 8, row - 4, entry.size, entry.classes))
        parts.append(text(at + 20, row, entry.name))
        at += room
    return parts, row - y + 22
