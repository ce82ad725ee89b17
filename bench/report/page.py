"""compare.html: one file, no script, nothing loaded from elsewhere."""

import html

from report import histogram, svg
from report import table as t
from report.results import median

_NANOS = {"ns": 1.0, "us": 1e3, "ms": 1e6}

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#5b6470;--line:#dfe3e8;--page:#fbfbfa;--card:#fff;--good:#127a43;
--bad:#b3261e;--gil:#1f5fd0;--ft:#0b8f86;--p0:#d9730d;--p1:#9a4fc4;--p2:#a08300;--p3:#7a4a2b;--floor:#8a929c}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--soft:#9aa4b0;--line:#30363d;--page:#0f1216;--card:#171b21;
--good:#4cc38a;--bad:#ff7b72;--gil:#6ea8ff;--ft:#3fd0c4;--p0:#f2a65a;--p1:#c79bf0;--p2:#d8c04a;--p3:#c79a7a;--floor:#76808c}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,"Segoe UI",
"DejaVu Sans",sans-serif}main{max-width:1240px;margin:0 auto;padding:32px 24px 64px}h1{font-size:26px;margin:0 0 4px}
h2{font-size:18px;margin:40px 0 10px}h3{font-size:14px;margin:0 0 6px;font-weight:600}p{max-width:78ch;margin:6px 0}
.soft{color:var(--soft)}.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:20px 0}.tile{background:var(--card);border:1px
solid var(--line);border-radius:10px;padding:12px 18px;min-width:150px}.tile b{display:block;font-size:24px;
font-variant-numeric:tabular-nums}.tile span{color:var(--soft);font-size:13px}.scroll{overflow-x:auto;background:var(--card);
border:1px solid var(--line);border-radius:10px}table{border-collapse:collapse;width:100%;font-size:13.5px;
font-variant-numeric:tabular-nums}th,td{padding:5px 10px;text-align:right;white-space:nowrap;border-bottom:1px solid
var(--line)}tr:last-child td{border-bottom:0}th{font-weight:600;color:var(--soft);vertical-align:bottom}th:first-child,
td:first-child,td.left,th.left{text-align:left}tr.group td{font-weight:600;padding-top:14px;background:color-mix(in srgb,
var(--line) 28%,transparent)}td.gap{color:var(--soft)}.yes{color:var(--good);font-weight:600}.no{color:var(--bad);
font-weight:600}.gain{font-weight:600}.worse{color:var(--bad)}.wide{color:var(--soft)}.grid-2{display:grid;gap:14px;
grid-template-columns:repeat(auto-fill,minmax(360px,1fr))}figure{margin:0;background:var(--card);border:1px solid var(--line);
border-radius:10px;padding:12px 12px 6px}svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font-size:10.5px}
svg .name{font-size:11.5px}svg .grid{stroke:var(--line);stroke-width:1}svg .line{fill:none;stroke-width:2;
stroke-linejoin:round}svg .floor{stroke:var(--floor);stroke-width:1.5;stroke-dasharray:5 4}.gil{stroke:var(--gil)}
.ft{stroke:var(--ft)}.p0{stroke:var(--p0)}.p1{stroke:var(--p1)}.p2{stroke:var(--p2)}.p3{stroke:var(--p3)}svg .dot{fill:var(--card);
stroke-width:2}.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:4px 0 12px;font-size:13px;color:var(--soft)}
.legend svg{width:26px;height:10px;display:inline-block;vertical-align:middle;margin-right:6px}ul{margin:6px 0;padding-left:20px}
.warn{border-left:4px solid var(--bad);padding:6px 12px;background:var(--card);margin:12px 0}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 18px;font-size:13.5px}dt{color:var(--soft)}dd{margin:0}
"""

_e = lambda text: html.escape(str(text))


def css_of(column, columns):
    if column.kind == "pyrt_gil":
        return "gil"
    if column.kind == "pyrt_ft":
        return "ft"
    peers = [c for c in columns if c.kind == "peer"]
    return f"p{peers.index(column) % 4}"


def _legend(columns, floor=True):
    items = [(css_of(c, columns), c.title) for c in columns if c.kind != "floor"]
    items += [("floor", "floor of the machine")] if floor else []
    return '<div class="legend">' + "".join(
        f'<span><svg viewBox="0 0 26 10"><line class="line {css}" x1="0" y1="5" x2="26" y2="5"/></svg>{_e(title)}</span>'
        for css, title in items) + "</div>"


def _cell(cell):
    if cell.value is None:
        return f'<td class="gap" title="{html.escape(cell.note or "", quote=True)}">–</td>'
    samples = ", ".join(t.number(v) for _, v in sorted(cell.samples.items()))
    wide = ' class="wide"' if cell.spread > t.WIDE_SPREAD else ""
    return f'<td{wide} title="repetitions: {samples}">{cell}</td>'


def _main_table(lines, columns):
    pyrt, peers = t.columns_of(columns)
    out = ['<div class="scroll"><table><thead><tr><th>what</th><th class="left">unit</th>']
    out += [f"<th>{_e(c.title)}</th>" for c in pyrt + peers] + ["<th>floor</th>"]
    out += [f"<th>gain,<br>{_e(c.title.split(maxsplit=1)[-1])}</th>" for c in pyrt]
    out.append("<th>target</th>" + "".join(f"<th>met,<br>{_e(c.title.split(maxsplit=1)[-1])}</th>" for c in pyrt))
    out.append("</tr></thead><tbody>")
    group = None
    for line in lines:
        if line.row.group != group:
            group = line.row.group
            out.append(f'<tr class="group"><td colspan="{4 + 3 * len(pyrt) + len(peers)}">{_e(group)}</td></tr>')
        out.append(f'<tr><td>{_e(line.row.title)}</td><td class="left">{_e(line.row.unit)}</td>')
        out += [_cell(line.cells[c.id]) for c in pyrt + peers] + [_cell(line.floor)]
        for column in pyrt:
            gain = line.gains.get(column.id)
            if gain is None:
                out.append('<td class="gap">–</td>')
                continue
            title = f"{t.number(gain[1])}x to {t.number(gain[2])}x over the repetitions"
            out.append(f'<td class="{"gain" if gain[0] >= 1 else "worse"}" title="{title}">{t.gain_text(line, column.id)}</td>')
        out.append(f"<td>{_e(t.target_text(line))}</td>")
        for column in pyrt:
            met = line.met.get(column.id)
            css = {True: "yes", False: "no", None: "gap"}[met]
            out.append(f'<td class="{css}">{ {True: "yes", False: "no", None: "–"}[met] }</td>')
        out.append("</tr>")
    return "".join(out) + "</tbody></table></div>"


def _tiles(lines, columns):
    pyrt, _ = t.columns_of(columns)
    tiles = []
    for column in pyrt:
        judged = [line.met[column.id] for line in lines if line.met.get(column.id) is not None]
        gains = {r: line.gains[column.id][0] for r, line in enumerate(lines) if column.id in line.gains}
        if judged:
            tiles.append((f"{sum(judged)} of {len(judged)}", f"targets met, {column.title}"))
        if gains:
            tiles.append((t.number(median(gains)) + "x", f"median gain over CPython, {column.title}"))
    return '<div class="tiles">' + "".join(f'<div class="tile"><b>{_e(a)}</b><span>{_e(b)}</span></div>'
                                          for a, b in tiles) + "</div>"


def _floor_ns(line):
    return line.floor.value * _NANOS[line.row.unit] if line.floor.value and line.row.unit in _NANOS else None


def _tails(lines, columns, results):
    figures = []
    for line in lines:
        found = t.distributions(line, columns, results)
        if not found:
            continue
        series = [(css_of(d.column, columns), d.column.title, histogram.slower_than(d.histogram)) for d in found]
        figures.append(f"<figure><h3>{_e(line.row.title)}</h3>"
                       f"{svg.tail_chart(line.row.group + ', ' + line.row.title, series, _floor_ns(line))}</figure>")
    return figures


def _curves(lines, columns):
    plots = {}
    for line in lines:
        if line.row.curve:
            plots.setdefault(line.row.curve[0], []).append(line)
    figures = []
    for title, members in plots.items():
        if len(members) < 2:
            continue
        series = []
        for column in columns:
            if column.kind == "floor":
                continue
            points = [(m.row.curve[1], m.cells[column.id].value * _NANOS[m.row.unit]) for m in members
                      if m.cells[column.id].value]
            series.append((css_of(column, columns), column.title, points))
        chart = svg.scaling_chart(title, series, members[0].row.axis, _floor_ns(members[0]))
        if chart:
            figures.append(f"<figure><h3>{_e(title)}</h3>{chart}</figure>")
    return figures


def _detail_table(lines, columns, results):
    out = ['<div class="scroll"><table><thead><tr><th>what</th><th class="left">side</th><th>p50</th><th>p99</th>'
           '<th>max</th><th class="left">unit</th><th>samples</th><th>switches/s</th><th>fairness</th><th>CPUs used</th>'
           '<th>sleeps/op</th></tr></thead><tbody>']
    optional = lambda value: "–" if value is None else t.number(value)
    for line in lines:
        for i, d in enumerate(t.distributions(line, columns, results)):
            out.append(f"<tr><td>{_e(line.row.title) if i == 0 else ''}</td><td class='left'>{_e(d.column.title)}</td>"
                       f"<td>{t.number(d.p50)}</td><td>{t.number(d.p99)}</td><td>{t.number(d.worst)}</td>"
                       f"<td class='left'>{line.row.unit}</td><td>{d.count}</td><td>{optional(d.rate)}</td>"
                       f"<td>{optional(d.fairness)}</td><td>{optional(d.cpus)}</td><td>{optional(d.sleeps)}</td></tr>")
    return "".join(out) + "</tbody></table></div>"


def _floor_table(floors):
    rows = "".join(f"<tr><td>{_e(title)}</td><td>{cell}</td><td class='left'>{_e(unit)}</td></tr>"
                   for title, unit, cell in floors)
    return f'<div class="scroll" style="max-width:560px"><table><tbody>{rows}</tbody></table></div>'


def render(lines, columns, results, floors, context, notes):
    warnings = "".join(f'<div class="warn">{_e(note)}</div>' for note in notes if note.startswith("noisy"))
    facts = "".join(f"<dt>{_e(key.replace('_', ' '))}</dt><dd>{_e(value)}</dd>" for key, value in context.items()
                    if isinstance(value, (str, int, float, bool)))
    parts = [
        f"<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>pyrt beside CPython, {_e(context['commit'])}</title><style>{_STYLE}</style></head><body><main>",
        "<h1>pyrt beside CPython</h1>",
        f"<p class=soft>{_e(context['date'])} · commit {_e(context['commit'])} · {_e(context['cpu'])}, "
        f"{context['num_cpus']} CPUs{', virtual machine' if context['virtual_machine'] else ''} · "
        f"{context['repetitions']} interleaved repetitions</p>",
        warnings,
        _tiles(lines, columns),
        _main_table(lines, columns),
        f"<p class=soft>{_e(t.HOW_FIGURES_ARE_TAKEN)} Hover for each repetition. Grey with ~: the repetitions differ "
        "by more than 30 %. Gain: CPython's figure over pyrt's within one repetition (inverted where more is better), against "
        "the newest Python of the same kind, else the newest with a GIL.</p>",
    ]
    curves, tails = _curves(lines, columns), _tails(lines, columns, results)
    if curves:
        parts += ["<h2>As work grows</h2>", _legend(columns), f'<div class="grid-2">{"".join(curves)}</div>']
    if tails:
        parts += ["<h2>Latency distributions</h2>",
                  "<p class=soft>All repetitions together. Read 50 % for the median, 1 % for p99; the right end is the "
                  "worst sample.</p>", _legend(columns), f'<div class="grid-2">{"".join(tails)}</div>',
                  "<h2>The same in figures</h2>", _detail_table(lines, columns, results)]
    parts += ["<h2>What the machine charges</h2>", _floor_table(floors)]
    others = [note for note in notes if not note.startswith("noisy")]
    if others:
        parts += ["<h2>Notes</h2><ul>" + "".join(f"<li>{_e(note)}</li>" for note in others) + "</ul>"]
    parts += ["<h2>Context</h2>", f"<dl>{facts}</dl>", "</main></body></html>\n"]
    return "".join(parts)
