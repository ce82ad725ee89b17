"""programs.json: which programs //bench:compare runs, as paths below the runfiles of this repository."""

def _column(id, title, kind, programs, gil = True, note = ""):
    spec = {"id": id, "title": title, "kind": kind, "programs": programs, "gil": gil}
    if note:
        spec["note"] = note
    return spec

def _path(target):
    return target[DefaultInfo].files_to_run.executable.short_path

def _bench_programs_impl(ctx):
    runfiles = ctx.runfiles()
    for target in ctx.attr.pyrt_gil + ctx.attr.pyrt_ft + ctx.attr.floors + ctx.attr.peers.keys():
        runfiles = runfiles.merge(target[DefaultInfo].default_runfiles)

    columns = [
        _column("pyrt_gil", "pyrt GIL", "pyrt_gil", [_path(target) for target in ctx.attr.pyrt_gil]),
        _column("pyrt_ft", "pyrt FT", "pyrt_ft", [_path(target) for target in ctx.attr.pyrt_ft], gil = False),
    ]
    for target, text in ctx.attr.peers.items():
        id, title, gil = text.split("|")
        columns.append(_column(id, title, "peer", [_path(target)], gil = gil == "True"))
    if not ctx.attr.peers:
        columns.append(_column("cpython", "CPython", "peer", [], note = ctx.attr.note))
    columns.append(_column("floor", "floor", "floor", [_path(target) for target in ctx.attr.floors]))

    output = ctx.actions.declare_file(ctx.label.name + ".json")
    ctx.actions.write(output, json.encode_indent({"columns": columns}, indent = " "))
    return [DefaultInfo(
        files = depset([output]),
        runfiles = runfiles.merge(ctx.runfiles(files = [output])),
    )]

bench_programs = rule(
    implementation = _bench_programs_impl,
    attrs = {
        "floors": attr.label_list(doc = "Programs that measure the machine."),
        "note": attr.string(doc = "Why there are no peers."),
        "peers": attr.label_keyed_string_dict(doc = "Program -> \"id|title|gil\", oldest Python first."),
        "pyrt_ft": attr.label_list(doc = "pyrt's benchmarks, GIL-disabled build."),
        "pyrt_gil": attr.label_list(doc = "pyrt's benchmarks, GIL-enabled build."),
    },
    doc = "Writes <name>.json for compare.py, and brings the programs along.",
)
