"""The contract of forward models, as checks that the author of a plug-in can run.

Example:
    >>> from surrogates.data.simulate import Network
    >>> from surrogates.data.simulate import LinearCausalWorld, singles_and_doubles
    >>> from surrogates.models.baselines import Additive
    >>> network = Network(genes=10)
    >>> design = singles_and_doubles(network, doubles=20, seed=0)
    >>> check_surrogate(Additive(), LinearCausalWorld(network).screen(design, seed=0))
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from jaxtyping import Int
from torch import Tensor

from surrogates.contrib.cells.shift import treated_beside_controls
from surrogates.data.io.cells import CONTROL, Cells
from surrogates.data.io.dialects import Dialect
from surrogates.data.io.readers import Reader
from surrogates.data.novelty import SEEN_DOUBLE, novelty_code
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import EMPTY, PerturbationBatch
from surrogates.errors import DataError, UnknownNameError
from surrogates.models.base import (
    CellSurrogate,
    ContextSurrogate,
    Fitted,
    FittedAcrossContexts,
    FittedCells,
    Surrogate,
    latent_factors,
)
from surrogates.uncertainty.posterior import GaussianPosterior

_MOST_PAIRS = 300


def check_surrogate(surrogate: Surrogate, screen: Screen, *, seed: int = 0) -> None:
    """Check that a surrogate keeps the contract; run it on several screens."""
    check_configuration(surrogate)
    check_fit(surrogate, screen, seed=seed)
    check_row_order(surrogate, screen, seed=seed)
    fitted = surrogate.fit(screen, seed=seed)
    check_predictions(fitted, screen)
    check_pair_factors(fitted)


def check_context_surrogate(
    surrogate: ContextSurrogate, screen: Screen, *, seed: int = 0, tolerance: float = 1e-4
) -> None:
    """Check that a surrogate of several contexts keeps the contract; run it on several screens."""
    check_configuration(surrogate)
    surrogate_before, screen_before = copy.deepcopy((surrogate, screen))
    fitted: object = surrogate.fit(screen, seed=seed)
    if surrogate != surrogate_before:
        raise AssertionError("fit changed the configuration")
    _close(screen.effects, screen_before.effects, "fit changed the effects of the screen")
    _close(screen.batch.genes, screen_before.batch.genes, "fit changed the design of the screen")
    if not isinstance(fitted, FittedAcrossContexts):
        raise AssertionError("fit did not return a value that satisfies FittedAcrossContexts")  # noqa: TRY004 - a broken contract
    if fitted.contexts != tuple(sorted(set(screen.contexts))):
        raise AssertionError(f"the contexts {fitted.contexts} are not those of the screen, sorted")
    shuffle = torch.randperm(len(screen), generator=torch.Generator().manual_seed(seed))
    again, shuffled = surrogate.fit(screen, seed=seed), surrogate.fit(screen.rows(shuffle), seed=seed)
    probe, allowed = probe_batch(screen), tolerance * float(screen.effects.abs().max())
    for context in fitted.contexts:
        view = fitted.in_context(context)
        _check_view(view, screen)
        mean = view.predict(probe).mean
        _close(again.in_context(context).predict(probe).mean, mean, "the same seed gave another prediction")
        other = shuffled.in_context(context).predict(probe).mean
        _close(other, mean, "the order of the screen's rows matters", tolerance=allowed)
    _check_unseen_context(fitted, screen)


def check_cell_surrogate(
    surrogate: CellSurrogate, cells: Cells, *, seed: int = 0, tolerance: float = 1e-4
) -> None:
    """Check that a surrogate of cells keeps the contract; run it on several designs.

    The first control cells of the first context that has treated cells, too, are predicted.
    """
    check_configuration(surrogate)
    surrogate_before, values_before = copy.deepcopy(surrogate), cells.values.clone()
    fitted: object = surrogate.fit(cells, seed=seed)
    if surrogate != surrogate_before:
        raise AssertionError("fit changed the configuration")
    _close(cells.values, values_before, "fit changed the cells")
    if not isinstance(fitted, FittedCells):
        raise AssertionError("fit did not return a value that satisfies FittedCells")  # noqa: TRY004 - a broken contract
    if fitted.readouts != cells.readouts:
        raise AssertionError("the fitted model has other readouts than the cells")
    what, (where, *_) = next(iter(treated_beside_controls(cells).items()))
    control = cells.of(CONTROL, where)[:8]
    mean = fitted.predict(control, what)
    _check_predicted_cells(fitted, control, what)
    allowed = tolerance * float(cells.values.abs().max())
    shuffle = torch.randperm(len(cells), generator=torch.Generator().manual_seed(seed))
    again, shuffled = (
        surrogate.fit(each, seed=seed).predict(control, what) for each in (cells, cells.rows(shuffle))
    )
    _close(again, mean, "the same seed gave another prediction")
    _close(shuffled, mean, "the order of the cells matters", tolerance=allowed)
    treated = torch.tensor([each.order > 0 for each in cells.perturbations])[cells.codes]
    _refuses(lambda: surrogate.fit(cells.rows(treated.nonzero().flatten()), seed=seed), "cells without controls")
    _check_single_cell(surrogate, cells, what, seed=seed)


def check_reader(read: Reader, path: Path, *, stated: Dialect | None = None) -> None:
    """Check that a reader reads a file twice alike, and refuses damaged ones by a :class:`DataError`."""
    dialect, provenance = stated or Dialect(), {"source": path.name}
    one, other = (read(path, dialect, provenance) for _ in range(2))
    if one.provenance.get("source") != path.name:
        raise AssertionError("the screen does not keep the provenance that the reader was given")
    _close(other.effects, one.effects, "the same file was read in two ways")
    chosen = read(path, replace(dialect, readouts=one.readouts[:1]), provenance)
    if chosen.readouts != one.readouts[:1]:
        raise AssertionError(f"one readout was asked for, and {len(chosen.readouts)} were read")
    with TemporaryDirectory() as folder:
        damaged = Path(folder) / path.name
        damaged.write_bytes(b"\x00\xff no such format")
        try:
            read(damaged, dialect, provenance)
        except DataError:
            return
    raise AssertionError("a damaged file was read")


def check_configuration(surrogate: Surrogate | ContextSurrogate | CellSurrogate) -> None:
    """Check that a configuration is a frozen dataclass."""
    parameters = getattr(type(surrogate), "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        raise AssertionError(f"{type(surrogate).__name__} is not a frozen dataclass")


def check_fit(surrogate: Surrogate, screen: Screen, *, seed: int = 0) -> None:
    """Check that fitting changes neither configuration nor screen, and that the seed fixes its result."""
    surrogate_before, screen_before = copy.deepcopy((surrogate, screen))
    fitted: object = surrogate.fit(screen, seed=seed)
    if surrogate != surrogate_before:
        raise AssertionError("fit changed the configuration")
    if not isinstance(fitted, Fitted):
        raise AssertionError("fit did not return a value that satisfies Fitted")  # noqa: TRY004 - a broken contract
    _close(screen.effects, screen_before.effects, "fit changed the effects of the screen")
    _close(screen.batch.genes, screen_before.batch.genes, "fit changed the design of the screen")
    if (fitted.vocabulary, fitted.readouts) != (screen.vocabulary, screen.readouts):
        raise AssertionError("the fitted model has another vocabulary or other readouts than the screen")
    probe = probe_batch(screen)
    again = surrogate.fit(screen, seed=seed).predict(probe).mean
    _close(again, fitted.predict(probe).mean, "the same seed gave another prediction")


def check_row_order(surrogate: Surrogate, screen: Screen, *, seed: int = 0, tolerance: float = 1e-4) -> None:
    """Check that the order of a screen's rows does not matter."""
    shuffle = torch.randperm(len(screen), generator=torch.Generator().manual_seed(seed))
    probe = probe_batch(screen)
    one = surrogate.fit(screen, seed=seed).predict(probe).mean
    other = surrogate.fit(screen.rows(shuffle), seed=seed).predict(probe).mean
    allowed = tolerance * float(screen.effects.abs().max())
    _close(other, one, "the order of the screen's rows matters", tolerance=allowed)


