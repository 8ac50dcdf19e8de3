"""Pages whose blocks are run when the documentation is built: what they print and draw stands below each.

The blocks of a page share one namespace and one working directory, which holds a copy of ``examples``. Blocks of
``python`` show what they print and the value of their last line; lines of ``sh`` are run in this process, by no
shell. A block that fails ends the build.
"""

import ast
import io
import re
import runpy
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from matplotlib.axes import Axes

import surrogates
from inverse_design import Screen
from inverse_design.cli.app import main
from inverse_design.plot.style import figure_of, svg_of
from surrogates.data.catalogue import is_available
from surrogates.data.simulate import Network, SaturatingWorld, singles_and_doubles

ROOT = Path(__file__).parents[1]
MOST_LINES = 30  # of what a block prints
_BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PUBLIC = re.compile(r'open_dataset\("(\w+)"\)')
_GENES = ("AHR", "BCL2L11", "CBL", "CEBPA", "CEBPE", "CELF2", "DUSP9", "ETS2", "FOSB", "KLF1", "MAPK1", "SPI1")
_STANDS_IN = """
:::{note}
Built without the public data: a small simulated screen stands in for the real one. The text is about the real one.
:::
"""


def executed(text: str, *, public: bool = True) -> str:
    """Run the blocks of a page, and write what they show below them; ``public`` if real screens may be opened."""
    simulated = [name for name in _PUBLIC.findall(text) if not (public and is_available(name))]
    names: dict[str, object] = {"__name__": "page"}
    title, line, rest = text.partition("\n")
    with TemporaryDirectory() as folder, chdir(folder), _opened(tuple(simulated)):
        shutil.copytree(ROOT / "examples", "examples")
        shown = _BLOCK.sub(lambda block: block[0] + _RUNNERS[block[1]](block[2], names), rest)
    return title + line + (_STANDS_IN if simulated else "") + shown


@contextmanager
def _opened(simulated: tuple[str, ...]) -> Iterator[None]:
    """Open a simulated screen in the place of each public one that is not here."""
    known = surrogates.open_dataset
    with patch.object(
        surrogates, "open_dataset", lambda name: _simulated(name) if name in simulated else known(name)
    ):
        yield


def _simulated(name: str) -> Screen:
    """Measure every single and pair of a dozen genes, as growth, or most of the pairs, as expression."""
    network = Network(genes=len(_GENES), seed=3)
    called, of_growth = dict(zip(network.names, _GENES, strict=True)), name.endswith("_fitness")
    design = singles_and_doubles(network, doubles=66 if of_growth else 50, seed=0)
    frame = SaturatingWorld(network, noise=0.1).screen(design, seed=0).to_frame().rename(columns=called)
    frame.index = ["+".join(called[part] for part in label.split("+")) for label in frame.index]
    return Screen.from_frame(frame[["KLF1"]].set_axis(["fitness"], axis=1) if of_growth else frame)


def _python(code: str, names: dict[str, object]) -> str:
    tree = ast.parse(code)
    if isinstance(last := tree.body[-1], ast.Expr):
        tree.body[-1] = ast.copy_location(ast.Assign([ast.Name("_", ast.Store())], last.value), last)
    names["_"], printed = None, io.StringIO()
    with redirect_stdout(printed):
        exec(compile(ast.fix_missing_locations(tree), "page", "exec"), names)  # noqa: S102 - our own pages
    return _text(printed.getvalue()) + _value(names["_"], f"figure-{len(names)}-{len(code)}")


def _sh(code: str, names: dict[str, object]) -> str:  # noqa: ARG001 - one form for both
    printed = io.StringIO()
    for line in code.splitlines():
        program, *words = shlex.split(line)
        said = io.StringIO()
        with redirect_stdout(printed), redirect_stderr(said), patch.object(sys, "argv", words):
            if program == "python":
                runpy.run_path(words[0], run_name="__main__")
            elif program != "inverse-design" or main(words):
                raise RuntimeError(f"{line!r} failed: {said.getvalue()}")
    return _text(printed.getvalue())


_RUNNERS = {"python": _python, "sh": _sh}


def _text(printed: str) -> str:
    lines = [line.rstrip() for line in printed.rstrip().splitlines()]
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"... and {len(lines) - MOST_LINES} more lines"]
    return "\n\n```text\n" + "\n".join(lines) + "\n```\n" if lines else ""


def _value(value: object, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, Axes):
        page = svg_of(figure_of(value), name=name)
    elif hasattr(value, "_repr_html_"):
        page = value._repr_html_()
    else:
        return _text(repr(value))
    return f'\n\n````{{raw}} html\n<div class="executed">\n{textwrap.dedent(page)}\n</div>\n````\n'
