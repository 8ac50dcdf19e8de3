"""What a recommender is given and what it answers, for campaigns and replays; and two that learn nothing."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.acquisition.acquisition import (
    UtilityPosterior,
    batch_gain,
    expected_improvement,
    probability_of_improvement,
)
from inverse_design.acquisition.batch import BatchRules
from inverse_design.acquisition.utility import measured_utility, utility_of
from inverse_design.errors import NothingToProposeError, PlanError
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import Target, is_state
from surrogates.data.descriptors import Descriptors
from surrogates.data.novelty import novelty_code, novelty_name
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import EMPTY, PerturbationBatch
from surrogates.errors import DataError
from surrogates.fit_cache import FitCache
from surrogates.registry import Registry

PERTURBATION = "perturbation"
COLUMNS = (
    PERTURBATION, "predicted", "lower", "upper", "expected_gain", "probability", "chosen", "log_probability",
    "novelty", "reason",
)  # fmt: skip
ANYTHING = BatchRules()  # no limits, and nothing drawn at random
MOST_LISTED = 2**22  # candidates that are spelled out; larger spaces are for recommenders that search


@dataclass(frozen=True)
class DecisionState:
    """All that a choice of experiments may depend on; a campaign and a replay make the same one.

    Attributes:
        measured: Everything that was measured, in one context, one row per perturbation: what was known before
            the first round, and behind it the results of all rounds.
        target: Where the cells should go.
        candidates: What may be recommended: a list of perturbations, or a space. What was measured is never
            recommended again, whether it is listed or not.
        started: How many rows of ``measured`` were known before the first round.
        describe: Says what is known of the genes beside the screen, which takes seconds to read.
        rules: What a batch may be.
        surrogate: Name of the forward model, for recommenders that fit one.
        level: Nominal probability of the bounds that are stated.
        missed: Share of the designed picks of each past round whose results were outside their bounds.
        cache: Where fits are kept, and looked up.
    """

    measured: Screen
    target: Target
    candidates: PerturbationBatch | CombinationSpace
    started: int = 0
    describe: Callable[[], tuple[Descriptors, ...]] = tuple
    rules: BatchRules = ANYTHING
    surrogate: str = "interaction"
    level: float = 0.9
    missed: tuple[float, ...] = ()
    cache: FitCache | None = None

    @cached_property
    def descriptors(self) -> tuple[Descriptors, ...]:
        """What is known of the genes beside the screen."""
        return self.describe()

    @cached_property
    def utility(self) -> Float[Tensor, "n"]:
        """What each measured effect is worth, larger is better."""
        return measured_utility(self.target, self.measured)

    def worth(self, effects: Float[Tensor, "*b g"]) -> Float[Tensor, "*b"]:
        """Value predicted effects on all readouts by the target."""
        aligned = self.target.on(self.measured.readouts)
        return utility_of(self.target, aligned).utility(effects[..., aligned.columns])

    def open(self, pending: Sequence[Perturbation] = ()) -> PerturbationBatch:
        """List the candidates that were not measured and are not pending, in their order.

        Args:
            pending: Experiments whose results are still to come.

        Returns:
            The candidates that are left.

        Raises:
            NothingToProposeError: If there are none.
            DataError: If the space is too large to be listed.
        """
        listed = self._listed
        done = joined_rows(self.measured.batch.genes, self.measured.vocabulary.batch(list(pending)).genes)
        place = _numbered(joined_rows(listed.genes, done), len(self.measured.vocabulary))
        left = ~np.isin(place[: len(listed)], place[len(listed) :])
        if not left.any():
            raise NothingToProposeError("every candidate is measured or pending")
        return listed.rows(torch.from_numpy(np.flatnonzero(left)))

    @cached_property
    def _listed(self) -> PerturbationBatch:
        space = self.candidates
        if isinstance(space, PerturbationBatch):
            return space
        if space.size > MOST_LISTED:
            raise DataError(
                f"{space.size:,} candidates are too many to be listed one by one (at most {MOST_LISTED:,}); take"
                " the recommender 'gains', which searches them, or fewer genes"
            )
        every = space.batch(0, space.size)
        return every.rows(torch.nonzero(space.valid(every)).flatten())

    def label(self, genes: Int[Tensor, "k"]) -> str:
        """Name a candidate."""
        return self.measured.vocabulary.perturbation(genes).label


def _numbered(genes: Int[Tensor, "n k"], size: int) -> Int[np.ndarray, "n"]:
    """Give equal rows of ids the same number, and others another one."""
    base, slots = size + 1, genes.shape[1]
    if base**slots < 2**63:
        number: Int[np.ndarray, n] = ((genes + 1) @ base ** torch.arange(slots)).numpy()
        return number
    return np.unique(genes.numpy(), axis=0, return_inverse=True)[1].reshape(-1)


def joined_rows(first: Int[Tensor, "b k"], second: Int[Tensor, "c l"]) -> Int[Tensor, "n j"]:
    """Put ids one below the other, with as many slots as the wider of the two."""
    width = max(first.shape[1], second.shape[1])
    pad = torch.nn.functional.pad
    return torch.cat([pad(each, (0, width - each.shape[1]), value=EMPTY) for each in (first, second)])


@dataclass(frozen=True)
class Recommendation:
    """The experiments of one round.

    Attributes:
        table: One row per experiment, best first, with the columns ``perturbation`` (label), ``predicted``,
            ``lower``, ``upper`` (of the outcome: a distance for a state, a projection for a direction),
            ``expected_gain``, ``probability``, ``chosen`` (``"designed"`` or ``"random"``), ``log_probability``
            (of a random pick, else NaN), ``novelty`` and ``reason``. Only ``perturbation`` is required; further
            columns are kept.
        expected_gain: Of the whole batch, in units of the utility: what the stop rule reads; NaN if unknown.
        notes: Remarks for the user, such as what could not be modelled.
        model: The fitted model behind it as the content of a safetensors file, or ``None``.
    """

    table: pd.DataFrame
    expected_gain: float = math.nan
    notes: tuple[str, ...] = ()
    model: bytes | None = None

    def __post_init__(self) -> None:
        """Refuse a table that names no experiments, or one of them twice."""
        if PERTURBATION not in self.table:
            raise PlanError(f"the plan has no column {PERTURBATION!r}, only {', '.join(map(str, self.table))}")
        labels = self.table[PERTURBATION]
        if labels.duplicated().any():
            raise PlanError(
                f"the plan proposes {labels[labels.duplicated()].iloc[0]!r} twice; one row per experiment"
            )

    @classmethod
    def of(
        cls,
        state: DecisionState,
        batch: PerturbationBatch,
        *,
        utility: tuple[Float[Tensor, "q"], Float[Tensor, "q"], Float[Tensor, "q"]] | None = None,
        belief: UtilityPosterior | None = None,
        reason: Sequence[str] = (),
    ) -> "Recommendation":
        """Recommend a batch.

        Args:
            state: What was decided on.
            batch: The experiments, the best first.
            utility: What is predicted of the utility of each, its lower and its upper bound; they are shown as
                outcomes.
            belief: The posterior of the true utility of each, for gains over the best that was measured.
            reason: Why each is recommended.

        Returns:
            The recommendation.
        """
        columns: dict[str, object] = {PERTURBATION: [state.label(genes) for genes in batch.genes]}
        if utility is not None:
            middle, low, high = utility
            shown = (-middle, -high, -low) if is_state(state.target) else utility
            columns |= {name: each.tolist() for name, each in zip(COLUMNS[1:4], shown, strict=True)}
        gain = math.nan
        if belief is not None:
            known = float(state.utility.max())
            gain = batch_gain(belief, known)
            columns["expected_gain"] = expected_improvement(belief, known).score.tolist()
            columns["probability"] = probability_of_improvement(belief, known).score.tolist()
        codes = novelty_code(batch, state.measured.single_rows >= 0).tolist()
        columns |= {
            "chosen": "designed",
            "log_probability": math.nan,
            "novelty": [novelty_name(each) for each in codes],
            **({"reason": list(reason)} if reason else {}),
        }
        return cls(pd.DataFrame(columns), gain)


@runtime_checkable
class Recommender(Protocol):
    """A way to choose experiments: a function of the state of what is known, and of nothing else.

    A recommender is a frozen value that can be sent to another process, and is called anew in each round. One with
    an attribute ``keeps_rules`` that is true keeps the rules of the state's bench itself; of any other a campaign
    takes the picks that keep them, and asks again for the rest
    (:func:`inverse_design.recommend.pair_hits.recommend_within`).
    """

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        """Choose the experiments of a round.

        Args:
            state: What is known, what may be done, and what is wanted.
            count: How many experiments are wanted; fewer are recommended where fewer are left.
            pending: Experiments that were proposed or ordered and whose results are not known yet; none of them
                is recommended again.
            seed: Fixes everything that is random: the same arguments give the same answer.

        Returns:
            The experiments, the best first.

        Raises:
            NothingToProposeError: If no candidate is left.
            DataError: If this recommender cannot serve the state, such as one for pairs where singles are offered.
        """
        ...


RECOMMENDERS: Registry[Callable[[], Recommender]] = Registry(
    kind="recommender",
    group="inverse_design.recommenders",
    shipped={
        "random": "inverse_design.recommend.protocol:RandomChoice",
        "additive": "inverse_design.recommend.protocol:AdditiveRanking",
        "greedy_ridge": "inverse_design.recommend.pairs:PairRidge",
        "optuna_tpe": "inverse_design.recommend.pairs:PairTrial",
        "botorch_gp": "inverse_design.recommend.pairs:PairBotorch",
        "pair_hits": "inverse_design.recommend.pair_hits:PairHits",
        "gains": "inverse_design.recommend.gains:Gains",
        "thompson": "inverse_design.recommend.gains:thompson_gains",
        "exploration": "inverse_design.recommend.gains:exploring_gains",
        "log_improvement": "inverse_design.recommend.gains:botorch_gains",
        "likeliest": "inverse_design.recommend.states:StateLikely",
        "state_match": "inverse_design.recommend.states:StateMatch",
    },
)


@dataclass(frozen=True)
class RandomChoice:
    """Draws candidates at random."""

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        """Draw."""
        left = state.open(pending)
        drawn = torch.randperm(len(left), generator=torch.Generator().manual_seed(seed))[:count]
        return Recommendation.of(state, left.rows(drawn))


@dataclass(frozen=True)
class AdditiveRanking:
    """Ranks candidates by the sum of what their parts do alone, and goes down the list."""

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        """Take the next of the list."""
        del seed
        left = state.open(pending)
        utility = state.worth(sum_of_parts(state.measured, left))
        return Recommendation.of(state, left.rows(best_first(utility, count)))


def sum_of_parts(screen: Screen, batch: PerturbationBatch) -> Float[Tensor, "b g"]:
    """Add the effects of parts; one that was not measured alone counts as the mean of those that were."""
    rows = screen.single_rows
    alone = screen.effects[rows[rows >= 0]]
    usual = alone.mean(0) if len(alone) else torch.zeros(screen.effects.shape[1], dtype=torch.float64)
    effects = usual.expand(len(rows), -1).clone()
    effects[rows >= 0] = alone
    return (effects[batch.genes.clamp(min=0)] * batch.present[..., None]).sum(1)


def best_first(score: Float[Tensor, "b"], count: int) -> Tensor:
    """Take the numbers of the largest scores; of equal ones the first comes first."""
    return score.argsort(descending=True, stable=True)[:count]
