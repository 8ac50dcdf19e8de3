"""Does a campaign answer again after results that were wrong, as if it had never seen them?

Every kind of bad value is told to a campaign of one open round, with ``--accept-extreme`` where it is refused
without: on the command line or in Python, to a store in a file, in memory or on a PostgreSQL server. Then status,
history, ask and export are called, the wells are taken back (one by one, by their event, or by a correction), the
right results are told, and all is called again. A case holds if every answer had a documented exit code and none
was a fault, and if what the campaign then knows, says and proposes is what a campaign says that was told the right
results only.

    python -m benchmarks bad_results --surrogate automatic
"""

import argparse
import io
import os
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.robustness.throwaway_postgresql import binaries, database, throwaway_postgresql
from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.settings import settings_of
from inverse_design.campaign.store.protocol import Store, memory_store, open_store
from inverse_design.cli.app import main as command_line
from inverse_design.cli.door import DONE, FAULT, NOTHING, REFUSED
from inverse_design.errors import NothingToProposeError
from surrogates.data.simulate import Network, SaturatingWorld, singles_and_doubles
from surrogates.errors import DataError

DOORS = ("command line", "Python")
STORES = ("file", "memory", "PostgreSQL")
REMEDIES = ("wells", "event", "correction")
_NAME = "tested"
_FURTHER = {"retract": ("--reason", "wrong", "--yes"), "correct": ("--reason", "wrong")}
_UNLIKE = ("key", "taken_back")  # fields of a status that tell what happened before


