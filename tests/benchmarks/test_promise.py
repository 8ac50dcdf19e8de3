import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from benchmarks.forward.promise_card import measure_promise
from benchmarks.forward.worlds import ComplexFamily, NetworkFamily
from inverse_design.validate.judged import AGREE
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.screen import Screen
from surrogates.models.baselines import Additive, NoChange
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers.automatic import Automatic
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.models.wrappers.denoised import Denoised

DEFAULT = Automatic(unseen=(NoChange(),))  # what it makes of unseen parts is not asked for
COMPLEX = ComplexFamily(readouts=100, genes=12, doubles=48)
OTHERS = {
    "noisy": NetworkFamily(genes=10, doubles=20, network=30, noise=0.5, ceiling=2.0),
    "saturating": NetworkFamily(genes=9, doubles=24, network=30),
    "rare": NetworkFamily(genes=9, doubles=24, network=24, silent=6, rare=6),
}


@pytest.fixture(scope="module")
def benchmark() -> dict[str, Any]:
    """The names of the benchmark's module."""
    return runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "forward" / "promise.py"))


def with_folds(screen: Screen, folds: int) -> Screen:
    """Deal the doubles to fewer outer folds than five."""
    number = torch.cumsum(screen.batch.order == 2, 0) % folds
    return replace(screen, annotations=pd.DataFrame({"double_fold": number.numpy()}))


@pytest.mark.slow
def test_the_default_keeps_its_promise_where_a_law_that_knows_the_fold_collapses(
    benchmark: dict[str, Any],
) -> None:
    """Near-interchangeable genes: the fault for which laws are nested, and that it is gone."""
    screen = with_folds(COMPLEX.draw(seed=2), 2)
    leaky = measure_promise(screen, benchmark["Leaky"]((Denoised(Interaction()),)), seed=0)
    uniform = -torch.tensor(12 * 11 / 2).log()
    assert leaky.kept.promised > -0.05
    assert leaky.kept.kept < uniform
    assert leaky.kept.difference < -2  # few targets lose so much that the standard error is large as well
    assert leaky.lost > 2
    assert leaky.shares["covered"][0] < 0.75
    assert leaky.shares["unreachable"][0] > 0.5

    default = measure_promise(screen, DEFAULT, seed=0)
    assert set(default.names) == {"Denoised(Interaction)"}  # it predicts with the surrogate that collapsed
    assert abs(default.kept.difference) < AGREE
    assert default.lost < AGREE
    assert 0.82 < default.shares["covered"][0] < 0.98
    assert default.shares["unreachable"][0] < 0.1

    additive = measure_promise(screen, Calibrated(Additive()), seed=0)
    (found, error), (first, _) = additive.shares["top1"], default.shares["top1"]
    assert first > found - 2 * error
    assert first > leaky.shares["top1"][0] + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_the_default_keeps_its_promise_on_simulated_screens(name: str) -> None:
    card = measure_promise(with_folds(OTHERS[name].draw(seed=0), 2), DEFAULT, seed=0)
    assert abs(card.kept.difference) < AGREE
    assert card.lost < AGREE


def test_what_is_leaky_learns_the_law_of_a_fold_from_models_that_saw_it(benchmark: dict[str, Any]) -> None:
    """Residuals of the other folds are those of the plain cross-fits, and not those of nested ones."""
    screen = OTHERS["saturating"].draw(seed=0)
    leaky = benchmark["leaky"](Interaction(), screen, seed=0)
    nested = Calibrated(Interaction()).fit(screen, seed=0)
    plain = leaky.evidence[SEEN_DOUBLE]
    torch.testing.assert_close(plain.mean, nested.evidence[SEEN_DOUBLE].mean)
    for at, (one, other) in enumerate(zip(leaky.cross, nested.cross, strict=True)):
        assert isinstance(one.fitted, FittedCalibrated)
        assert isinstance(other.fitted, FittedCalibrated)
        folds = plain.mean.split([len(fit.batch) for fit in leaky.cross])
        elsewhere = torch.cat([*folds[at + 1 :], *folds[:at]])
        torch.testing.assert_close(one.fitted.evidence[SEEN_DOUBLE].mean, elsewhere)
        assert not torch.allclose(other.fitted.evidence[SEEN_DOUBLE].mean, elsewhere, atol=1e-3)


def test_rows_of_one_screen_are_averaged_into_a_table(
    benchmark: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(benchmark["measure"].__globals__, "FAMILIES", {"noisy": OTHERS["noisy"]})
    rows = benchmark["measure"](("noisy", 0), models=["additive"], readouts=None)
    found = {row.metric: row.value for row in rows}
    assert abs(found["difference"]) < AGREE
    rows += [replace(row, variant="seed 1", value=row.value + 3) for row in rows]
    value = {row.metric: row.value for row in benchmark["averages"](rows)}
    assert value["kept"] == pytest.approx(found["kept"] + 1.5)
    assert value["agree"] == (0.5 if found["difference"] + 3 > AGREE else 1)
    lines = benchmark["table"](benchmark["averages"](rows)).splitlines()
    assert lines[1].split()[:2] == ["noisy", "additive"]
    assert len(lines[0].split()) == len(lines[1].split()) - 2
