"""How large is the product, what do its verbs reach, and what does it take to add to it? Counted, not judged.

Reached are functions, classes with all their methods, and constants that a verb names, directly or through others.
A registry's ``"module:attribute"`` is followed as if it were named: one model brings all of its kind. Imports,
blank lines between definitions and docstrings of modules are no part of what is reached.

A place to touch is the new file itself, and each module with a list that names most of what ships of the kind:
whoever adds another must look at it. A list of a few is a choice (what the default model stacks, what a replay
plays unless others are named), which a newcomer need not join. A registry that reads entry points is none, as it
stays as it is. ``tests/inverse_design/test_plugins.py`` adds one of each by one file and an entry point.

Functions alike in name are public ones of two modules, commands of the command line left out; whether they differ
in meaning is for a reader to say. An export counts as used where a test or an example takes it from its package.

Run: python -m benchmarks structure --json structure.json
"""

import argparse
import ast
import math
import os
import re
import resource
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from inverse_design.acquisition.acquisition import ACQUISITIONS
from inverse_design.problem.objective import OBJECTIVES
from inverse_design.recommend.protocol import RECOMMENDERS
from surrogates.evaluation.intervals import Row, write_json
from surrogates.models.registry import SURROGATES
from surrogates.registry import Registry

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("surrogates", "inverse_design")


def _shipped(registry: Registry[Any]) -> list[set[str]]:
    return [{name, value.partition(":")[2]} for name, value in registry.shipped.items()]


VERBS = {
    "inverse_design.cli.app": ("check", "propose", "rank"),
    "inverse_design.cli.campaign.app": None,
}  # None: all
KINDS: dict[str, list[set[str]]] = {  # what ships of a kind, each with the words by which a list may name it
    "surrogate": _shipped(SURROGATES),
    "objective": _shipped(OBJECTIVES),
    "acquisition": _shipped(ACQUISITIONS),
    "constraint": [{name} for name in ("exclude", "require", "incompatible", "groups", "max_cost", "doses")],
    "recommender": _shipped(RECOMMENDERS),
    "reader": [{ending} for ending in (".h5ad", ".csv", ".tsv", ".parquet")],  # those that any list would name
    "output format": [{ending} for ending in (".csv", ".parquet")],
}
BARS = {
    "lines in the wheel": 32_000, "files in the wheel": 200, "files of the fullest folder": 15,
    "lines reached by check, propose, rank, campaign": 20_000, "functions alike in name": 0,
    "classes that share a name": 0, "exports that no test uses": 0, "CPU s of import propose": 2.0,
    "CPU s of check norman2019_expr": 2.5, **{f"places to add a {kind}": 1 for kind in KINDS},
}  # fmt: skip
Name = tuple[str, str]  # module and name


@dataclass(frozen=True)
class Wheel:
    """The modules of the packages, parsed."""

    trees: dict[str, ast.Module]
    nodes: dict[str, dict[str, ast.stmt]]  # what each module defines at its top
    imported: dict[str, dict[str, Name]]  # what a name in a module stands for
    lines: dict[str, int]

    @classmethod
    def read(cls, root: Path) -> "Wheel":
        """Parse every module."""
        trees, lines = {}, {}
        for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
            module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            text = path.read_text(encoding="utf-8")
            trees[module], lines[module] = ast.parse(text), text.count("\n")
        nodes = {module: dict(_defined(tree)) for module, tree in trees.items()}
        return cls(trees, nodes, {module: _imports(tree, trees) for module, tree in trees.items()}, lines)

    def named_by(self, module: str, node: ast.stmt) -> Iterator[Name]:
        """Follow what a definition names."""
        own, foreign = self.nodes[module], self.imported[module]
        for part in ast.walk(node):
            if isinstance(part, ast.Name):
                yield (module, part.id) if part.id in own else foreign.get(part.id, ("", ""))
            elif isinstance(part, ast.ImportFrom):
                yield from ((part.module or "", each.name) for each in part.names)
            elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                yield ".".join(foreign.get(part.value.id, ("", ""))), part.attr
            elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                if found := re.fullmatch(r"([\w.]+):(\w+)", part.value):
                    yield found[1], found[2]
                for word in re.findall(r"\w+", part.value) if len(part.value) < 80 else ():
                    if word in own and word[0].isupper():  # a type in quotes
                        yield module, word

    def reached(self) -> int:
        """Count the lines of all that the verbs name."""
        verbs = {module: names or tuple(self.nodes[module]) for module, names in VERBS.items()}
        left = [(module, name) for module, names in verbs.items() for name in names]
        seen: set[Name] = set()
        while left:
            module, name = key = left.pop()
            if key not in seen and name in self.nodes.get(module, {}):
                seen.add(key)
                left += self.named_by(module, self.nodes[module][name])
        return sum(_length(self.nodes[module][name]) for module, name in seen)

    def shared(self, kind: type[ast.stmt]) -> dict[str, list[str]]:
        """Find public names that two modules define."""
        places = defaultdict(list)
        for module, own in self.nodes.items():
            for name, node in own.items():
                if isinstance(node, kind) and not name.startswith("_") and not _is_command(node):
                    places[name].append(module)
        return {
            name: found for name, found in places.items() if len(found) > 1 and name not in {"main", "upgrade"}
        }

    def places(self, kind: str) -> list[str]:
        """Find the modules that list the built-ins of a kind."""
        shipped = KINDS[kind]
        return [
            module
            for module, tree in self.trees.items()
            if not _is_registry(tree)
            and any(2 * sum(bool(words & names) for names in shipped) > len(shipped) for words in _listed(tree))
        ]


