"""How often the bounds of a first row hold the distance that was measured, the maker of the target among the rows.

A held-out double is the target. The rows are the held-out doubles of the fold, which nothing has seen and of which
it is known what was measured; the first of them is the one that a proposal would put first. Its distance is zero
if it made the target, which then is its own measurement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.benchmark.interval_coverage import percent
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.replicates import replicates
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from inverse_design.search.first_rows import Bench, FirstRows, first_rows
from inverse_design.search.identification import Identification, Total
from inverse_design.search.row_law import RowLaw
from inverse_design.statement import DOUBTED
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import CalibrationError
from surrogates.models.calibrated import FittedCalibrated
from surrogates.models.stated_errors import StatedErrors

_LIKELY = 0.5  # from this probability on a first row is taken as the maker


@dataclass(frozen=True)
class FirstRowJudge:
    """A fitted surrogate, what its own held-out doubles say of first rows, and doubles that it has not seen.

    Attributes:
        bench: The unseen doubles.
        rows: First rows of the held-out doubles of the surrogate.
        training: What it was fitted to.
        seed: Fixes the draws of noise.
    """

    bench: Bench
    rows: FirstRows
    training: Screen
    seed: int

    @classmethod
    def of(
        cls,
        fitted: FittedCalibrated,
        space: CombinationSpace,
        unseen: tuple[PerturbationBatch, Float[Tensor, "b g"]],
        *,
        training: Screen,
        found: Identification,
        seed: int,
    ) -> "FirstRowJudge":
        """Learn what first rows show.

        Args:
            fitted: A surrogate with its cross-fits.
            space: All pairs.
            unseen: Doubles that it has not seen, and what was measured of each.
            training: What it was fitted to.
            found: Where the truths of its held-out doubles stood.
            seed: Fixes what is drawn.

        Returns:
            The judge.
        """
        batch, effects = unseen
        target = AlignedProfile.exact(range(effects.shape[1]), effects[0])
        prior = torch.zeros(len(fitted.vocabulary), dtype=torch.float64)
        stated = StatedErrors.of(fitted)
        rows = first_rows(TargetLikelihood(target, prior), prior, stated, space, found, seed=seed)
        return cls(Bench.of(stated.whole, batch, effects, space), rows, training, seed)

    def of_target(
        self, number: int, levels: Sequence[float], *, total: Total, explained: bool
    ) -> Mapping[str, float]:
        """Judge the first row of one of the doubles as a target.

        Args:
            number: Which of them.
            levels: Nominal probabilities.
            total: The sums over all pairs.
            explained: Whether some candidate is said to explain it.

        Returns:
            ``first_probability``; for every level that can be calibrated ``first_coverage_L``, ``first_width_L``,
            and ``first_likely_coverage_L`` or ``first_unlikely_coverage_L`` as the probability is.
        """
        fitted, effects = self.bench.fitted, self.bench.effects
        target = AlignedProfile.exact(range(effects.shape[1]), effects[number])
        prior = torch.zeros(len(fitted.vocabulary), dtype=torch.float64)
        row = self.bench.first(TargetLikelihood(target, prior), prior, number, total)
        likely = bool(row.probability[0] >= _LIKELY)
        found = {"first_probability": float(row.probability[0])}
        made = row.probability * (1.0 if explained else DOUBTED)
        for level in levels:
            try:
                noise = replicates(
                    target, self.training, fitted.evidence.get(SEEN_DOUBLE), variance=None, seed=self.seed
                )
                law = RowLaw.learn(self.rows, noise, level)
            except CalibrationError:
                continue
            stated = law.state(made, row.expected)
            holds = float((stated.lower <= row.measured) & (row.measured <= stated.upper))
            found[f"first_coverage_{percent(level)}"] = holds
            found[f"first_width_{percent(level)}"] = float(stated.upper - stated.lower)
            found[f"first_likely_coverage_{percent(level)}"] = holds if likely else torch.nan
            found[f"first_unlikely_coverage_{percent(level)}"] = torch.nan if likely else holds
        return found
