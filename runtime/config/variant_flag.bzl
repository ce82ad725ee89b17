"""The build settings behind `--@pyrt//runtime/config:gil=...` and its siblings."""

def _variant_flag_impl(ctx):
    value = ctx.build_setting_value
    if value not in ctx.attr.values:
        fail("--%s=%s: the value must be one of %s" % (ctx.label, value, ", ".join(ctx.attr.values)))
    return []

variant_flag = rule(
    implementation = _variant_flag_impl,
    attrs = {"values": attr.string_list(doc = "The values that are allowed.", mandatory = True)},
    build_setting = config.string(flag = True),
    doc = "A string flag of the command line that accepts only the listed values.",
)