def check_predictions(fitted: Fitted, screen: Screen) -> None:
    """Check shapes, finite numbers, the control, the empty batch, and that rows are predicted on their own."""
    probe = probe_batch(screen)
    posterior = fitted.predict(probe)
    shape = (len(probe), len(fitted.readouts))
    for name, values in (("mean", posterior.mean), ("variance", posterior.variance)):
        if values.shape != shape or not bool(torch.isfinite(values).all()):
            raise AssertionError(f"the {name} is not finite, or its shape {tuple(values.shape)} is not {shape}")
    if bool((posterior.variance < 0).any()):
        raise AssertionError("a variance is negative")
    empty = fitted.predict(probe.rows(slice(0, 0)))
    if empty.mean.shape != (0, shape[1]) or empty.variance.shape != (0, shape[1]):
        raise AssertionError("an empty batch does not give an empty prediction")
    reverse = torch.arange(len(probe)).flip(0)
    backwards = fitted.predict(probe.rows(reverse))
    allowed = 1e-9 * float(screen.effects.abs().max())
    _close(backwards.mean, posterior.mean[reverse], "the mean depends on the order of rows", tolerance=allowed)
    _close(
        backwards.variance,
        posterior.variance[reverse],
        "the variance depends on the order of rows",
        tolerance=1e-9 * float(posterior.variance.max()),
    )
    if bool(posterior.mean[probe.order == 0].any()):
        raise AssertionError("the control is predicted to have an effect")


def _check_predicted_cells(fitted: FittedCells, control: Tensor, what: Perturbation) -> None:
    """Cells are predicted one by one, in float64; the control changes nothing, and what is unknown is refused."""
    found = fitted.predict(control, what)
    if found.shape != control.shape or found.dtype != torch.float64 or not bool(torch.isfinite(found).all()):
        raise AssertionError(f"predicted cells are {found.dtype} of shape {tuple(found.shape)}, or not finite")
    allowed = 1e-6 * float(control.abs().max())
    alone = torch.cat([fitted.predict(cell[None], what) for cell in control])
    _close(alone, found, "a cell is predicted otherwise beside others", tolerance=allowed)
    unchanged = fitted.predict(control, CONTROL)
    _close(unchanged, control.double(), "the control is predicted to have an effect")
    _refuses(lambda: fitted.predict(control[:, 1:], what), "cells with a readout too few")
    _refuses(lambda: fitted.predict(control * torch.nan, what), "cells of NaN")
    never = Perturbation((Intervention("a target never seen"),))
    _refuses(lambda: fitted.predict(control, never), "a target never seen")


