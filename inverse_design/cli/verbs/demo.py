"""The verb ``demo``: a measured double is held out and found again, on public data or a simulated screen."""

import os
import sys
import webbrowser
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from inverse_design.cli.console import Run, complaints, output, say, working
from inverse_design.cli.options import Asking
from inverse_design.cli.outputs import check_writable, manifest
from inverse_design.cli.verbs.propose import Answer, give_answer, request_of, solved, write_answer, write_report
from inverse_design.problem.constraints import Constraints
from inverse_design.search.api import Engine
from surrogates.data.catalogue import is_available, open_dataset
from surrogates.data.screen import Screen
from surrogates.data.simulate import Network, SaturatingWorld, singles_and_doubles
from surrogates.errors import printable
from surrogates.fit_cache import USER_CACHE

REAL, REAL_TARGET = "norman2019_expr", "CEBPE+KLF1"
_GENES, _DOUBLES = 40, 120


def run_demo(run: Run, *, folder: str, open_report: bool, seed: int) -> None:
    """Hold one measured double out, ask for its state, and see whether it is found."""
    real = is_available(REAL)
    console = complaints() if run.manner.json else output()
    if not real:
        say(
            console,
            f"simulated: the real data ({REAL}) are not on this machine; a world of {_GENES} genes is used",
        )
    places = [_place(folder, name, run) for name in ("candidates.csv", "ranking.svg", "report.html")]
    with working("reading"):
        screen, truth = (open_dataset(REAL), REAL_TARGET) if real else simulated(seed)
    asking = Asking(seed=seed)
    say(console, f"The double {truth} was measured. It is held out; which pair makes cells look like that?")
    say(console)
    prepared = request_of(asking, Constraints(), Engine(), USER_CACHE).prepared(screen, truth)
    answer = Answer(screen, truth, asking, solved(prepared, asking))
    known = manifest(run, screen, seed=seed, settings={"asking": asdict(asking), "target": truth})
    written = _write(answer, truth, places, known)
    give_answer(run, answer, known, written)
    page = written[-1]
    if open_report and not show_page(page):
        say(console, f"there is no browser here; open {page.absolute().as_uri()} in one")
    say(console, "next: inverse-design check YOUR_DATA")
    say(console, "then: inverse-design propose YOUR_DATA --target STATE.csv --report out.html")


def simulated(seed: int) -> tuple[Screen, str]:
    """Make a small saturating world in which all singles and some doubles are measured."""
    world = SaturatingWorld(Network(genes=_GENES, seed=seed))
    design = singles_and_doubles(world.network, doubles=_DOUBLES, seed=seed)
    screen = world.screen(design, seed=seed)
    return screen, design[-1].label


def _place(folder: str, name: str, run: Run) -> Path:
    where = Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    return check_writable(where / name, endings=(where.joinpath(name).suffix,), force=run.force)


def _write(answer: Answer, truth: str, places: list[Path], known: Mapping[str, object]) -> list[Path]:
    place, drawn, page = places
    written = [*write_answer(answer, place, known), drawn]
    from inverse_design.plot import ranking, write_figure  # noqa: PLC0415 - matplotlib, where something is drawn
    from inverse_design.plot.style import figure_of  # noqa: PLC0415 - the same

    picture = figure_of(ranking(answer.proposal, truth=truth))
    picture.suptitle(printable(f"Which pair reaches {truth}?"), x=0.01, ha="left")
    write_figure(picture, drawn)
    return [*written, write_report(answer, page, known)]


def show_page(page: Path) -> bool:
    """Show a page in a browser with windows, if there is one: those of terminals would hold the program up."""
    windows = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(windows or not sys.platform.startswith("linux")) and webbrowser.open(page.absolute().as_uri())
