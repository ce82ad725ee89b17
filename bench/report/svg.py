"""Line charts with logarithmic axes as inline SVG. Colours are CSS classes, so that a page can be light or dark."""

import html
import math

_WIDTH, _HEIGHT = 460, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 14, 44


def _decades(low, high):
    return [10.0 ** e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def time_label(nanos):
    for limit, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if nanos >= limit:
            return f"{nanos / limit:g} {unit}"
    return f"{nanos:g} ns"


class _Axis:
    """Maps [low, high] to pixels, logarithmically."""

    def __init__(self, low, high, pixel_low, pixel_high):
        self._low = math.log10(low)
        self._span = max(1e-9, math.log10(high) - self._low)
        self._from, self._to = pixel_low, pixel_high

    def __call__(self, value):
        share = (math.log10(max(value, 1e-30)) - self._low) / self._span
        return self._from + (self._to - self._from) * min(1.02, max(-0.02, share))


def _frame(body, title, x_name, y_name):
    """The drawing with its axes' names."""
    middle_x = (_LEFT + _WIDTH - _RIGHT) / 2
    middle_y = (_TOP + _HEIGHT - _BOTTOM) / 2
    return (f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title, quote=True)}">'
            f'{body}'
            f'<text class="name" x="{middle_x:.0f}" y="{_HEIGHT - 8}" text-anchor="middle">{html.escape(x_name)}</text>'
            f'<text class="name" transform="translate(13 {middle_y:.0f}) rotate(-90)" text-anchor="middle">'
            f'{html.escape(y_name)}</text></svg>')


def _grid_x(axis, values, label):
    out = []
    for value in values:
        x = axis(value)
        out.append(f'<line class="grid" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_HEIGHT - _BOTTOM}"/>'
                   f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="middle">'
                   f'{label(value)}</text>')
    return "".join(out)


def _grid_y(axis, values, label):
    out = []
    for value in values:
        y = axis(value)
        out.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>'
                   f'<text class="tick" x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{label(value)}</text>')
    return "".join(out)


def _path(points):
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def tail_chart(title, series, floor_ns=None):
    """Which share of the samples took longer than t. `series`: [(css class, name, [(ns, share), ...])]."""
    series = [(css, name, [p for p in points if p[1] > 0]) for css, name, points in series]
    series = [s for s in series if s[2]]
    if not series:
        return ""
    times = [t for _, _, points in series for t, _ in points] + ([floor_ns] if floor_ns else [])
    lowest_share = max(1e-6, min(share for _, _, points in series for _, share in points))
    decades = _decades(max(1.0, min(times)), max(times))
    x = _Axis(decades[0], decades[-1], _LEFT, _WIDTH - _RIGHT)
    shares = [s for s in _decades(lowest_share, 1.0)]
    y = _Axis(shares[0], 1.0, _HEIGHT - _BOTTOM, _TOP)
    body = _grid_x(x, decades, time_label)
    body += _grid_y(y, shares, lambda s: f"{100 * s:g} %")
    if floor_ns:
        body += (f'<line class="floor" x1="{x(floor_ns):.1f}" y1="{_TOP}" x2="{x(floor_ns):.1f}" '
                 f'y2="{_HEIGHT - _BOTTOM}"><title>floor: {time_label(round(floor_ns, 1))}</title></line>')
    for css, name, points in series:
        drawn = [(x(t), y(share)) for t, share in points]
        drawn.append((drawn[-1][0], y(shares[0])))
        body += f'<path class="line {css}" d="{_path(drawn)}"><title>{html.escape(name)}</title></path>'
    return _frame(body, title, "latency", "share of samples slower than this")


def scaling_chart(title, series, x_name, floor_ns=None):
    """How a figure grows. `series`: [(css class, name, [(x, ns), ...])]."""
    series = [(css, name, sorted(points)) for css, name, points in series if points]
    if not series:
        return ""
    xs = sorted({p[0] for _, _, points in series for p in points})
    # The axis is logarithmic; none at all stands where half of the least would.
    zero = next((x for x in xs if x > 0), 1) / 2
    values = [p[1] for _, _, points in series for p in points] + ([floor_ns] if floor_ns else [])
    decades = _decades(max(1e-3, min(values)), max(values))
    if len(decades) == 1:
        decades.append(decades[0] * 10)
    x = _Axis((xs[0] or zero) / 1.15, (xs[-1] or zero) * 1.15, _LEFT, _WIDTH - _RIGHT)
    y = _Axis(decades[0], decades[-1], _HEIGHT - _BOTTOM, _TOP)
    body = _grid_x(x, [v or zero for v in xs], lambda v: "0" if v == zero else f"{v:g}")
    body += _grid_y(y, decades, time_label)
    if floor_ns:
        body += (f'<line class="floor" x1="{_LEFT}" y1="{y(floor_ns):.1f}" x2="{_WIDTH - _RIGHT}" '
                 f'y2="{y(floor_ns):.1f}"><title>floor: {time_label(round(floor_ns, 1))}</title></line>')
    for css, name, points in series:
        drawn = [(x(a or zero), y(b)) for a, b in points]
        body += f'<path class="line {css}" d="{_path(drawn)}"/>'
        for (px, py), (a, b) in zip(drawn, points):
            body += (f'<circle class="dot {css}" cx="{px:.1f}" cy="{py:.1f}" r="3.5">'
                     f'<title>{html.escape(name)}: {a:g} → {time_label(float(f"{b:.3g}"))}</title></circle>')
    return _frame(body, title, x_name, "time")