def _check_single_cell(surrogate: CellSurrogate, cells: Cells, what: Perturbation, *, seed: int) -> None:
    """One treated cell is enough for finite predictions, or refused."""
    of_what = torch.tensor([each == what for each in cells.perturbations])[cells.codes]
    kept = ~of_what | (of_what.cumsum(0) == 1)
    try:
        fitted = surrogate.fit(cells.rows(kept.nonzero().flatten()), seed=seed)
        found = fitted.predict(cells.values[:4], what)
    except DataError:
        return
    if not bool(torch.isfinite(found).all()):
        raise AssertionError("a condition of one cell gives predictions that are not finite")


def _refuses(action: Callable[[], object], what: str) -> None:
    try:
        action()
    except DataError:
        return
    raise AssertionError(f"{what} should be refused by a DataError")


def _check_view(view: object, screen: Screen) -> None:
    if not isinstance(view, Fitted):
        raise AssertionError("in_context did not return a value that satisfies Fitted")  # noqa: TRY004 - a broken contract
    if (view.vocabulary, view.readouts) != (screen.vocabulary, screen.readouts):
        raise AssertionError("a view has another vocabulary or other readouts than the screen")
    if view.measured_alone.shape != (len(screen.vocabulary),):
        raise AssertionError("a view does not say of each vocabulary entry whether it was measured alone")
    check_predictions(view, screen)


def _check_unseen_context(fitted: FittedAcrossContexts, screen: Screen) -> None:
    """A context never seen is predicted, or refused by name; nothing else."""
    try:
        view = fitted.in_context("a context never seen")
    except UnknownNameError:
        return
    _check_view(view, screen)


def check_pair_factors(fitted: Fitted) -> None:
    """Check that pair factors and networks on sums, if a model has any, give what it predicts for pairs."""
    found = latent_factors(fitted)
    if found is None:
        return
    pairs = _pairs(fitted)
    posterior = fitted.predict(pairs)
    i, j = pairs.genes.T
    factors, scale = found.factors, found.scale
    mean = factors.main[i] + factors.main[j] + (factors.scores[i] * factors.scores[j]) @ factors.basis
    for each in found.networks:
        state = each.rows[i] + each.rows[j]
        for number, threshold in enumerate(each.thresholds):
            state = state if number == 0 else state @ each.weights[number - 1].T
            state = (state + threshold).relu() - threshold.relu()
        mean = mean + state @ each.output.T
    allowed = 1e-8 * float(posterior.mean.abs().max())
    _close(mean, posterior.mean, "pair factors differ from the predicted mean", tolerance=allowed)
    if isinstance(posterior, GaussianPosterior):
        spread = scale.side[i] + scale.side[j] + (scale.left[i] * scale.right[j]).sum(1)
        allowed = 1e-8 * float(posterior.scale.max())
        _close(spread, posterior.scale, "the pair scale differs from the posterior's", tolerance=allowed)


def probe_batch(screen: Screen) -> PerturbationBatch:
    """Collect perturbations on which models are compared."""
    genes, targets = screen.batch.genes, screen.vocabulary.targets
    neighbours = [(i, i + 1) for i in range(len(targets) - 1) if targets[i] != targets[i + 1]]
    width = max(2, genes.shape[1])
    rows = [torch.full((1, width), EMPTY), _widened(genes, width)]
    if neighbours:
        rows.append(_widened(torch.tensor(neighbours), width))
    return screen.vocabulary.dosed(torch.cat(rows))


def _widened(genes: Int[Tensor, "b k"], width: int) -> Int[Tensor, "b w"]:
    return torch.nn.functional.pad(genes, (0, width - genes.shape[1]), value=EMPTY)


def _pairs(fitted: Fitted) -> PerturbationBatch:
    """Spread pairs of entries measured alone, of two targets, evenly over all of them."""
    targets = fitted.vocabulary.targets
    pairs = torch.combinations(torch.arange(len(targets)))
    apart = torch.tensor([targets[i] != targets[j] for i, j in pairs.tolist()], dtype=torch.bool)
    batch = fitted.vocabulary.dosed(pairs[apart])
    rows = torch.nonzero(novelty_code(batch, fitted.measured_alone) == SEEN_DOUBLE).flatten()
    if not len(rows):
        raise AssertionError("the screen has no two targets measured alone; give one that has")
    return batch.rows(rows[:: 1 + len(rows) // _MOST_PAIRS])


def _close(actual: Tensor, expected: Tensor, broken: str, *, tolerance: float = 0.0) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance, msg=lambda detail: f"{broken}: {detail}")
