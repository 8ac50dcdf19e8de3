"""One dose, temperature or medium for a whole batch: solved at each value, and the best batch is taken."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.campaigns import SETTINGS, TARGET, starting_screen

from inverse_design.campaign.campaign import Campaign
from inverse_design.errors import NothingToProposeError, PlanError, SpaceError
from inverse_design.problem.batch_wide import BatchWide, levels_of
from inverse_design.problem.constraints import read_constraint
from inverse_design.proposal import propose
from inverse_design.ranking import rank
from inverse_design.recommend.protocol import DecisionState, Recommendation
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import UnknownNameError

_DOSES = (1.0, 5.0, 10.0)


def _dosed_screen() -> Screen:
    """Five compounds, each at three doses."""
    done = [Perturbation((Intervention(name, "compound", dose),)) for name in "ABCDE" for dose in _DOSES]
    effects = np.random.default_rng(3).normal(size=(len(done), 3))
    return Screen.from_labels(effects, done, ["r0", "r1", "r2"])


@dataclass(frozen=True)
class Summed:
    """Values a candidate by the sum of what its parts do alone, and a batch by the sum of its candidates."""

    says: str = "gain"

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        del seed
        left, screen = state.open(pending), state.measured
        alone = state.utility[screen.single_rows.clamp(min=0)]
        worth = torch.where(left.present, alone[left.genes.clamp(min=0)], 0.0).sum(1)
        best = worth.argsort(descending=True)[:count]
        table = pd.DataFrame({"perturbation": [state.label(left.genes[row]) for row in best.tolist()]})
        if self.says == "prediction":
            table["predicted"] = worth[best].tolist()
        return Recommendation(table, float(worth[best].sum()) if self.says == "gain" else float("nan"))


def _campaign(screen: Screen, *constraints: str, **stated: object) -> Campaign:
    settings = replace(SETTINGS, constraints=constraints, **stated)  # type: ignore[arg-type]
    return Campaign.create(screen, target=TARGET, settings=settings)


@pytest.mark.parametrize("says", ["gain", "prediction"])
def test_a_batch_has_one_dose_and_no_other_dose_is_better(says: str) -> None:
    screen = _dosed_screen()
    campaign = _campaign(screen, "batch_wide:name=dose")
    batch = campaign.ask(4, Summed(says))
    parsed = [campaign.vocabulary.parse(label) for label in batch.labels]
    (dose,) = {part.dose for each in parsed for part in each.interventions}
    alone = {entry: -float(screen.effects[row, 0]) for row, entry in enumerate(screen.vocabulary.entries)}

    def best(dose: float) -> float:
        mine = [entry for entry in alone if entry.dose == dose]
        pairs = [alone[one] + alone[two] for at, one in enumerate(mine) for two in mine[:at]]
        return sum(sorted(pairs)[-4:])

    assert best(dose) == max(map(best, _DOSES))
    assert sum(alone[part] for each in parsed for part in each.interventions) == pytest.approx(best(dose))
    (said,) = [note for note in batch.notes if "all experiments of this batch share" in note]
    assert f"share dose {dose:g}" in said
    assert said.count("dose") == 3


def test_a_table_of_values_ties_names_and_leaves_the_others_free() -> None:
    screen = starting_screen()
    campaign = _campaign(screen, 'batch_wide:{"name": "temperature", "values": {"G00": "30", "G01": "37"}}')
    for _ in range(2):
        labels = campaign.ask_more(12, Summed()).labels
        targets = {target for label in labels for target in campaign.vocabulary.parse(label).targets}
        assert not {"G00", "G01"} <= targets
        assert targets & {"G02", "G03", "G04"}


def test_two_conditions_are_kept_together() -> None:
    screen = _dosed_screen()
    medium = 'batch_wide:{"name": "medium", "values": {"A": "x", "B": "y"}}'
    campaign = _campaign(screen, "batch_wide", medium)
    batch = campaign.ask(20, Summed())
    parsed = [campaign.vocabulary.parse(label) for label in batch.labels]
    assert len({part.dose for each in parsed for part in each.interventions}) == 1
    assert not {"A", "B"} <= {target for each in parsed for target in each.targets}
    assert len(batch.labels) == 6  # the pairs of four compounds


@given(
    values=st.lists(st.sampled_from(["x", "y", None]), min_size=6, max_size=6),
    rows=st.lists(st.sets(st.integers(0, 5), min_size=1, max_size=3), min_size=1, max_size=6),
)
def test_candidates_are_those_that_some_value_allows(values: list[str | None], rows: list[set[int]]) -> None:
    vocabulary = starting_screen(6).vocabulary
    named = {
        entry.target: value for entry, value in zip(vocabulary.entries, values, strict=True) if value is not None
    }
    if not named:
        return
    condition = BatchWide("medium", named)
    batch = vocabulary.batch([vocabulary.perturbation(sorted(row)) for row in rows])
    levels = [set(ids) for ids in levels_of([condition], vocabulary).values()]
    assert condition.allows(batch, vocabulary).tolist() == [any(row <= ids for ids in levels) for row in rows]


def test_what_has_no_meaning_is_refused_in_a_sentence() -> None:
    screen = _dosed_screen()
    for act in (
        lambda: propose(screen, TARGET, constraints=[BatchWide()], surrogate="additive"),
        lambda: rank(screen, TARGET, ["A+B"], constraints=[BatchWide()], surrogate="additive"),
    ):
        with pytest.raises(SpaceError, match=r"that a batch shares one dose has no meaning in (propose|rank)"):
            act()
    with pytest.raises(SpaceError, match="'medium' needs values"):
        BatchWide("medium")
    with pytest.raises(SpaceError, match="'dose' has its values in the screen"):
        read_constraint('batch_wide:{"name": "dose", "values": {"A": "1"}}')
    with pytest.raises(UnknownNameError, match="unknown gene or compound 'Z'"):
        _campaign(screen, 'batch_wide:{"name": "medium", "values": {"Z": "x"}}').ask(2, Summed())
    with pytest.raises(PlanError, match="neither what a batch gains nor what it predicts"):
        _campaign(screen, "batch_wide").ask(2, Summed("nothing"))
    singles = _campaign(
        screen, 'batch_wide:{"name": "m", "values": {"A": "1", "B": "2", "C": "3"}}', exclude=("D", "E")
    )
    with pytest.raises(NothingToProposeError, match="no candidate"):
        singles.ask(2, Summed())
