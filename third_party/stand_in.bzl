"""A repository made of a few files of this one, for a dependency that need not be fetched."""

def _stand_in_repository_impl(repository_ctx):
    repository_ctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % repository_ctx.name)
    repository_ctx.file("BUILD.bazel", repository_ctx.attr.build_file_content)
    for label, path in repository_ctx.attr.files.items():
        folder = path.rpartition("/")[0]
        if folder:
            repository_ctx.file(folder + "/BUILD.bazel", "")
        repository_ctx.symlink(label, path)

stand_in_repository = repository_rule(
    implementation = _stand_in_repository_impl,
    attrs = {
        "build_file_content": attr.string(doc = "The root BUILD file."),
        "files": attr.label_keyed_string_dict(
            allow_files = True,
            doc = "File of this workspace -> its path in the new repository.",
        ),
    },
    doc = "Defines a repository of the given files. Nothing is downloaded.",
)
