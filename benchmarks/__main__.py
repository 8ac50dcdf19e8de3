"""``python -m benchmarks NAME [OPTIONS]`` runs one benchmark; without a name it lists them."""

import ast
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

_HERE = Path(__file__).parent


def names() -> dict[str, tuple[str, str]]:
    """Find what can be run: the module behind each name, and what it says of itself first."""
    return dict(sorted(_found()))


def _found() -> Iterator[tuple[str, tuple[str, str]]]:
    """A folder with a ``__main__`` is one benchmark; elsewhere each module with a ``main`` is."""
    for path in _HERE.rglob("*.py"):
        folder, is_package = path.parent, path.stem == "__main__"
        if folder == _HERE if is_package else folder != _HERE and (folder / "__main__.py").exists():
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if is_package or any(isinstance(part, ast.FunctionDef) and part.name == "main" for part in tree.body):
            place = folder if is_package else path.with_suffix("")
            said = (ast.get_docstring(tree) or "").partition("\n")[0]
            yield place.stem, (".".join(("benchmarks", *place.relative_to(_HERE).parts)), said)


def main() -> int:
    """Run what the command line names."""
    known = names()
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        print("\n".join(f"{name:20}{said}" for name, (_, said) in known.items()))
        return 0 if len(sys.argv) < 2 else 2
    name = sys.argv.pop(1)
    sys.argv[0] = f"benchmarks {name}"
    runpy.run_module(known[name][0], run_name="__main__")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
