#!/usr/bin/env python3
"""Prints the import graph of this Python's standard library, and how CPython resolves it.

    module <name> <package|module> <import> <import> ...
    completed <name>            in the order of completion
    partial <importer> <name>   an import that got a half-made module

An edge is an import statement that runs when the module is imported: not inside a function. Names of modules that
are not part of the library are left out. The second part comes from running the graph: a finder makes an empty
module for each node, whose body imports its edges, and importlib itself imports all of them in the order of the
first part. Nodes are renamed meanwhile, because the real modules are in use.
"""

import ast
import importlib
import importlib.machinery
import os
import sys
import sysconfig

SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
PREFIX = "graph_"


def library_modules(root):
    """Yields (name, is_package, path or None)."""
    for directory, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in SKIPPED and f.isidentifier())
        package = os.path.relpath(directory, root).replace(os.sep, ".")
        if package != "." and "__init__.py" not in files:
            folders[:] = []
            continue
        for file in sorted(files):
            stem, suffix = os.path.splitext(file)
            if suffix != ".py" or not stem.isidentifier():
                continue
            name = stem if package == "." else package if stem == "__init__" else package + "." + stem
            yield name, stem == "__init__", os.path.join(directory, file)
    natives = os.path.join(root, "lib-dynload")
    for file in sorted(os.listdir(natives)) if os.path.isdir(natives) else []:
        yield file.split(".")[0], False, None
    for name in sys.builtin_module_names:
        yield name, False, None


def statements(body):
    """Import statements that run at import time, in order."""
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            for field in ("body", "handlers", "orelse", "finalbody"):
                yield from statements(getattr(node, field, None) or [])


def imports_of(name, is_package, path, known):
    with open(path, "rb") as source:
        tree = ast.parse(source.read())
    found = []
    for node in statements(tree.body):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            base = node.module or ""
            if node.level:
                parts = name.split(".")
                parts = parts[: len(parts) - node.level + (1 if is_package else 0)]
                base = ".".join(parts + ([node.module] if node.module else []))
            targets = [base] + [base + "." + alias.name for alias in node.names]
        for target in targets:
            if target in known and target not in found:
                found.append(target)
    return found


class GraphFinder:
    def __init__(self, graph):
        self.graph = graph
        self.completed = []
        self.partial = []

    def find_spec(self, name, path=None, target=None):
        node = self.graph.get(name[len(PREFIX):]) if name.startswith(PREFIX) else None
        return node and importlib.machinery.ModuleSpec(name, self, is_package=node[0])

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        name = module.__name__[len(PREFIX):]
        for target in self.graph[name][1]:
            imported = importlib.import_module(PREFIX + target)
            if imported.__spec__._initializing:
                self.partial.append((name, target))
        self.completed.append(name)


def main():
    root = sysconfig.get_path("stdlib")
    modules = {name: (is_package, path) for name, is_package, path in library_modules(root)}
    graph = {}
    for name, (is_package, path) in sorted(modules.items()):
        try:
            edges = imports_of(name, is_package, path, modules) if path else []
        except SyntaxError:
            edges = []
        graph[name] = (is_package, edges)
    for name, (is_package, edges) in graph.items():
        print("module", name, "package" if is_package else "module", *edges)

    sys.setrecursionlimit(100000)
    finder = GraphFinder(graph)
    sys.meta_path.insert(0, finder)
    for name in graph:
        importlib.import_module(PREFIX + name)
    for name in finder.completed:
        print("completed", name)
    for importer, name in finder.partial:
        print("partial", importer, name)


if __name__ == "__main__":
    main()
