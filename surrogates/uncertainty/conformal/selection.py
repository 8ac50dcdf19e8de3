"""Which candidates of a list will be good, with few false ones among them.

The hypothesis of a candidate ``j`` is that its utility is *below* what is wanted, ``y_j < c``; rejecting it
selects the candidate. With predicted utilities ``m`` the clipped score of conformal selection is

    V(x, y) = M 1{y >= c} - m(x),    M larger than any difference of predictions

[Jin & Candès 2023]. It grows with ``y``, as their theorems ask: calibration perturbations that turned out good lie
far above every candidate's ``V(x, y < c) = -m(x)``, so that a candidate is unusual if few of the perturbations
that turned out *bad* were predicted as high. The p-value needs no ``M``:

    p_j = #{i or j: V_i <= -m_j} / (n + 1) = (1 + #{i: y_i < c, m_i >= m_j}) / (n + 1)

It counts ties against the candidate, and nothing is drawn at random. If the candidates are exchangeable with the
calibration perturbations, selecting by the procedure of Benjamini and Hochberg keeps the expected share of false
ones among the selected, FDR, at or below ``q``.

A list that the predictions have shortened is no longer exchangeable with them: the best 100 of many, judged by
random perturbations, hold more false ones than ``q``. Draw the list, or drop by one rule, fixed beforehand, the
candidates *and* the calibration perturbations with low predictions.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.errors import CalibrationError
from surrogates.uncertainty.conformal.quantiles import refuse_nan, require_level


@dataclass(frozen=True)
class ConformalSelection:
    """Candidates that reach a utility, few of them falsely."""

    p_values: Float[Tensor, "m"]  # of each candidate; small says that it reaches the utility
    selected: Bool[Tensor, "m"]  # which are selected
    threshold: float  # the utility to be reached
    rate: float  # expected share of false ones among the selected, at most
    count: int  # number of calibration perturbations

    @property
    def smallest_p(self) -> float:
        """Smallest p-value that so many calibration perturbations can give."""
        return 1 / (self.count + 1)

    @property
    def fewest(self) -> int:
        """Smallest number that can be selected at all: ``k`` of ``m`` need p-values up to ``k q / m``."""
        return max(1, math.ceil(len(self.p_values) * self.smallest_p / self.rate - 1e-9))

    @property
    def note(self) -> str:
        """How many are selected, and if none, why, and what would help."""
        m, number = len(self.p_values), int(self.selected.sum())
        if number:
            return f"{number} of {m} candidates reach {self.threshold:g}, at most {self.rate:.0%} of them falsely"
        if not m:
            return "there are no candidates"
        none = f"none of {m} candidates is said to reach {self.threshold:g} at a false share of {self.rate:.0%}"
        facts = f"{self.count} held-out perturbations give p-values down to {self.smallest_p:.3g}"
        if self.fewest > m:
            least = math.ceil(1 / self.rate - 1 - 1e-9)
            return f"{none}: {facts}, and even all together would need {self.rate:.3g}; hold out {least} or more"
        if self.fewest > 1:
            return f"{none}: {facts}, so that {self.fewest} must be selected at once; hold out more, or list fewer"
        return f"{none}: the smallest p-value is {float(self.p_values.min()):.3g}"


def select_candidates(
    calibration: Float[Tensor, "n"],
    truth: Float[Tensor, "n"],
    predicted: Float[Tensor, "m"],
    *,
    threshold: float,
    rate: float,
) -> ConformalSelection:
    """Select the candidates that reach a utility.

    Args:
        calibration: Predicted utility of calibration perturbations that the model has not seen.
        truth: Their measured utility, larger is better.
        predicted: Predicted utility of the candidates.
        threshold: The utility ``c`` to be reached.
        rate: Share of false ones ``q`` that is accepted, between 0 and 1.

    Returns:
        The selection; its note says why, if it is empty.

    Raises:
        CalibrationError: If nothing was held out, the rate is no share, or a number is NaN.
    """
    require_level(1 - rate)
    for numbers in (calibration, truth, predicted, torch.tensor([threshold])):
        refuse_nan(numbers)
    if not len(calibration):
        raise CalibrationError("no perturbation was held out, so no candidate can be selected; hold some out")
    bad = calibration[truth < threshold].sort().values
    as_high = len(bad) - torch.searchsorted(bad, predicted.contiguous())
    p_values = (1 + as_high).double() / (len(calibration) + 1)
    return ConformalSelection(p_values, benjamini_hochberg(p_values, rate), threshold, rate, len(calibration))


def benjamini_hochberg(p_values: Float[Tensor, "m"], rate: float) -> Bool[Tensor, "m"]:
    """Reject hypotheses at a false discovery rate [Benjamini & Hochberg 1995]."""
    ascending = p_values.sort().values
    allowed = torch.arange(1, len(p_values) + 1, dtype=torch.float64) * rate / max(1, len(p_values))
    passed = torch.nonzero(ascending <= allowed * (1 + 1e-12)).flatten()
    return p_values <= ascending[passed[-1]] if len(passed) else torch.zeros_like(p_values, dtype=torch.bool)
