"""``python -m benchmarks NAME [OPTIONS]`` runs one benchmark; without a name it lists them."""

import ast
import pkgutil
import runpy
import sys
from pathlib import Path

_HERE = Path(__file__).parent


def _text(name: str) -> str:
    folder = _HERE / name / "__main__.py"
    return (folder if folder.exists() else _HERE / f"{name}.py").read_text(encoding="utf-8")


def names() -> dict[str, str]:
    """Find what can be run, with what each says of itself first."""
    found = {}
    for module in pkgutil.iter_modules([str(_HERE)]):
        if module.name == "__main__" or (module.ispkg and not (_HERE / module.name / "__main__.py").exists()):
            continue
        tree = ast.parse(_text(module.name))
        if module.ispkg or any(isinstance(part, ast.FunctionDef) and part.name == "main" for part in tree.body):
            found[module.name] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main() -> int:
    """Run what the command line names."""
    known = names()
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        print("\n".join(f"{name:20}{line}" for name, line in known.items()))
        return 0 if len(sys.argv) < 2 else 2
    name = sys.argv.pop(1)
    sys.argv[0] = f"benchmarks {name}"
    runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
