"""A test that is a script, without rules_shell or rules_python: both Bazels have it."""

def _script_test_impl(ctx):
    executable = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.symlink(output = executable, target_file = ctx.file.src, is_executable = True)
    runfiles = ctx.runfiles(files = [executable, ctx.file.src] + ctx.files.data)
    for target in ctx.attr.data:
        runfiles = runfiles.merge(target[DefaultInfo].default_runfiles)
    return [
        DefaultInfo(executable = executable, files = depset([executable]), runfiles = runfiles),
        testing.TestEnvironment(ctx.attr.env),
    ]

script_test = rule(
    implementation = _script_test_impl,
    attrs = {
        "data": attr.label_list(allow_files = True, doc = "Files and programs that the script uses; $(rootpath) works in args."),
        "env": attr.string_dict(doc = "The environment of the test."),
        "src": attr.label(
            allow_single_file = True,
            doc = "An executable file with a #! line. It starts in the runfiles folder of this workspace.",
            mandatory = True,
        ),
    },
    doc = "Runs a script; it fails when the script does.",
    test = True,
)
