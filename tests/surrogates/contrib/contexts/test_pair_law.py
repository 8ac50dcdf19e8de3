from itertools import combinations

import pytest
import torch
from strategies.screens import normal, pairs_of

from surrogates.contrib.contexts import transfer as pair_law
from surrogates.contrib.contexts.transfer import additive_law, fit_pair_law, in_spreads
from surrogates.data.perturbation import Perturbation
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary

VOCABULARY = Vocabulary.of([Perturbation.parse("+".join(f"G{number:02d}" for number in range(14)))])
SINGLES = normal(14, 2, seed=0)
TRIPLE = torch.tensor([[0, 3, 7]])


def _pairs(count: int, *, seed: int = 0) -> PerturbationBatch:
    return VOCABULARY.dosed(torch.tensor(sorted(pairs_of(14, count, seed=seed))))


def _blank(batch: PerturbationBatch, quantities: int = 1) -> torch.Tensor:
    return torch.zeros(len(batch), quantities, 2, dtype=torch.float64)


def _truth(batch: PerturbationBatch, offset: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """The module's equation, pair by pair."""
    z = in_spreads(SINGLES)
    rows = []
    for i, j in batch.genes.tolist():
        total = SINGLES[i] + SINGLES[j]
        bend = 0.5 - 0.3 * total + 0.2 * total**2 + 0.1 * SINGLES[i] * SINGLES[j]
        rows.append(total + bend + offset[i] + offset[j] + slope[i] * z[j] + slope[j] * z[i])
    return torch.stack(rows)


def test_planted_offsets_and_slopes_are_found() -> None:
    offset, slope = 0.5 * normal(14, 2, seed=1), 0.5 * normal(14, 2, seed=2)
    batch, new = _pairs(70), _pairs(91)
    law = fit_pair_law(batch, _truth(batch, offset, slope), SINGLES, _blank(batch))
    truth = _truth(new, offset, slope)
    left = (law.mean(new, _blank(new)) - truth).square().sum()
    curve_only = fit_pair_law(batch, _truth(batch, 0 * offset, 0 * slope), SINGLES, _blank(batch))
    assert left < 0.05 * (curve_only.mean(new, _blank(new)) - truth).square().sum()


def test_the_prediction_is_the_design_times_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    # The fast path gathers by entry; the slow one spells the equation out, also for a combination of three.
    batch = _pairs(60)
    elsewhere = normal(60, 2, 2, seed=4)
    monkeypatch.setattr(pair_law, "_ROWS_AT_ONCE", 7)
    law = fit_pair_law(batch, _truth(batch, SINGLES, SINGLES), SINGLES, elsewhere)
    for genes in ([2, 5], [0, 3, 7]):
        one = VOCABULARY.dosed(torch.tensor([genes]))
        known = normal(1, 2, 2, seed=5)
        total = SINGLES[genes].sum(0)
        products = sum(SINGLES[i] * SINGLES[j] for i, j in combinations(genes, 2))
        terms = torch.stack([torch.ones(2).double(), total, total**2, products, SINGLES[genes].amin(0)])
        z = in_spreads(SINGLES)
        expected = total + ((terms - law.centre) / law.spread * law.curve).sum(0)
        for i in genes:
            expected = expected + law.offset[i] + law.slope[i] * sum(z[j] for j in genes if j != i)
        expected = expected + (law.elsewhere * known[0]).sum(0)
        torch.testing.assert_close(law.mean(one, known)[0], expected)


def test_the_fit_is_the_ridge_that_the_evidence_prefers(monkeypatch: pytest.MonkeyPatch) -> None:
    # Products of sparse blocks against the normal equations of the whole design.
    monkeypatch.setattr(pair_law, "maximise_evidence", lambda *_: torch.full((4,), 0.5, dtype=torch.float64))
    monkeypatch.setattr(pair_law, "_ROWS_AT_ONCE", 11)
    batch, elsewhere = _pairs(60), normal(60, 1, 2, seed=4)
    effects = _truth(batch, SINGLES, SINGLES) + normal(60, 2, seed=6)
    law = fit_pair_law(batch, effects, SINGLES, elsewhere)
    z = in_spreads(SINGLES)
    for readout in range(2):
        i, j = batch.genes.T
        s = SINGLES[:, readout]
        total = s[i] + s[j]
        curve = torch.stack([torch.ones(60).double(), total, total**2, s[i] * s[j], torch.minimum(s[i], s[j])], 1)
        curve[:, 1:] = (curve[:, 1:] - curve[:, 1:].mean(0)) / curve[:, 1:].std(0)
        marks = batch.multi_hot(14)
        slopes = torch.zeros_like(marks)
        slopes[torch.arange(60), i], slopes[torch.arange(60), j] = z[j, readout], z[i, readout]
        blocks = [curve, marks, slopes, elsewhere[:, :, readout]]
        design = torch.cat(blocks, dim=1)
        inverse = torch.cat([
            (block.square().sum(1).mean() / 0.5).expand(block.shape[1]) for block in blocks
        ])  # fmt: skip
        gram = design.T @ design + torch.diag(inverse)
        weights = torch.linalg.solve(gram, design.T @ (effects[:, readout] - total))
        actual = torch.cat([
            law.curve[:, readout], law.offset[:, readout], law.slope[:, readout], law.elsewhere[:, readout]
        ])  # fmt: skip
        torch.testing.assert_close(actual, weights)
        hat = design @ torch.linalg.solve(gram, design.T)
        residual = effects[:, readout] - total - design @ weights
        expected = residual.square().mean() / (1 - hat.trace() / 60) ** 2
        torch.testing.assert_close(law.variance[readout], expected)


def test_what_is_known_elsewhere_is_used_as_far_as_it_helps() -> None:
    batch = _pairs(80)
    departure, noise = normal(80, 2, seed=1), normal(80, 2, seed=2)
    additive = SINGLES[batch.genes].sum(1)
    known = torch.stack([departure, noise], dim=1)
    law = fit_pair_law(batch, additive + 0.7 * departure + 0.05 * noise.flip(0), SINGLES, known)
    torch.testing.assert_close(law.elsewhere[0], torch.full((2,), 0.7).double(), atol=0.1, rtol=0)
    assert float(law.elsewhere[1].abs().max()) < 0.1


def test_additive_data_and_few_combinations_give_additive_predictions() -> None:
    new = VOCABULARY.dosed(TRIPLE)
    expected = SINGLES[TRIPLE[0]].sum(0)
    for count in (0, 7, 40):
        batch = _pairs(count) if count else VOCABULARY.dosed(torch.zeros(0, 2, dtype=torch.int64))
        law = fit_pair_law(batch, SINGLES[batch.genes].sum(1), SINGLES, _blank(batch))
        torch.testing.assert_close(law.mean(new, _blank(new))[0], expected)


def test_single_perturbations_get_their_own_effect() -> None:
    batch = _pairs(40)
    law = fit_pair_law(batch, 3 * SINGLES[batch.genes].sum(1) + 1, SINGLES, _blank(batch))
    alone = VOCABULARY.dosed(torch.tensor([[4, -1], [-1, -1]]))
    assert torch.equal(law.mean(alone, _blank(alone)), torch.stack([SINGLES[4], torch.zeros(2).double()]))


def test_effects_that_are_all_alike_are_no_trouble() -> None:
    batch = _pairs(40)
    for value in (0.0, 1.0):
        singles = torch.full((14, 2), value, dtype=torch.float64)
        law = fit_pair_law(batch, torch.full((40, 2), 2 * value + 1).double(), singles, _blank(batch))
        torch.testing.assert_close(
            law.mean(batch, _blank(batch)), torch.full((40, 2), 2 * value + 1).double(), atol=0.05, rtol=0
        )
    assert not bool(additive_law(singles, elsewhere=1).mean(batch, _blank(batch)).isnan().any())


def test_an_entry_outside_the_combinations_has_no_offset() -> None:
    batch = _pairs(91)
    batch = batch.rows(torch.nonzero((batch.genes != 13).all(dim=1)).flatten())
    law = fit_pair_law(batch, _truth(batch, SINGLES, SINGLES), SINGLES, _blank(batch))
    assert not bool(law.offset[13].any())
    assert bool(law.offset[:13].all())
