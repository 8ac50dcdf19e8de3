"""Every exported name, used as a user would; no name that nothing here uses."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge as RidgeRegressor
from strategies.contexts import factor_screen
from strategies.screens import label, pairs_of, planted_screen

import inverse_design as ivd
import surrogates as sg
from surrogates.models.training import Schedule

MOST_LINES, MOST_LETTERS = 5, 700
TOGETHER = pairs_of(8, 20)
SCREEN = planted_screen(alone=range(8), together=TOGETHER, readouts=6, bend=0.3, standard_error=0.2)
KNOWN, NEW = label(TOGETHER[0]), next(label(each) for each in pairs_of(8, 28) if each not in TOGETHER)
BRIEF = Schedule(epochs=2, batch=16)


def shown(*values: object) -> None:
    """Hold what a console shows of values against the size of a glance."""
    for value in values:
        text = repr(value)
        assert len(text.splitlines()) <= MOST_LINES, text
        assert len(text) <= MOST_LETTERS, text
        page = getattr(value, "_repr_html_", str)()
        assert "Traceback" not in page


@pytest.mark.parametrize(("name", "package"), [("ivd", ivd), ("sg", sg)])
def test_every_export_is_used_here(name: str, package: object) -> None:
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
    }
    assert used == set(package.__all__)  # type: ignore[attr-defined]


def test_to_import_a_package_imports_nothing_large() -> None:
    large = "{'torch', 'pandas', 'numpy', 'scipy', 'anndata', 'sklearn'}"
    code = f"import inverse_design, surrogates, sys; sys.exit(' '.join({large} & set(sys.modules)) or 0)"
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - our own words


def test_what_was_done_has_a_label() -> None:
    both = sg.Perturbation((sg.Intervention("KLF1"), sg.Intervention("CEBPE", dose=0.5)))
    vocabulary = sg.Vocabulary.of([both])
    batch = vocabulary.batch([sg.Perturbation.parse("KLF1+CEBPE@0.5")])
    assert both.label == "CEBPE@0.5+KLF1"
    assert torch.equal(batch.dose, sg.PerturbationBatch(batch.genes, batch.dose).dose)
    shown(both, vocabulary, batch, SCREEN.vocabulary, SCREEN.batch)


def test_screens_come_from_what_people_have(tmp_path: Path, real_data: Callable[[str], Path]) -> None:
    frame = SCREEN.to_frame()
    frame.to_csv(tmp_path / "screen.csv")
    screens = [sg.load(tmp_path / "screen.csv"), sg.read_screen(tmp_path / "screen.csv"), ivd.read_screen(frame)]
    assert {each.labels for each in screens} == {SCREEN.labels}
    assert sg.Screen is ivd.Screen
    larger = sg.with_targets(ivd.Screen.from_frame(frame), ["NEW"], mode="activation")
    assert "NEW" in larger.vocabulary.targets
    shown(*screens, larger)
    real_data("cellbox_skmel133")
    shown(sg.open_dataset("cellbox_skmel133"))
    with pytest.raises(sg.SurrogatesError, match="unknown dataset or file 'cellbox'"):
        sg.load("cellbox")
    with pytest.raises(sg.DataError, match="the first is nan for condition 'G00', readout 'r0'; remove or impute"):
        sg.Screen.from_frame(frame.mask(frame == frame.iloc[0, 0]))


def test_targets_are_described(real_data: Callable[[str], Path]) -> None:
    smiles = {"ethanol": "CCO", "methanol": "CO"}
    descriptors = sg.fingerprints(smiles, size=64)
    assert isinstance(descriptors, sg.Descriptors)
    real_data("gene_features")
    known = sg.gene_descriptors(["KLF1", "CEBPE"])
    assert {"KLF1", "CEBPE"} <= set(known[0].symbols)
    shown(descriptors, *known)


SMALL: dict[str, Callable[[], object]] = {
    "additive": sg.Additive,
    "scaled": sg.ScaledAdditive,
    "matching": sg.MatchingMean,
    "nothing": sg.NoChange,
    "mean": sg.PerturbationMean,
    "interaction": lambda: sg.Interaction(components=4, leading=2),
    "kernel": lambda: sg.KernelRidge(descriptors=(), loadings=2),
    "ridge": lambda: sg.Ridge(1.0),
    "regressor": lambda: sg.FromRegressor(RidgeRegressor()),
    "bilinear": lambda: sg.Bilinear(rank=2),
    "causal": lambda: sg.Causal(variable=5, steps=5),
    "dynamics": lambda: sg.SaturatingDynamics(restarts=1, schedule=BRIEF),
    "boosting": lambda: sg.GradientBoosting(descriptors=(), trees=3),
    "forest": lambda: sg.RandomForest(descriptors=(), trees=3),
    "latent": lambda: sg.LatentAdditive(latent=4, hidden=(4,), schedule=BRIEF),
    "denoised": lambda: sg.Denoised(sg.ScaledAdditive(), components=(3,), noise=(1.0,)),
    "ensemble": lambda: sg.Ensemble(sg.ScaledAdditive(), members=2),
    "residual": lambda: sg.Residual(sg.Additive(), sg.Ridge(1.0)),
    "stacked": lambda: sg.Stacked((sg.ScaledAdditive(), sg.MatchingMean()), unseen=False),
    "calibrated": lambda: sg.Calibrated(sg.Additive(), folds=3),
    "conformal": lambda: sg.Conformal(sg.ScaledAdditive(), folds=3),
    "automatic": lambda: sg.Automatic((sg.Additive(), sg.ScaledAdditive()), unseen=()),
}


@pytest.mark.parametrize("name", SMALL)
def test_forward_models_predict(name: str) -> None:
    model = SMALL[name]()
    predicted = model.fit(SCREEN, seed=0).predict(SCREEN.vocabulary.batch([sg.Perturbation.parse(NEW)]))  # type: ignore[attr-defined]
    assert predicted.mean.shape == (1, 6)
    assert bool(predicted.mean.isfinite().all() & (predicted.variance > 0).all())
    shown(model, predicted)


def test_models_of_several_contexts_predict(tmp_path: Path) -> None:
    screen = factor_screen(noise=0.1)
    brief = sg.LargePerturbation(width=4, hidden=(4,), members=1, schedule=BRIEF)
    simple = (sg.ContextMean(), sg.TwoFactor(), sg.TwoWay(), sg.SyntheticInterventions())
    for surrogate in (*simple, sg.Transfer(), brief):
        fitted = surrogate.fit(screen, seed=0)
        sg.save_fitted(fitted, tmp_path / "m", origin=sg.Origin.of(screen, surrogate, seed=0))
        again = sg.load_across_contexts(tmp_path / "m")
        views = [each.in_context(screen.contexts[0]).predict(screen.batch).mean for each in (fitted, again)]
        assert torch.equal(*views)
        shown(surrogate)


def test_models_of_cells_predict(tmp_path: Path) -> None:
    values = np.random.default_rng(0).poisson(2.0, size=(60, 5)).astype(float)
    obs = pd.DataFrame({"condition": ["control", "A", "B"] * 20}, index=[f"c{row}" for row in range(60)])
    var = pd.DataFrame(index=[f"g{column}" for column in range(5)])
    anndata.AnnData(np.log1p(values), obs=obs, var=var).write_h5ad(tmp_path / "c.h5ad")
    cells = sg.read_cells(tmp_path / "c.h5ad")
    assert isinstance(cells, sg.Cells)
    control = cells.of(sg.Perturbation(), "")
    for surrogate in (sg.TwoFactorCells(), sg.LatentShift(components=3, hidden=(4,), latent=2, schedule=BRIEF)):
        fitted = surrogate.fit(cells, seed=0)
        sg.save_fitted(fitted, tmp_path / "m", origin=sg.Origin("", {}, repr(surrogate), 0))
        done = sg.Perturbation.parse("A")
        predicted = [each.predict(control, done) for each in (fitted, sg.load_cells(tmp_path / "m"))]
        assert torch.equal(*predicted)
    shown(cells)


def test_errors_are_calibrated(tmp_path: Path) -> None:
    fitted = sg.Calibrated(sg.ScaledAdditive()).fit(SCREEN, seed=0)
    origin = sg.Origin.of(SCREEN, sg.ScaledAdditive(), seed=0)
    sg.save_fitted(fitted, tmp_path / "m", origin=origin)
    batch = SCREEN.vocabulary.batch([sg.Perturbation.parse(NEW)])
    intervals = [sg.conformal(each).interval(batch, 0.8) for each in (fitted, sg.load_fitted(tmp_path / "m"))]  # type: ignore[arg-type]
    assert torch.equal(intervals[0].lower, intervals[1].lower)
    split = sg.Split(torch.arange(20), torch.arange(20, 28))
    model = sg.ScaledAdditive().fit(SCREEN.rows(split.train), seed=0)
    fold = sg.HeldOutFit(model, SCREEN.batch.rows(split.test), SCREEN.effects[split.test])
    known = sg.FittedConformal(model, (fold,))
    assert bool((known.interval(batch, 0.5).lower < known.interval(batch, 0.5).upper).all())
    parts = sg.decompose(fitted, batch, SCREEN)
    assert bool((parts.aleatoric >= parts.measurement).all())
    shown(fitted, split, fold, known, origin, parts, *intervals)


def test_models_are_scored_and_tuned() -> None:
    rows = sg.score_forward(SCREEN, {"scaled": sg.ScaledAdditive()}, seed=0)
    assert "scaled" in {row.model for row in rows}
    shown(*rows[:3])
    assert sg.held_out_error(sg.ScaledAdditive(), SCREEN, seed=0, folds=2) > 0


def test_a_screen_is_asked_in_python() -> None:
    fitted = ivd.fit(SCREEN, surrogate="scaled_additive", cache=ivd.FitCache(limit=0))
    predicted = fitted.predict([NEW])
    rules = ivd.Constraints(excluded=("G07",))
    foreseen = ivd.plan(SCREEN, KNOWN, surrogate="scaled_additive", constraints=rules)
    assert isinstance(foreseen, ivd.Plan)
    shown(foreseen, ivd.plan_ranking(SCREEN, KNOWN, [NEW], surrogate="scaled_additive"))
    answer = ivd.propose(SCREEN, KNOWN, surrogate="scaled_additive", constraints=rules)
    ranking = ivd.rank(SCREEN, KNOWN, [KNOWN, NEW], surrogate="scaled_additive", budget=1.0)
    kinds = (ivd.ScreenFit, ivd.Prediction, ivd.Proposal, ivd.Ranking)
    assert all(isinstance(*pair) for pair in zip((fitted, predicted, answer, ranking), kinds, strict=True))
    assert not answer.table["perturbation"].str.contains("G07").any()
    assert answer.table["perturbation"][0] in repr(answer)
    assert answer.table["perturbation"][0] in answer._repr_html_()
    shown(fitted, predicted, answer, ranking, answer.search, answer.search.top, answer.fitted, answer.space)
    measured = tuple(label(TOGETHER[1]).split("+"))
    with pytest.raises(ivd.NothingToProposeError, match="relax a constraint"):
        ivd.propose(SCREEN, KNOWN, surrogate="additive", constraints=ivd.Constraints(allowed=measured))
    assert issubclass(ivd.NothingToProposeError, ivd.InverseDesignError)


def test_targets_are_built() -> None:
    start = ivd.ProfileTarget("now", ("r0", "r1"), torch.tensor([1.0, 0.0]))
    end = ivd.ProfileTarget("then", ("r1", "r0"), torch.tensor([2.0, 1.5]))
    way = ivd.shift("way", start, end)
    assert dict(zip(way.readouts, way.values.tolist(), strict=True)) == {"r0": 0.5, "r1": 2.0}
    marks = ivd.SignatureTarget("marks", {"r0": 1.0}, {"r5": 1.0})
    up = ivd.ScalarTarget("r0", "maximise")
    assert [len(target.on(SCREEN.readouts).columns) for target in (way, marks, up)] == [2, 2, 1]
    assert ivd.rank(SCREEN, marks, [NEW], surrogate="additive").target == marks
    obs = pd.DataFrame({"state": ["control", "state"] * 10}, index=[f"c{row}" for row in range(20)])
    cells = anndata.AnnData(np.random.default_rng(0).normal(size=(20, 6)), obs=obs)
    cells.var_names = list(SCREEN.readouts)
    state = ivd.state_of_cells(cells, target_col="state")
    assert state.readouts == SCREEN.readouts
    shown(start, marks, up, state)


def test_campaigns_are_kept(tmp_path: Path) -> None:
    settings = ivd.CampaignSettings(name="first", target="up", batch_size=3, surrogate="additive")
    store = ivd.open_store(tmp_path / "c.db", create=True)
    up = ivd.ScalarTarget("r0", "maximise")
    batch = ivd.Campaign.create(SCREEN, target=up, settings=settings, store=store).ask()
    campaign = ivd.Campaign.open(tmp_path / "c.db", "first")
    assert campaign.batch().labels == batch.labels
    told = campaign.tell(pd.DataFrame(np.eye(3, 6), index=batch.labels, columns=list(campaign.readouts)))
    shown(settings, campaign, batch, told, campaign.status(), campaign.advice(batch))


def test_spaces_are_searched() -> None:
    rules = ivd.Constraints(groups=(ivd.Group("one of them", ("G00", "G01")),))
    space = ivd.CombinationSpace.of(SCREEN.vocabulary, orders=(2,), constraints=rules, measured=SCREEN.batch)
    fitted = sg.Calibrated(sg.ScaledAdditive()).fit(SCREEN, seed=0)
    from inverse_design.problem.objective import SignedProjection  # noqa: PLC0415 - as the guide for authors does

    objective = SignedProjection(ivd.ScalarTarget("r0", "maximise").on(SCREEN.readouts))
    score = objective.pair_score(fitted, space)
    assert score is not None
    quick = ivd.search_pairs(score, 3, space=space)
    slow = ivd.search_stream(space, lambda batch: objective.utility(fitted, batch).mean, 3)
    assert torch.equal(quick.top.index, slow.top.index)
    shown(space, quick, rules, *rules.groups)


def test_retrieval_is_measured() -> None:
    from inverse_design.validate.retrieval import METHODS  # noqa: PLC0415 - a few of the shipped ones

    some = dict(list(METHODS.items())[:1])
    report = ivd.measure_retrieval(SCREEN, seed=0, methods=some, most_targets=4)
    assert all(set(found) == set(some) for found in report.found.values())
    shown(report)
