"""The verb ``demo``: the main job from nothing, with the truth known."""

from dataclasses import asdict
from pathlib import Path

from inverse_design.cli.console import Run, output, say, working
from inverse_design.cli.options import Asking
from inverse_design.cli.outputs import check_writable, manifest
from inverse_design.cli.verbs.propose import Answer, show_answer, solve, write_answer
from inverse_design.problem.constraints import Constraints
from surrogates.data.catalogue import is_available, open_dataset
from surrogates.data.screen import Screen
from surrogates.data.simulate import Network, SaturatingWorld, singles_and_doubles

REAL, REAL_TARGET = "norman2019_expr", "CEBPE+KLF1"
_GENES, _DOUBLES = 40, 120


def run_demo(run: Run, *, folder: str, seed: int) -> None:
    """Hold one measured double out, ask for its state, and see whether it is found."""
    console = output()
    real = is_available(REAL)
    if not real:
        say(
            console,
            f"simulated: the real data ({REAL}) are not on this machine; a world of {_GENES} genes is used",
        )
    place = _place(folder)
    with working("reading"):
        screen, truth = (open_dataset(REAL), REAL_TARGET) if real else simulated(seed)
    asking = Asking(seed=seed)
    say(console, f"The double {truth} was measured. It is held out; which pair makes cells look like that?")
    say(console)
    answer = solve(screen, truth, asking, Constraints())
    written = _write(run, answer, truth, place)
    show_answer(console, answer)
    say(console)
    for path in written:
        say(console, f"wrote {path}")
    say(
        console,
        f"next: inverse-design propose {screen.provenance['dataset'] if real else 'YOUR_DATA'} --target ...",
    )


def simulated(seed: int) -> tuple[Screen, str]:
    """Make a small saturating world in which all singles and some doubles are measured."""
    world = SaturatingWorld(Network(genes=_GENES, seed=seed))
    design = singles_and_doubles(world.network, doubles=_DOUBLES, seed=seed)
    screen = world.screen(design, seed=seed)
    return screen, design[-1].label


def _place(folder: str) -> Path:
    where = Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    return check_writable(where / "candidates.csv", endings=(".csv",))


def _write(run: Run, answer: Answer, truth: str, place: Path) -> list[Path]:
    asking = answer.asking
    known = manifest(run, answer.screen, seed=asking.seed, settings={"asking": asdict(asking), "target": truth})
    written = [*write_answer(answer, place, known), place.with_name("ranking.svg")]
    from inverse_design.plot import ranking_figure, write_figure  # noqa: PLC0415 - matplotlib, where something is drawn

    picture = ranking_figure(
        answer.proposal.table,
        title=f"Which pair reaches {truth}?",
        level=asking.level,
        marked=truth,
        nothing=answer.proposal.baselines.nothing,
    )
    write_figure(picture, written[-1])
    return written
