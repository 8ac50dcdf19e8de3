"""Every verb that fits gives the fit to its workers, and plans for them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from strategies.worlds import command, save_state, save_table, tiny_screen

from inverse_design.planning.costs import Sizes
from inverse_design.planning.work import fit_work
from inverse_design.search.api import Engine
from surrogates import cached_fit, team
from surrogates.data.screen import Screen
from surrogates.executors import Workers


@pytest.fixture
def crews(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Workers]:
    """Who works on the fits that follow."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Engine, "_processes", lambda _: ThreadPoolExecutor(1))
    seen: list[Workers] = []

    @contextmanager
    def noted(_: Screen) -> Iterator[None]:
        seen.append(team._WORKERS.get())
        yield

    monkeypatch.setattr(cached_fit, "team_on", noted)
    return seen


def test_every_verb_gives_its_fit_to_the_workers(crews: list[Workers], tmp_path: Path) -> None:
    table, state = save_table(tmp_path), save_state(tmp_path)
    asked = (table, "--target", state, "--no-cache", "--model", "scaled_additive", "--workers", 3)
    assert command("propose", *asked, "-o", "many.csv") == 0
    assert set(crews) == {3}
    assert command("propose", *asked[:-2], "-o", "one.csv") == 0
    assert Path("many.csv").read_bytes() == Path("one.csv").read_bytes()
    crews.clear()
    new = [f"G000+G00{number}" for number in range(1, 10)]
    (tmp_path / "list.csv").write_text("\n".join(["perturbation", *(set(new) - set(tiny_screen().labels))]))
    assert command("rank", *asked, "--experiments", tmp_path / "list.csv") == 0
    assert set(crews) == {3}
    crews.clear()
    assert (
        command("campaign", "create", table, "--name", "one", "--target", state, "--surrogate", "scaled_additive")
        == 0
    )
    asked = ("--recommender", "gains", "--no-cache", "-n", 2)
    assert command("campaign", "ask", *asked, "--workers", 3) == 0
    assert crews == [3]
    assert team._WORKERS.get() == 1


def test_a_plan_counts_workers_where_a_fit_has_them() -> None:
    large = Sizes(conditions=1320, singles=1200, doubles=120, readouts=2000)
    (alone,), (shared,), (many,) = (fit_work(large, None, workers=each) for each in (1, 2, 8))
    assert alone.seconds > shared.seconds > many.seconds > alone.seconds / 4
    assert (alone.memory(2000.0), many.memory(2000.0)) == (shared.memory(2000.0) // 2, 3 * alone.memory(2000.0))
    small = Sizes.of(tiny_screen())
    assert fit_work(small, None, workers=8) == fit_work(small, None)
