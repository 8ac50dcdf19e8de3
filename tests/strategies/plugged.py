"""A package of somebody else: one file and one entry point for each thing that it adds."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

FILES = {
    "plug_surrogate": """
from dataclasses import dataclass
from surrogates.models.baselines import Additive

@dataclass(frozen=True)
class PlainSums:
    def fit(self, screen, *, seed):
        return Additive().fit(screen, seed=seed)
""",
    "plug_objective": '''
from dataclasses import dataclass
import torch
from surrogates.uncertainty.posterior import ScalarPosterior
from inverse_design.problem.target import AlignedProfile

@dataclass(frozen=True)
class WorstReadout:
    """Minus the largest distance on any readout."""
    target: AlignedProfile
    name = "worst"

    def utility(self, fitted, batch):
        return self.predicted(fitted.predict(batch))

    @property
    def outcome(self):
        return self

    def predicted(self, posterior):
        value = self.measured(posterior.mean)
        return ScalarPosterior(value, torch.zeros_like(value))

    def measured(self, effects):
        return -(effects[:, self.target.columns] - self.target.values).abs().amax(1)

    def pair_score(self, fitted, space):
        return None
''',
    "plug_constraint": '''
from dataclasses import dataclass
import torch

@dataclass(frozen=True)
class NumbersApart:
    """The numbers in the names of the parts differ by at least so much."""
    least: int = 1

    def allows(self, candidates, vocabulary):
        number = torch.tensor([int(name[1:]) for name in vocabulary.targets] + [0])
        held, there = number[candidates.genes], candidates.genes >= 0
        gap = (held[:, :, None] - held[:, None]).abs()
        both = there[:, :, None] & there[:, None] & ~torch.eye(held.shape[1], dtype=torch.bool)
        return ~((gap < self.least) & both).flatten(1).any(1)
''',
    "plug_acquisition": """
from inverse_design.acquisition.acquisition import Fixed

def worst_first(posterior, best):
    return Fixed(-posterior.mean)
""",
    "plug_recommender": '''
from dataclasses import dataclass
import torch
from inverse_design.recommend.protocol import Recommendation

@dataclass(frozen=True)
class LastFirst:
    """The last of the list comes first."""

    def recommend(self, state, count, *, pending, seed):
        left = state.open(pending)
        return Recommendation.of(state, left.rows(torch.arange(len(left)).flip(0)[:count]))
''',
    "plug_reader": """
import json
import torch
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError

def read(path, stated, provenance):
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path.name!r} is damaged: {error}") from error
    names = tuple(found["readouts"]) if stated.readouts is None else tuple(stated.readouts)
    keep = [found["readouts"].index(name) for name in names]
    rows = [[row[at] for at in keep] for row in found["effects"]]
    parsed = [Perturbation.parse(label) for label in found["labels"]]
    effects = torch.tensor(rows, dtype=torch.float64)
    return Screen.from_labels(effects, parsed, names, provenance=dict(provenance))
""",
    "plug_writer": """
def write(table, path, facts):
    path.write_text("\\\\n".join(table.iloc[:, 1].map(str)) if len(table) else "", encoding="utf-8")
""".replace("\\\\n", "\\n"),
}
ENTRIES = {
    "inverse_design.surrogates": "plain_sums = plug_surrogate:PlainSums",
    "inverse_design.objectives": "worst_readout = plug_objective:WorstReadout",
    "inverse_design.constraints": "numbers_apart = plug_constraint:NumbersApart",
    "inverse_design.acquisitions": "worst_first = plug_acquisition:worst_first",
    "inverse_design.recommenders": "last_first = plug_recommender:LastFirst",
    "inverse_design.readers": "plug = plug_reader:read",
    "inverse_design.writers": "names = plug_writer:write",
}


@dataclass(frozen=True)
class Plugged:
    """Where the package is installed."""

    folder: Path

    def screen(self, labels: list[str], readouts: list[str], effects: list[list[float]]) -> Path:
        """Write a screen in the format that the package reads."""
        path = self.folder / "screen.plug"
        path.write_text(json.dumps({"labels": labels, "readouts": readouts, "effects": effects}))
        return path


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Plugged:
    """Put the package on the path, as an installer does."""
    for name, text in FILES.items():
        (folder / f"{name}.py").write_text(text)
    about = folder / "plugged-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    lines = [line for group, entry in ENTRIES.items() for line in (f"[{group}]", entry)]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(folder)
    return Plugged(folder)
