"""Reads pkg-config files, without pkg-config, in repository rules."""

def missing_package(package, what):
    """Ends the build with one line that says what to install.

    Args:
      package: Debian's name of the package.
      what: the file that was looked for.
    """
    fail(("pyrt needs the package %s (%s was not found). Install it with `apt-get install %s`, or, in a " +
          "clone of pyrt, run ./bazelw, which installs all that is missing.") % (package, what, package))

def find_pkg_config_folder(repository_ctx, module, package):
    """Returns the path of the folder that has <module>.pc, or fails and names `package`.

    Args:
      repository_ctx: the repository rule's context.
      module: a pkg-config module.
      package: the Debian package which should have brought it.

    Returns:
      A path.
    """
    folders = ["/usr/local/lib/pkgconfig", "/usr/lib/pkgconfig", "/usr/lib64/pkgconfig", "/usr/share/pkgconfig"]

    # Debian's multiarch folders: /usr/lib/x86_64-linux-gnu and its like.
    usr_lib = repository_ctx.path("/usr/lib")
    if usr_lib.exists:
        folders += [str(child) + "/pkgconfig" for child in usr_lib.readdir() if "-linux-gnu" in child.basename]
    for folder in folders:
        path = repository_ctx.path(folder)
        if path.get_child(module + ".pc").exists:
            return path
    return missing_package(package, module + ".pc")

def read_pkg_config(repository_ctx, folder, module):
    """Parses one pkg-config file.

    Args:
      repository_ctx: the repository rule's context.
      folder: where it is, from find_pkg_config_folder.
      module: its name without ".pc".

    Returns:
      A struct of `requires`, a list of module names, and `linkopts`, a list of -l and -L options.
    """
    requires = []
    linkopts = []
    for line in repository_ctx.read(folder.get_child(module + ".pc")).split("\n"):
        key, _, value = line.partition(":")
        if key == "Requires":
            for entry in value.split(","):
                words = entry.strip().split(" ")
                if words[0]:
                    requires.append(words[0])
        elif key in ["Libs", "Libs.private"]:
            # The libraries of packages are on the linker's path: -L of a variable adds nothing.
            linkopts += [word for word in value.split(" ") if word.startswith("-l") or word == "-pthread"]
    return struct(requires = requires, linkopts = linkopts)
