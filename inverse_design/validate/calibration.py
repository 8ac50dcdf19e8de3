"""Protocol ``calibration``: do stated bounds, sets and probabilities hold of perturbations that nothing has seen?

The folds are those of the protocol ``forward``: over doubles for doubles of two seen parts, over targets for the
classes with unseen parts. Inside each training part everything is learnt as a proposal learns it (model, error
law, conformal calibration by its own cross-fits); the held-out perturbations are judged once. The unit is the
perturbation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from inverse_design.problem.constraints import Constraints
from inverse_design.problem.problem import candidate_space
from inverse_design.search.identification import Rule
from inverse_design.validate.coverage import (
    HeldOutClass,
    judge_intervals,
    judge_posterior,
    judge_sets,
    percent,
    standing_behind,
)
from inverse_design.validate.judged import Judged, Kept, compare, drawn_of, promised, variants_of
from surrogates.data.novelty import (
    CLASSES,
    FEWEST_HELD_OUT,
    SEEN_DOUBLE,
    ForwardProtocol,
    Split,
    forward_protocols,
    novelty_name,
)
from surrogates.data.screen import Screen
from surrogates.errors import CalibrationError, DataError
from surrogates.evaluation.intervals import target_nodes
from surrogates.evaluation.scorecard import own_readout_marks
from surrogates.evaluation.workers import in_order
from surrogates.executors import Workers
from surrogates.models.base import require_one_context
from surrogates.models.wrappers.automatic import Automatic
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.models.wrappers.conformal import FittedConformal, conformal
from surrogates.models.wrappers.stated_errors import StatedErrors
from surrogates.uncertainty.conformal.quantiles import require_level
from surrogates.uncertainty.selection import Promise

LEVELS = (0.5, 0.8, 0.9, 0.95)
LOWEST_OF_SETS = 0.8  # a set has one candidate at least, so that one of a lower level says little
STATES = 10  # held-out states of a fold that are targets of the others

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Behind:
    """The held-out perturbations by which a class is calibrated."""

    count: int  # how many distinct ones; one with parts in two folds over targets is held out twice
    line: str  # what they are, in words


@dataclass(frozen=True)
class ClassCard:
    """What was found of one novelty class."""

    variant: str  # which readouts
    code: int  # the class
    judged: Judged  # numbers of its held-out perturbations, see :func:`judge_sets`
    behind: Mapping[float, Behind]  # by level, the smallest calibration among the folds
    refused: Mapping[str, str]  # by what could not be calibrated, why
    rules: Mapping[float, tuple[Rule, ...]]  # by level, the rule of the sets in each fold
    candidates: int  # of how many the sets are; 0 if none were made
    nodes: Int[Tensor, "n k"]  # genes of each held-out perturbation

    @property
    def novelty(self) -> str:
        """The name of the class."""
        return novelty_name(self.code)

    @property
    def promise(self) -> Kept | None:
        """What inner folds promised of identification beside what was kept, ``None`` if nothing was promised."""
        promise, kept = (self.judged.column(name) for name in ("promised", "log_probability"))
        return None if bool((promise + kept).isnan().all()) else compare(promise, kept, self.nodes)


def measure_calibration(
    screen: Screen,
    model: Automatic | None = None,
    *,
    seed: int,
    levels: Sequence[float] = LEVELS,
    classes: Sequence[str] = tuple(CLASSES),
    most_held_out: int = 500,
    workers: Workers = 1,
    progress: Progress | None = None,
) -> tuple[ClassCard, ...]:
    """Run the protocol with all readouts and with the readouts that are targets themselves removed."""
    for level in levels:
        require_level(level)
    require_one_context(screen)
    protocols = [
        _drawn(protocol, most_held_out, seed)
        for protocol in forward_protocols(screen, [CLASSES[word] for word in classes], seed=seed)
    ]
    if not protocols:
        raise DataError(
            f"nothing of {', '.join(classes)} can be held out: a class needs {FEWEST_HELD_OUT} perturbations, with"
            " singles of their seen parts beside them"
        )
    variants = variants_of(screen)
    judge, asked = partial(_judge_fold, model or Automatic(), sorted(set(levels)), seed), []
    for view in variants.values():
        for protocol in protocols:
            asked += [(view, *each) for each in zip(protocol.splits, protocol.codes, strict=True)]
    judged, total, done, cards = in_order(judge, asked, workers=workers), len(asked), 0, []
    for variant, view in variants.items():
        for protocol in protocols:
            parts: list[_Part] = []
            for _ in protocol.splits:
                if progress is not None:
                    progress(done, total, f"{variant.replace('_', ' ')}, fold {done + 1}")
                parts += next(judged)
                done += 1
            cards += [_card(view, variant, code, parts) for code in protocol.classes]
    if progress is not None:
        progress(total, total, "done")
    return tuple(cards)


@dataclass(frozen=True)
class _Part:
    """What one fold says of one class."""

    code: int
    judged: Judged
    behind: Mapping[float, Behind]
    refused: Mapping[str, str]
    rules: Mapping[float, Rule]
    candidates: int
    promise: Promise | None


def _judge_fold(
    model: Automatic, levels: Sequence[float], seed: int, fold: tuple[Screen, Split, Int[Tensor, "b"]]
) -> list[_Part]:
    screen, split, codes = fold
    parts = []
    training = screen.rows(split.train)
    fitted = model.fit(training, seed=seed)
    stated = StatedErrors.of(fitted)
    calibrated, stating = _conformal(fitted, stated), stated.whole
    order = torch.randperm(len(split.test), generator=torch.Generator().manual_seed(seed))
    states = split.test[order[:STATES].sort().values]
    for code in codes.unique().tolist():
        at = split.test[codes == code]
        held = HeldOutClass(
            code=code,
            batch=screen.batch.rows(at),
            effects=screen.effects[at],
            own=own_readout_marks(screen)[at],
            states=screen.effects[states],
            asks=states[:, None] != at,
        )
        posterior = stating.predict(held.batch)
        columns = dict(judge_posterior(posterior, held, levels))
        behind, refused = _behind(calibrated, code, levels)
        if isinstance(calibrated, FittedConformal):
            columns |= judge_intervals(calibrated, posterior, held, list(behind))
        rules: Mapping[float, Rule] = {}
        candidates = 0
        if code == SEEN_DOUBLE:
            space = candidate_space(training, "2", Constraints(measured="keep"))
            asked = [level for level in levels if level >= LOWEST_OF_SETS]
            sets = judge_sets(fitted, space, held.batch, held.effects, asked, training=training, seed=seed)
            columns |= sets.columns
            rules, candidates = sets.rules, sets.candidates
            refused |= sets.refused
        promise = fitted.promise if code == SEEN_DOUBLE else None
        parts.append(_Part(code, Judged(at, columns), behind, refused, rules, candidates, promise))
    return parts


def _conformal(fitted: FittedCalibrated, stated: StatedErrors) -> FittedConformal | CalibrationError:
    try:
        return conformal(fitted, stated)
    except CalibrationError as error:
        return error


def _behind(
    calibrated: FittedConformal | CalibrationError, code: int, levels: Sequence[float]
) -> tuple[dict[float, Behind], dict[str, str]]:
    """Find what calibrates each level, and why the others cannot be."""
    behind, refused = {}, {}
    for level in levels:
        what = f"{percent(level)} % bounds"
        if isinstance(calibrated, CalibrationError):
            refused[what] = str(calibrated)
            continue
        try:
            genes = torch.cat([fold.batch.genes for fold in standing_behind(calibrated, code, level).folds])
        except CalibrationError as error:
            refused[what] = str(error)
        else:
            behind[level] = Behind(len(genes.unique(dim=0)), calibrated.calibration(code, level).line)
    return behind, refused


def _card(screen: Screen, variant: str, code: int, parts: Sequence[_Part]) -> ClassCard:
    own = [part for part in parts if part.code == code]
    judged = Judged.pooled([part.judged for part in own])
    if promises := [part.promise for part in own if part.promise is not None]:
        promise = promised(promises, screen.batch.genes[judged.conditions][:, :2])
        judged = Judged(judged.conditions, {**judged.columns, "promised": promise})
    levels = sorted({level for part in own for level in part.behind})
    return ClassCard(
        variant=variant,
        code=code,
        judged=judged,
        behind={
            level: min((part.behind[level] for part in own if level in part.behind), key=lambda each: each.count)
            for level in levels
        },
        refused={what: why for part in own for what, why in part.refused.items()},
        rules={
            level: tuple(part.rules[level] for part in own if level in part.rules)
            for level in sorted({level for part in own for level in part.rules})
        },
        candidates=max(part.candidates for part in own),
        nodes=target_nodes(screen.batch.rows(judged.conditions), screen.vocabulary),
    )


def _drawn(protocol: ForwardProtocol, most: int, seed: int) -> ForwardProtocol:
    """Keep at most so many held-out rows, drawn at random over all folds."""
    kept = drawn_of([len(split.test) for split in protocol.splits], most, seed=seed)
    chosen = [
        (Split(split.train, split.test[mask]), codes[mask])
        for split, codes, mask in zip(protocol.splits, protocol.codes, kept, strict=True)
        if bool(mask.any())
    ]
    present = torch.cat([codes for _, codes in chosen]).tolist()
    classes = tuple(code for code in protocol.classes if code in present)
    return ForwardProtocol(tuple(split for split, _ in chosen), tuple(codes for _, codes in chosen), classes)
