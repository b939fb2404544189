"""Plots as SVG: the few kinds that the report needs, the same bytes for the same figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH = 760
ROW = 22
LEFT = 190  # room for the names of rows
RIGHT = 90
TOP = 44
COLORS = ("#1b6ca8", "#d1495b", "#2e8b57", "#edae49", "#7b5ea7", "#6c757d", "#00798c", "#b5651d")

Scale = Callable[[float], float]  # from a figure to a coordinate


class Row(NamedTuple):
    """A row of `dots`: the point, and the line that it lies on."""

    name: str
    low: float
    middle: float
    high: float


class Axis(NamedTuple):
    """Figures along one side, logarithmic or from 0 on."""

    title: str
    low: float
    high: float
    logarithmic: bool

    @classmethod
    def over(cls, title: str, figures: Sequence[float], *, logarithmic: bool) -> Axis:
        """Return one that has room for them."""
        if not logarithmic:
            return cls(title, min(0, *figures), max(0, *figures) or 1, False)
        return cls(title, min(figures), max(max(figures), min(figures) * 1.01), True)

    def scale(self, start: float, end: float) -> Scale:
        """Return the function to the coordinates between start and end."""

        def place(figure: float) -> float:
            if self.logarithmic:
                share = math.log(figure / self.low) / math.log(self.high / self.low)
            else:
                share = (figure - self.low) / (self.high - self.low)
            return start + share * (end - start)

        return place

    def ticks(self) -> Iterator[float]:
        """Yield round figures: 1, 2, 5, 10, ... if logarithmic, else four to nine steps."""
        if self.logarithmic:
            for power in range(math.floor(math.log10(self.low)), 12):
                for digit in (1, 2, 5):
                    if self.low <= digit * 10**power <= self.high:
                        yield digit * 10**power
            return
        step = 10 ** math.floor(math.log10(self.high - self.low))
        step = next(
            step * f for f in (0.1, 0.2, 0.5, 1, 2) if (self.high - self.low) / (step * f) < 9
        )
        for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1):
            yield number * step


def dots(title: str, unit: str, rows: Sequence[Row]) -> str:
    """Return a row for each: its point, and a line from its lowest to its highest figure."""
    figures = [figure for row in rows for figure in row[1:]]
    axis = Axis.over(unit, figures, logarithmic=True)
    place = axis.scale(LEFT, WIDTH - RIGHT)
    bottom = TOP + ROW * len(rows)
    body = list(_grid(axis, place, bottom))
    for number, row in enumerate(rows):
        y = TOP + ROW * (number + 0.5)
        color = COLORS[1] if row.name.startswith("pyns") else COLORS[0]
        body += [
            _text(LEFT - 8, y + 4, row.name, "end"),
            _line(place(row.low), y, place(row.high), y, color, 2),
            f'<circle cx="{place(row.middle):.1f}" cy="{y:.1f}" r="4.5" fill="{color}"/>',
            _text(WIDTH - RIGHT + 8, y + 4, _figure(row.middle)),
        ]
    return _document(title, bottom + 40, body)


def bars(title: str, unit: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """Return a group of bars for each row, one for each series."""
    series = list(dict.fromkeys(name for row in rows.values() for name in row))
    figures = [figure for row in rows.values() for figure in row.values()]
    axis = Axis.over(unit, figures, logarithmic=False)
    place = axis.scale(LEFT, WIDTH - RIGHT)
    height = 9 * len(series) + 8
    bottom = TOP + height * len(rows)
    body = list(_grid(axis, place, bottom))
    for number, (name, row) in enumerate(rows.items()):
        y = TOP + height * number + 4
        body.append(_text(LEFT - 8, y + height / 2, name, "end"))
        for which, figure in row.items():
            start, end = sorted((place(0), place(figure)))
            color = COLORS[series.index(which)]
            body.append(_rectangle(start, y + 9 * series.index(which), end - start, 8, color))
    return _document(title, bottom + 62, [*body, *_legend(series, bottom + 52)])


def stack(title: str, unit: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """Return a bar for each row, its parts one after the other."""
    parts = list(dict.fromkeys(name for row in rows.values() for name in row))
    axis = Axis.over(unit, [sum(row.values()) for row in rows.values()], logarithmic=False)
    place = axis.scale(LEFT, WIDTH - RIGHT)
    bottom = TOP + 2 * ROW * len(rows)
    body = list(_grid(axis, place, bottom))
    for number, (name, row) in enumerate(rows.items()):
        y, done = TOP + 2 * ROW * number + 6, 0.0
        body.append(_text(LEFT - 8, y + ROW - 2, name, "end"))
        for part, figure in row.items():
            color = COLORS[parts.index(part) % len(COLORS)]
            width = place(done + figure) - place(done)
            shade = 1 if parts.index(part) < len(COLORS) else 0.55
            body.append(_rectangle(place(done), y, width, 2 * ROW - 12, color, shade))
            done += figure
        body.append(_text(place(done) + 6, y + ROW - 2, _figure(done)))
    legend = list(_legend(parts, bottom + 52))
    return _document(title, bottom + 62 + 16 * ((len(parts) - 1) // 4), [*body, *legend])


def lines(
    title: str,
    x_title: str,
    y_title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    logarithmic: bool = True,
) -> str:
    """Return a line for each series; x is logarithmic, y is if said so."""
    points = [point for line in series.values() for point in line]
    xs, ys = sorted({x for x, _ in points}), [y for _, y in points]
    x_axis = Axis.over(x_title, xs, logarithmic=True)
    y_axis = Axis.over(y_title, _rounded_out(ys) if logarithmic else ys, logarithmic=logarithmic)
    left, bottom = 70, TOP + 280
    x_place = x_axis.scale(left, WIDTH - 30)
    y_place = y_axis.scale(bottom, TOP)
    body = list(_grid(x_axis, x_place, bottom, xs))
    for tick in y_axis.ticks():
        y = y_place(tick)
        body += [
            _line(left, y, WIDTH - 30, y, "#dddddd", 1),
            _text(left - 6, y + 4, _figure(tick), "end"),
        ]
    body.append(_text(left, TOP - 8, y_title))
    for number, line in enumerate(series.values()):
        color = COLORS[number % len(COLORS)]
        path = " ".join(f"{x_place(x):.1f},{y_place(y):.1f}" for x, y in line)
        body.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        body += [
            f'<circle cx="{x_place(x):.1f}" cy="{y_place(y):.1f}" r="3" fill="{color}"/>'
            for x, y in line
        ]
    legend = list(_legend(list(series), bottom + 52))
    return _document(title, bottom + 62 + 16 * ((len(series) - 1) // 4), [*body, *legend])


def _rounded_out(figures: Sequence[float]) -> list[float]:
    """Return the round figures that they lie between: a small range is not made to look large."""
    power = 10 ** math.floor(math.log10(min(figures)))
    low = max(digit * power for digit in (1, 2, 5) if digit * power <= min(figures))
    power = 10 ** math.floor(math.log10(max(figures)))
    return [low, min(digit * power for digit in (1, 2, 5, 10) if digit * power >= max(figures))]


def _grid(
    axis: Axis, place: Scale, bottom: float, ticks: Sequence[float] | None = None
) -> Iterator[str]:
    for tick in axis.ticks() if ticks is None else ticks:
        yield _line(place(tick), TOP, place(tick), bottom, "#dddddd", 1)
        yield _text(place(tick), bottom + 15, _figure(tick), "middle")
    yield _text((place(axis.low) + place(axis.high)) / 2, bottom + 32, axis.title, "middle")


def _legend(names: Sequence[str], y: float) -> Iterator[str]:
    for number, name in enumerate(names):
        x = 20 + 182 * (number % 4)
        row = y - 4 + 16 * (number // 4)
        shade = 1 if number < len(COLORS) else 0.55
        yield _rectangle(x, row - 9, 10, 10, COLORS[number % len(COLORS)], shade)
        yield _text(x + 15, row, name)


def _figure(figure: float) -> str:
    return f"{figure:.0f}" if figure == round(figure) or abs(figure) >= 10 else f"{figure:.2g}"


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, color: str, width: float) -> str:
    points = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {points} stroke="{color}" stroke-width="{width}"/>'


def _rectangle(
    x: float, y: float, width: float, height: float, color: str, shade: float = 1
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}"'
    return f'<rect {place} fill="{color}" fill-opacity="{shade}"/>'


def _document(title: str, height: float, body: Sequence[str]) -> str:
    size = f'width="{WIDTH}" height="{height:.0f}" viewBox="0 0 {WIDTH} {height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif"'
    return "\n".join(
        [
            f'{head} font-size="12" fill="#222222" role="img">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>',
            f'<text x="20" y="22" font-size="14" font-weight="bold">{escape(title)}</text>',
            *body,
            "</svg>\n",
        ]
    )
