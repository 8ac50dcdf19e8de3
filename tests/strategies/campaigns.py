"""Small campaigns: a screen of singles, a hidden truth, and a recommender that takes no time."""

import hashlib
import random
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from strategies.screens import planted_screen

from inverse_design.campaign.settings import CampaignSettings
from inverse_design.errors import NothingToProposeError
from inverse_design.problem.target import ScalarTarget
from inverse_design.recommend.protocol import DecisionState, Recommendation
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen

SETTINGS = CampaignSettings(name="test", target="minimise r0", batch_size=4, random_share=0.0)
TARGET = ScalarTarget("r0", "minimise")


def starting_screen(genes: int = 8, *, readouts: int = 3, seed: int = 0) -> Screen:
    """Singles of some genes, and nothing else."""
    return planted_screen(alone=range(genes), together=[], readouts=readouts, seed=seed)


class FirstPairs:
    """Proposes pairs that were neither measured nor are pending, in an order drawn by the seed."""

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        screen = state.measured
        names = [entry.label for entry in screen.vocabulary.entries]
        taken = {*screen.labels, *(one.label for one in pending)}
        left = [f"{a}+{b}" for a, b in combinations(names, 2) if f"{a}+{b}" not in taken]
        if not left:
            raise NothingToProposeError("every pair is measured")
        chosen = random.Random(seed).sample(left, min(count, len(left)))  # noqa: S311 - a test
        predicted = [float(screen.effects.sum()) + 0.1 * place for place in range(len(chosen))]
        table = pd.DataFrame(
            {
                "perturbation": chosen,
                "predicted": predicted,
                "log_probability": np.nan,
                "chosen": "designed",
                "reason": "it is there",
            }
        )
        return Recommendation(table, expected_gain=1.0 / len(taken), notes=(f"{len(left)} were left",))


def measured(labels: Sequence[str], readouts: Sequence[str], *, replicate: str = "1") -> pd.DataFrame:
    """Results that depend on the names only."""
    rows = []
    for label in labels:
        seed = int.from_bytes(hashlib.sha256(f"{label}/{replicate}".encode()).digest()[:4], "big")
        rows.append(np.random.default_rng(seed).normal(size=len(readouts)))
    table = pd.DataFrame(np.array(rows).reshape(len(labels), len(readouts)), columns=list(readouts))
    table.insert(0, "perturbation", list(labels))
    table.insert(1, "replicate", replicate)
    return table