def _defined(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from ((each.id, node) for each in ast.walk(target) if isinstance(each, ast.Name))


def _imports(tree: ast.Module, known: dict[str, ast.Module]) -> dict[str, Name]:
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in known:
            found |= {each.asname or each.name: (node.module, each.name) for each in node.names}
    return found


def _length(node: ast.stmt) -> int:
    first = min((each.lineno for each in getattr(node, "decorator_list", ())), default=node.lineno)
    return (node.end_lineno or node.lineno) - first + 1


def _is_command(node: ast.stmt) -> bool:
    return any("command" in ast.unparse(each) for each in getattr(node, "decorator_list", ()))


def _is_registry(tree: ast.Module) -> bool:
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return any(isinstance(each.func, ast.Name) and each.func.id == "Registry" for each in calls)


def _listed(tree: ast.Module) -> Iterator[set[str]]:
    """Collect the names and the texts of each list of a module; what a lambda computes is no part of it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            lambdas = (each for each in ast.walk(node) if isinstance(each, ast.Lambda))
            inside = {*ast.walk(node)}.difference(*map(ast.walk, lambdas))
            named = {part.id for part in inside if isinstance(part, ast.Name)}
            yield named | {str(part.value) for part in inside if isinstance(part, ast.Constant)}


def unused_exports(root: Path) -> tuple[list[str], int]:
    """Find exports that neither a test nor an example imports as a user would, and count all."""
    texts = [
        path.read_text(encoding="utf-8") for part in ("tests", "examples") for path in (root / part).rglob("*.py")
    ]
    used = set()
    for tree in map(ast.parse, texts):
        names = {name: name for name in PACKAGES}  # under which a module knows the packages
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {each.asname: each.name for each in node.names if each.asname and each.name in PACKAGES}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in PACKAGES:
                used |= {f"{node.module}.{each.name}" for each in node.names}
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used.add(f"{names.get(node.value.id)}.{node.attr}")
    stubs = {package: (root / package / "__init__.pyi").read_text(encoding="utf-8") for package in PACKAGES}
    exports = [
        f"{package}.{name}"
        for package, text in stubs.items()
        for name in re.findall(r" as (\w+)$", text, re.MULTILINE)
    ]
    return [name for name in exports if name not in used], len(exports)


def processor_seconds(*words: str, repeats: int) -> float:
    """Measure a fresh interpreter's processor time, the median of runs after a first, which compiles."""
    seconds = []
    installed = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(repeats + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(  # noqa: S603 - our own
            [sys.executable, *words], cwd=ROOT, capture_output=True, check=True, env=installed
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return median(seconds[1:])


def counts(root: Path) -> Iterator[tuple[str, int | float, str]]:
    """Count, with what stands behind each number in words."""
    wheel = Wheel.read(root)
    yield "lines in the wheel", sum(wheel.lines.values()), ""
    yield "files in the wheel", len(wheel.lines), ""
    files = [path for package in PACKAGES for path in (root / package).rglob("*.py") if path.stem != "__init__"]
    fullest, most = Counter(str(path.parent.relative_to(root)) for path in files).most_common(1)[0]
    yield "files of the fullest folder", most, fullest
    yield "lines reached by check, propose, rank, campaign", wheel.reached(), ""
    for what, kind in (("functions alike in name", ast.FunctionDef), ("classes that share a name", ast.ClassDef)):
        found = wheel.shared(kind)
        yield what, len(found), "; ".join(f"{name}: {', '.join(where)}" for name, where in sorted(found.items()))
    unused, exports = unused_exports(root)
    yield "exports that no test uses", len(unused), f"of {exports}: {', '.join(unused)}"
    for kind in KINDS:
        places = wheel.places(kind)
        yield f"places to add a {kind}", 1 + len(places), ", ".join(places)


def main() -> None:
    """Count, print each number beside its bar, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="of what is timed; 0 leaves it out")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found = list(counts(ROOT))
    if asked.repeats:
        propose = ("-c", "import inverse_design; inverse_design.propose")
        check = ("-m", "inverse_design", "check", "norman2019_expr")
        for what, words in (("CPU s of import propose", propose), ("CPU s of check norman2019_expr", check)):
            found.append((what, processor_seconds(*words, repeats=asked.repeats), f"median of {asked.repeats}"))
    for what, value, behind in found:
        digits = 0 if isinstance(value, int) else 1
        print(f"{what:50}{value:>10,.{digits}f}{BARS[what]:>10,.{digits}f}  {behind}")
    if asked.json:
        rows = [
            Row("structure", "wheel", "", "", "", what, value, math.nan, math.nan, 1, "")
            for what, value, _ in found
        ]
        write_json(rows, asked.json)


if __name__ == "__main__":
    main()