def _cell(value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Put a value into one cell of one well."""

    def make(table: pd.DataFrame) -> pd.DataFrame:
        bad = table.astype(object)
        bad.iloc[0, 1] = value
        return bad

    return make


def _all(change: Callable[[Any], Any]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Change every value."""
    return lambda table: table.assign(**{str(name): change(table[name]) for name in table.columns[1:]})


def _swapped_columns(table: pd.DataFrame) -> pd.DataFrame:
    names = list(table.columns)
    names[1], names[2] = names[2], names[1]
    return table.set_axis(names, axis=1)


def _repeated(table: pd.DataFrame) -> pd.DataFrame:
    """Give one well twice, with other values."""
    return pd.concat([_all(lambda column: column + 0.5)(table[:1]), table], ignore_index=True)


def _one_label(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(perturbation=table["perturbation"][0], replicate=[*"abcd"])


_TEXTS = (
    "1e200", "1e308", "-1e300", "1e400", "inf", "-Infinity", "nan", "1e-320", "5e-324", "1e39", "n.d.", "<LOD", "",
    "2026-03-01", "1-Mar", "12:30:00", "1,5", "1.234,5", "1_000", "0x1F", "1+2j", "TRUE", "١٢", "1\x002", "--",
    "=1+1", "#DIV/0!", "9" * 400, "1e", "½", "\u22121.5", "1\u200b5",
)  # fmt: skip
KINDS: Mapping[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    **{f"the text {text[:12]!r}": _cell(text) for text in _TEXTS},
    **{f"the number {number:g}": _cell(number) for number in (1e200, 1.7e308, -1e300, 1e-320, np.inf, np.nan)},
    "a date": _cell(pd.Timestamp("2026-03-01")),
    "a truth value": _cell(np.True_),
    "dates": _all(lambda column: pd.to_datetime(column, unit="D")),
    "1e6 times the range": _cell(1e6),
    "1e14": _cell(1e14),
    "1e14 everywhere": _all(lambda column: column * 0 + 1e14),
    "1e200 everywhere": _all(lambda column: column * 0 + 1e200),
    "zero everywhere": _all(lambda column: column * 0),
    "minus zero": _all(lambda column: column * -0.0),
    "the smallest numbers": _all(lambda column: column * 0 + 5e-324),
    "another unit": _all(lambda column: column * 1000),
    "per cent": _all(lambda column: column * 100),
    "a wrong sign": _all(lambda column: -column),
    "counts instead of effects": _all(lambda column: (column.abs() * 1e4).round()),
    "swapped columns": _swapped_columns,
    "swapped labels": lambda table: table.assign(perturbation=np.roll(table["perturbation"], 1)),
    "one label in all rows": _one_label,
    "a well twice": _repeated,
    "all failed": lambda table: table.assign(status="failed"),
    "one readout only": lambda table: table.assign(**dict.fromkeys(map(str, table.columns[2:]), np.nan)),
}  # fmt: skip


@dataclass(frozen=True)
class Typed:
    """A campaign through its command line, run in this process."""

    folder: Path  # for files
    words: tuple[str, ...]  # where the campaign is

    def __call__(self, verb: str, *more: str, table: pd.DataFrame | None = None) -> int:
        """Run a verb on a table of results, if it takes one.

        Args:
            verb: Of the verb ``campaign``.
            more: Further words.
            table: Of results.

        Returns:
            The exit code.
        """
        if table is not None:
            path = self.folder / "results.csv"
            table.to_csv(path, index=False)
            more = (str(path), *more)
        more += _FURTHER.get(verb, ())
        if verb == "export":
            more = ("-o", str(self.folder / "plate.csv"))
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            return command_line(["campaign", verb, *more, *self.words])


@dataclass(frozen=True)
class Called:
    """The same, through Python; an error of the data counts as its exit code."""

    campaign: Campaign

    def __call__(self, verb: str, *more: str, table: pd.DataFrame | None = None) -> int:
        """Call what a verb stands for, see :class:`Typed`.

        Args:
            verb: Of the verb ``campaign``.
            more: Further words.
            table: Of results.

        Returns:
            The exit code that the command line would give.
        """
        mine, why = self.campaign, "wrong"
        extreme = "--accept-extreme" in more
        calls: dict[str, Callable[[], object]] = {
            "status": lambda: (mine.status(), mine.advice(mine.batch())),
            "preview": mine.preview,
            "history": mine.history,
            "ask": mine.ask,
            "export": lambda: (mine.batch(), mine.outcomes(), mine.wells()),
            "tell": lambda: mine.tell(_given(table), accept_extreme=extreme),
            "correct": lambda: mine.correct(_given(table), reason=why),
            "retract": lambda: mine.retract(_chosen(mine, more), reason=why),
        }
        try:
            calls[verb]()
        except NothingToProposeError:
            return NOTHING
        except DataError:
            return REFUSED
        except Exception:  # noqa: BLE001 - what a user would see as a traceback is what is counted
            return FAULT
        return DONE


def _given(table: pd.DataFrame | None) -> pd.DataFrame:
    return pd.DataFrame() if table is None else table


def _chosen(campaign: Campaign, words: tuple[str, ...]) -> pd.DataFrame:
    if "--event" in words:
        return campaign.wells(event=int(words[words.index("--event") + 1]))
    return campaign.wells([word for word in words if not word.startswith("-")])


@dataclass(frozen=True)
class World:
    """What all cases start from."""

    screen: Path  # a table
    target: Path  # a table
    settings: Mapping[str, object]

    @classmethod
    def written(cls, folder: Path, **stated: object) -> "World":
        """Write a small simulated screen, and the state of a pair that it lacks.

        Args:
            folder: For the files.
            stated: Settings of the campaigns.

        Returns:
            Where they are.
        """
        world = SaturatingWorld(Network(genes=10))
        screen = world.screen(singles_and_doubles(world.network, doubles=16, seed=0), seed=0)
        effects = pd.DataFrame(screen.effects.numpy(), columns=list(screen.readouts))
        effects.insert(0, "condition", list(screen.labels))
        effects[:-1].to_csv(folder / "screen.csv", index=False)
        wanted = effects.iloc[-1, 1:]
        pd.DataFrame({"gene": wanted.index, "logFC": wanted.to_numpy(float)}).to_csv(folder / "t.csv", index=False)
        settings = {"name": _NAME, "batch_size": 4, "cost_per_well": 1.0, **stated}
        return cls(folder / "screen.csv", folder / "t.csv", settings)

    def begin(self, store: Store | str) -> Campaign:
        """Begin a campaign, and ask for its first round.

        Args:
            store: Where.

        Returns:
            The campaign.
        """
        settings = settings_of({**self.settings, "target": str(self.target)})
        campaign = Campaign.create(self.screen, target=self.target, settings=settings, store=store)
        campaign.ask()
        return campaign


def right_results(campaign: Campaign) -> pd.DataFrame:
    """Make results of the open round that depend on its names only.

    Args:
        campaign: Of which.

    Returns:
        One row per experiment.
    """
    labels, width = campaign.batch().labels, len(campaign.readouts)
    rows = [np.random.default_rng(sum(map(ord, label))).normal(scale=0.3, size=width) for label in labels]
    table = pd.DataFrame(np.array(rows).round(6), columns=list(campaign.readouts))
    table.insert(0, "perturbation", labels)
    return table


@dataclass(frozen=True)
class Watched:
    """A door of which every answer is looked at."""

    act: Typed | Called
    wrong: list[str]  # what ended as it should not

    def __call__(self, verb: str, *more: str, table: pd.DataFrame | None = None, refusals: bool = False) -> bool:
        """Run a verb.

        Args:
            verb: Of the verb ``campaign``.
            more: Further words.
            table: Of results.
            refusals: Whether it may refuse.

        Returns:
            Whether it was done.
        """
        code = self.act(verb, *more, table=table)
        if code != DONE and not (refusals and code == REFUSED):
            self.wrong.append(f"{verb} {' '.join(more[:2])} ended with {code}")
        return code == DONE

    def look(self) -> None:
        """Run all that only reads."""
        for verb in ("status", "history", "ask", "export"):
            self(verb)


def run_case(act: Typed | Called, campaign: Campaign, bad: pd.DataFrame, remedy: str) -> tuple[str, list[str]]:
    """Tell bad results, look at everything, take them back, and tell the right ones.

    Args:
        act: The door.
        campaign: Behind it.
        bad: What is told first.
        remedy: One of ``REMEDIES``.

    Returns:
        Whether they were refused, accepted on request or taken, and all that ended as it should not.
    """
    right, before, do, verdict = right_results(campaign), campaign.head, Watched(act, []), "taken"
    if not do("tell", table=bad, refusals=True):
        verdict = "accepted on request"
        if not do("tell", "--accept-extreme", table=bad, refusals=True):
            return "refused", do.wrong + ["something was recorded"] * (campaign.head != before)
    do.look()
    if Called(campaign)("preview") != DONE:
        do.wrong.append("no plan can be made")
    _take_back(do, campaign, right, remedy)
    do.look()
    do("tell", table=right)
    do("correct", table=right)
    return verdict, do.wrong


def _take_back(do: Watched, campaign: Campaign, right: pd.DataFrame, remedy: str) -> None:
    """Correct or retract all wells of the only table of results."""
    wells, why = campaign.wells(), ("--event", str(int(campaign.wells()["event"].iloc[0])))
    if remedy == "correction":
        named = wells["perturbation"].isin(right["perturbation"]) & (wells["replicate"] == "1")
        if named.any():
            do("correct", table=right[right["perturbation"].isin(wells["perturbation"][named])])
        wells = wells[~named]
    if len(wells):
        do("retract", *(why if remedy == "event" else tuple(dict.fromkeys(wells["perturbation"]))))


def answers(campaign: Campaign) -> dict[str, object]:
    """Collect what a campaign knows, says and would propose next.

    Args:
        campaign: Of which.

    Returns:
        The answers, as values that can be compared.
    """
    screen, status = campaign.screen(), campaign.status()
    errors = screen.standard_errors
    said = {one.name: getattr(status, one.name) for one in fields(status) if one.name not in _UNLIKE}
    return {
        **said,
        "effects": (screen.labels, screen.effects.tolist(), None if errors is None else errors.tolist()),
        "outcomes": campaign.outcomes().to_csv(),
        "next batch": campaign.preview().table.to_csv(),
    }


@dataclass(frozen=True)
class Bench:
    """Makes campaigns for the cases: copies of a file, or new ones."""

    folder: Path
    world: World
    kinds: tuple[str, ...]
    server: str | None

    def cases(self) -> Iterator[tuple[str, str, str, str]]:
        """List kinds, doors, stores and remedies that go together."""
        stores = STORES if self.server is not None else STORES[:2]
        for kind, door, store, remedy in product(self.kinds, DOORS, stores, REMEDIES):
            if (door, store) != (DOORS[0], "memory") and (store == "file" or remedy == "wells"):
                yield kind, door, store, remedy

    def run(
        self, number: int, case: tuple[str, str, str, str], truth: Mapping[str, object]
    ) -> tuple[str, list[str]]:
        """Run one case.

        Args:
            number: Of the case.
            case: As listed.
            truth: What a campaign answers that never saw bad results.

        Returns:
            The verdict, and what is wrong.
        """
        kind, door, store, remedy = case
        place: Store | str = memory_store() if store == "memory" else str(self.folder / f"{number}.db")
        if store == "PostgreSQL" and self.server is not None:
            place = database(self.server, f"c{number}")
        if store == "file":
            shutil.copy(self.folder / "begun.db", str(place))
            campaign = Campaign.open(open_store(str(place)), _NAME)
        else:
            campaign = self.world.begin(place)
        typed = Typed(self.folder, ("--store", str(place), "--name", _NAME))
        bad = KINDS[kind](right_results(campaign))[:-1]  # so that the round stays open
        verdict, wrong = run_case(typed if door == DOORS[0] else Called(campaign), campaign, bad, remedy)
        if verdict != "refused":
            found = answers(campaign)
            wrong += [f"differs: {each}" for each in truth if found[each] != truth[each]]
        if isinstance(place, str) and store == "file":
            Path(place).unlink()
        return verdict, wrong


def measure(
    folder: Path,
    *,
    kinds: Collection[str] = tuple(KINDS),
    every: int = 1,
    server: str | None = None,
    **stated: object,
) -> tuple[Counter[str], list[str]]:
    """Run the cases, all or a part of them.

    Args:
        folder: For files.
        kinds: Of bad results.
        every: Take each so many-th case.
        server: URL of a PostgreSQL server, if there is one.
        stated: Settings of the campaigns.

    Returns:
        How many cases had which verdict, and what went wrong, case by case.
    """
    bench = Bench(folder, World.written(folder, **stated), tuple(kinds), server)
    bench.world.begin(str(folder / "begun.db"))
    plain = bench.world.begin(memory_store())
    plain.tell(right_results(plain))
    truth = answers(plain)
    found, wrong = Counter[str](), list[str]()
    for number, case in list(enumerate(bench.cases()))[::every]:
        verdict, said = bench.run(number, case, truth)
        found[verdict] += 1
        wrong += [f"{' / '.join(case)} ({verdict}): {each}" for each in said]
    return found, wrong


def main() -> None:
    """Run all cases and print what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surrogate", default="additive")
    parser.add_argument("--every", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["XDG_STATE_HOME"] = str(folder / "state")
        programs = binaries()
        server = None if programs is None else stack.enter_context(throwaway_postgresql(programs))
        found, wrong = measure(folder, every=asked.every, server=server, surrogate=asked.surrogate)
    print("\n".join(wrong))
    cases = len({each.rpartition("): ")[0] for each in wrong})
    print(f"{found.total()} cases: {', '.join(f'{count} {what}' for what, count in found.items())}")
    print(f"answers again, as if it had never seen them: {'yes' if not cases else f'no, in {cases} cases not'}")


if __name__ == "__main__":
    main()
