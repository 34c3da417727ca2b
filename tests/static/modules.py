"""The modules of a crate, and which of them use which: read from the sources as rustfmt leaves them, without a build.

A module is a file. Code for tests alone does not count: `#[cfg(test)]`, on a file or on a part of one.
"""

import re
from pathlib import Path

COMMENT = re.compile(r"(?m)^\s*//.*$|\s//\s.*$")
TEST_FILE = re.compile(r"#\[cfg\(test\)\]\n(?:#\[.*\]\n)*mod (\w+);")
TEST_PART = re.compile(r"(?ms)^#\[cfg\(test\)\]\n(?:#\[[^\n]*\]\n)*(?:pub )?mod \w+ \{\n.*?^\}$")
USE = re.compile(r"(?ms)^\s*(pub(?:\([^)]*\))? )?use ([^;]+);")
PATH = re.compile(r"\b(?:crate|super)(?:::\w+)+")


class Crate:
    """The modules of the crate whose sources lie in `source`, by their path: `()` for the root."""

    def __init__(self, source: Path):
        files = {module_of(file.relative_to(source)): file.read_text() for file in source.rglob("*.rs") if file.name != "main.rs"}
        of_tests = {(*module, name) for module, text in files.items() for name in TEST_FILE.findall(text)}
        kept = {module: text for module, text in files.items() if not any(module[: len(test)] == test for test in of_tests)}
        self.modules = {module: COMMENT.sub("", TEST_PART.sub("", text)) for module, text in kept.items()}
        self.public = {module: self._public(module, text) for module, text in self.modules.items()}

    def uses(self, module):
        """Returns the other modules whose items this module uses."""
        text = self.modules[module]
        named = [path for _, tree in USE.findall(text) for path, _ in paths(tree)]
        named += [tuple(path.split("::")) for path in PATH.findall(USE.sub("", text))]
        return {found for path in named if (found := self._home(self._absolute(module, path))) is not None} - {module}

    def _public(self, module, text):
        """Returns what the module hands on from others (`pub use`), by the name that it has here."""
        trees = [tree for public, tree in USE.findall(text) if public]
        return {name: self._absolute(module, path) for tree in trees for path, name in paths(tree)}

    def _absolute(self, module, path):
        """Returns the path from the crate's root; `None` if it leads out of the crate."""
        path = list(path)
        if path[0] == "crate":
            return tuple(path[1:])
        base = list(module)
        if path[0] == "self":
            return (*base, *path[1:])
        if path[0] == "super":
            while path and path[0] == "super":
                base, path = base[:-1], path[1:]
            return (*base, *path)
        return (*base, *path) if (*base, path[0]) in self.modules else None

    def _home(self, path):
        """Returns the module that the item at this path lies in, behind any `pub use`."""
        if path is None:
            return None
        module = max((path[:n] for n in range(len(path) + 1) if path[:n] in self.modules), key=len)
        rest = path[len(module) :]
        behind = self.public[module].get(rest[0]) if rest else None
        return self._home((*behind, *rest[1:])) if behind else module


def module_of(file):
    """Returns the path of the module that is this file, below `src`."""
    parts = file.with_suffix("").parts
    return parts[:-1] if parts[-1] in ("mod", "lib") else parts


def paths(tree):
    """Returns the paths of a `use`, each with the name that it has in the module."""
    head, brace, rest = tree.strip().partition("{")
    if brace:
        prefix = tuple(part for part in head.split("::") if part)
        return [((*prefix, *path), name) for part in split(rest[: rest.rindex("}")]) for path, name in paths(part)]
    path, _, name = head.partition(" as ")
    path = tuple(part for part in path.split("::") if part != "*" and (part != "self" or path.startswith("self::")))
    return [(path, name or (path[-1] if path else ""))]


def split(trees):
    """Returns the parts between the commas that stand in no braces."""
    parts, depth, start = [], 0, 0
    for at, character in enumerate(trees):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts, start = [*parts, trees[start:at]], at + 1
    return [part for part in [*parts, trees[start:]] if part.strip()]


def circles(uses):
    """Returns the largest sets of modules that reach each other, each sorted; `uses` has the modules that each one uses."""
    reached = {module: reach(uses, module) for module in uses}
    together = {frozenset({module} | {other for other in reached[module] if module in reached[other]}) for module in uses}
    return sorted(sorted(circle) for circle in together if len(circle) > 1)


def reach(uses, start):
    """Returns the modules that a module uses, directly or through others."""
    seen, todo = set(), [start]
    while todo:
        for module in uses[todo.pop()]:
            if module not in seen:
                seen.add(module)
                todo.append(module)
    return seen
