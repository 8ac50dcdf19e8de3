"""What every registered model makes of unhelpful data: a refusal that says why, or finite predictions."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from strategies.screens import normal, pairs_of, planted_screen

from surrogates.contrib.descriptor_learners import GradientBoosting, RandomForest
from surrogates.contrib.dynamics import SaturatingDynamics
from surrogates.data.descriptors import Descriptors
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError, UnknownNameError
from surrogates.models.base import Fitted, Surrogate
from surrogates.models.kernel import KernelRidge
from surrogates.models.registry import CONTEXT_SURROGATES, SURROGATES
from surrogates.models.training import Schedule
from surrogates.testing import probe_batch

KNOWN = ("AHR", "BAK1", "CEBPA", "DUSP9", "ETS2", "FOXA1", "KLF1")  # the shipped descriptors know them
SUMS = {
    *("additive", "scaled_additive", "interaction", "denoised_additive", "denoised_interaction", "stacked"),
    *("stacked_per_readout", "ensemble", "latent_residual"),
}
OF_CELLS = {"cpa", "cpa_without_adversary", "sams_vae"}
TRAINED = {
    *("latent_additive", "latent_residual", "decoder_only", "gears", "sclambda", "saturating_dynamics"),
    *OF_CELLS,
}


def _known(screen: Screen) -> Screen:
    """Give the targets names that are known, in the same order."""
    entries = zip(screen.vocabulary.entries, KNOWN, strict=False)
    return replace(screen, vocabulary=Vocabulary(tuple(replace(each, target=name) for each, name in entries)))


FULL = _known(planted_screen(alone=range(7), together=pairs_of(7, 10)))
SCREENS = {
    "no effect": replace(FULL, effects=torch.zeros_like(FULL.effects)),
    "three singles": _known(planted_screen(alone=range(3), together=[])),
    "one single": FULL.rows([0]),
    "no condition": FULL.rows([]),
    "fewer conditions than parameters": _known(planted_screen(alone=range(2), together=[(0, 1)])),
    "nothing alone": _known(planted_screen(alone=(), together=pairs_of(7, 10))),
    "targets among the readouts": replace(FULL.rows([0, 1, 7, 8]), readouts=(*KNOWN[:3], *FULL.readouts[3:])),
}
REFUSALS = {  # who refuses which screen, and with what message
    "one single": (TRAINED, r"1 condition\(s\) are too few; give 3 or more"),
    "no condition": ({*SURROGATES.shipped}, r"no conditions; give one|0 condition\(s\) are too few; give 3"),
    "nothing alone": (SUMS, "none of the 7 interventions was measured alone; add single perturbations"),
}
REFUSALS_ACROSS = {
    "one single": (
        {"synthetic_interventions", "transfer"},
        r"only the context\(s\) \['A'\].* join screens with join_contexts",
    ),
    "no condition": ({*CONTEXT_SURROGATES.shipped}, r"has no conditions; give one|only the context\(s\) \[\]"),
    "nothing alone": ({"transfer"}, "none of the 7 interventions was measured alone in any context; add single"),
}


BRIEF = {"decoder_only", "gears", "sclambda"}  # trained for a few epochs only: their own would take long


def _surrogate(name: str) -> Surrogate:
    made = SURROGATES.load(name)()
    return replace(made, schedule=Schedule(epochs=3)) if name in BRIEF else made  # type: ignore[type-var, call-arg]


def _in_three_contexts(screen: Screen) -> Screen:
    """Repeat a screen in three contexts, each weaker than the last; a single condition stays in one."""
    contexts = range(3 if len(screen) > 1 else 1)
    return replace(
        screen,
        effects=torch.cat([screen.effects * (1 - 0.2 * number) for number in contexts]),
        batch=PerturbationBatch(
            *(each.repeat(len(contexts), 1) for each in (screen.batch.genes, screen.batch.dose))
        ),
        contexts=tuple("ABC"[number] for number in contexts for _ in range(len(screen))),
        annotations=pd.DataFrame(index=range(len(contexts) * len(screen))),
    )


def _check(fitted: Fitted, batch: PerturbationBatch, *, most: float = float("inf")) -> None:
    """Predictions are finite and at most so large, with no effect of the control, which is the first row."""
    posterior = fitted.predict(batch)
    assert batch.order[0] == 0
    assert posterior.mean[0].tolist() == [0.0] * len(fitted.readouts)
    for values in (posterior.mean, posterior.variance, posterior.scale):
        assert torch.isfinite(values).all()
    assert (posterior.variance >= 0).all()
    assert posterior.mean.abs().max() <= most


def _most(case: str) -> float:
    """Where there was no effect, hardly any is predicted: a network starts from small random effects."""
    return 0.1 if case == "no effect" else float("inf")


@pytest.mark.parametrize("case", SCREENS)
@pytest.mark.parametrize("name", SURROGATES.shipped)
def test_a_screen_is_refused_with_a_reason_or_gives_finite_predictions(name: str, case: str) -> None:
    surrogate, screen = _surrogate(name), SCREENS[case]
    refusing, message = REFUSALS.get(case, (set(), ""))
    if name in refusing:
        with pytest.raises(DataError, match=message):
            surrogate.fit(screen, seed=0)
    else:
        _check(surrogate.fit(screen, seed=0), probe_batch(screen), most=_most(case))


@pytest.mark.parametrize("kind", [KernelRidge, RandomForest, GradientBoosting])
@pytest.mark.parametrize("described", [1, 2])
def test_descriptors_of_hardly_any_target_give_finite_predictions(
    kind: type[KernelRidge] | type[RandomForest] | type[GradientBoosting], described: int
) -> None:
    few = Descriptors("few", "linear", KNOWN[:described], normal(described, 2, seed=0))
    _check(kind(descriptors=(few,)).fit(FULL, seed=0), probe_batch(FULL))


@pytest.mark.parametrize("name", SURROGATES.shipped)
def test_several_contexts_are_refused_by_models_of_one(name: str) -> None:
    with pytest.raises(DataError, match=r"3 contexts, 'A' and 'B' among them; take one with screen\.in_context"):
        _surrogate(name).fit(_in_three_contexts(FULL), seed=0)


def _dosed() -> tuple[Screen, Screen]:
    """All conditions, and those without the largest dose of the first compound."""
    labels = ["A@0.5", "A@1", "B@1", "B@3", "C@1", "A@0.5+B@1", "A@50", "A@50+B@3"]
    parsed = [Perturbation.parse(label) for label in labels]
    every = Screen.from_labels(normal(8, 12, seed=0), parsed, [f"r{number}" for number in range(12)])
    return every, every.rows(range(6))


@pytest.mark.parametrize("name", SURROGATES.shipped)
def test_doses_beyond_the_training_data_give_finite_predictions(name: str) -> None:
    every, trained = _dosed()
    fitted, batch = _surrogate(name).fit(trained, seed=0), probe_batch(every)
    _check(fitted, batch)
    _check(fitted, PerturbationBatch(batch.genes, 100 * batch.dose))


def test_doses_beyond_the_training_data_are_flagged() -> None:
    every, trained = _dosed()
    fitted = SaturatingDynamics(restarts=1).fit(trained, seed=0)
    assert fitted.outside_trained_range(every.batch).tolist() == [False] * 6 + [True] * 2
    assert fitted.outside_trained_range(PerturbationBatch(every.batch.genes, 100 * every.batch.dose)).all()


@pytest.mark.parametrize("case", [*SCREENS][:-1])  # readouts named like targets mean nothing to these
@pytest.mark.parametrize("name", CONTEXT_SURROGATES.shipped)
def test_contexts_are_refused_with_a_reason_or_give_finite_predictions(name: str, case: str) -> None:
    surrogate, screen = CONTEXT_SURROGATES.load(name)(), _in_three_contexts(SCREENS[case])
    refusing, message = REFUSALS_ACROSS.get(case, (set(), ""))
    if name in refusing:
        with pytest.raises(DataError, match=message):
            surrogate.fit(screen, seed=0)
        return
    fitted = surrogate.fit(screen, seed=0)
    for context in fitted.contexts:
        _check(fitted.in_context(context), probe_batch(screen), most=_most(case))


@pytest.mark.parametrize("name", CONTEXT_SURROGATES.shipped)
def test_a_context_never_seen_is_predicted_by_the_model_without_contexts_and_refused_by_others(name: str) -> None:
    screen = _in_three_contexts(SCREENS["three singles"])
    fitted = CONTEXT_SURROGATES.load(name)().fit(screen, seed=0)
    if name == "two_factor":
        _check(fitted.in_context("D"), probe_batch(screen))
    else:
        with pytest.raises(UnknownNameError, match="unknown context 'D': known are 'A', 'B', 'C'"):
            fitted.in_context("D")


@pytest.mark.parametrize("name", sorted(TRAINED))
def test_an_interrupted_training_leaves_no_trace(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    surrogate, screen, random = _surrogate(name), SCREENS["three singles"], torch.get_rng_state()
    undisturbed = surrogate.fit(screen, seed=0).predict(probe_batch(screen)).mean

    def interrupted(*_: object) -> float:
        torch.rand(1)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("surrogates.models.training._one_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            surrogate.fit(screen, seed=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(surrogate.fit(screen, seed=0).predict(probe_batch(screen)).mean, undisturbed)
