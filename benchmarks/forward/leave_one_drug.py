"""Leave one drug out on the melanoma screen: linear models beside saturating dynamics.

Two protocols. ``without_drug`` holds out every condition that contains the drug, its single agents too, so that
the drug is unseen. This is the protocol of the published comparison [Long 2025, BMC Bioinformatics 26:4: 0.784 for
linear regression, 0.780 for CellBox], reproduced here as ``published_linear``: least squares with an intercept on
the hyperbolic tangent of the drug activities that come with the screen. ``without_combinations`` holds out the
drug's combinations only, and its single agents are seen.

The number is the Pearson correlation over all held-out values (readouts × conditions), averaged over the 12 drugs,
with a 95 % bootstrap interval over drugs.

``causal_with_targets`` knows what each drug acts on: the antibodies of :data:`MELANOMA_TARGETS`, chosen by name
and before any result was seen, at the drug activity that comes with the screen.

``--simulation`` repeats the leave-one-drug-out simulation of the same source instead, over 20 seeds: five
responses with the edges 1 -> 2 (1.6), 1 -> 3 (1.2) and 3 -> 4 (2.0); fifteen drugs, five that act on one response
each and ten that act on two by a half; all 105 pairs of drugs, with process noise of standard deviation .2.
"""

import argparse
import time
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.contrib.causal.model import Causal
from surrogates.contrib.dynamics import SaturatingDynamics
from surrogates.data.catalogue import locate, open_dataset
from surrogates.data.novelty import Split
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.evaluation.intervals import Row, bootstrap_interval, write_json
from surrogates.evaluation.metrics import pearson_rows
from surrogates.models.base import Surrogate
from surrogates.models.baselines import Additive
from surrogates.models.linear import Ridge

DATASET = "cellbox_skmel133"
PROTOCOLS = ("without_drug", "without_combinations")
PUBLISHED = "published_linear"
MELANOMA_TARGETS: Mapping[str, tuple[str, ...]] = {
    "901": ("MAPKpT202",),  # a MEK inhibitor keeps ERK from being phosphorylated
    "AK": ("AKTpS473", "AKTpT308"),
    "NT": ("p53",),
    "P6": ("STAT5pY694",),  # JAK
    "PLX": ("MEKpS217",),  # mutant BRAF
    "RO": ("PKCa",),
    "RY": ("RbpS807",),  # CDK4
    "SR": ("SRCpY416",),
    "ST": ("STAT3pY705",),
    "Tm": ("mTORpS2448", "p70S6KpT389"),
    "ZS": ("AKTpS473", "AKTpT308"),  # PI3K
}
WITH_TARGETS = "causal_with_targets"
MODELS: Mapping[str, Surrogate] = {
    "least_squares": Ridge(penalty=0.0, columns="doses"),
    "additive": Additive(),
    "causal": Causal(),
    "saturating_dynamics": SaturatingDynamics(),
}


_LONG_EDGES = ((0, 1, 1.6), (0, 2, 1.2), (2, 3, 2.0))
_LONG_NAMES = tuple(f"X{number + 1}" for number in range(5))
_LONG_ACTS_ON = [(each,) for each in _LONG_NAMES] + list(combinations(_LONG_NAMES, 2))
TARGETS_OF_LONG = tuple(
    (f"D{number:02d}", tuple((name, 1.0 / len(acted)) for name in acted))
    for number, acted in enumerate(_LONG_ACTS_ON)
)


def long_world(*, seed: int) -> Screen:
    """Measure all pairs of the drugs of the published simulation."""
    edges = torch.zeros(5, 5, dtype=torch.float64)
    for start, end, weight in _LONG_EDGES:
        edges[start, end] = weight
    pairs = list(combinations(range(len(TARGETS_OF_LONG)), 2))
    direct = torch.zeros(len(TARGETS_OF_LONG), 5, dtype=torch.float64)
    for number, (_, weights) in enumerate(TARGETS_OF_LONG):
        for name, weight in weights:
            direct[number, _LONG_NAMES.index(name)] = weight
    noise = torch.randn(len(pairs), 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    inputs = torch.stack([direct[one] + direct[other] for one, other in pairs])
    effects = inputs @ torch.linalg.inv(torch.eye(5, dtype=torch.float64) - edges) + 0.2 * noise
    labels = [f"D{one:02d}:compound@1+D{other:02d}:compound@1" for one, other in pairs]
    return Screen.from_labels(effects, [Perturbation.parse(label) for label in labels], list(_LONG_NAMES))


def with_targets() -> Causal:
    """Know the direct effects of the drugs of the melanoma screen."""
    activities = pd.read_csv(locate(DATASET) / "inputs.csv", index_col="condition")
    conditions = pd.read_csv(locate(DATASET) / "conditions.csv", index_col="condition")
    node = conditions.set_index("drug_1")["node_1"].to_dict()
    strongest = {drug: float(activities[node[drug]].min()) for drug in MELANOMA_TARGETS}
    return Causal(
        targets=tuple(
            (drug, tuple((readout, strongest[drug]) for readout in readouts))
            for drug, readouts in MELANOMA_TARGETS.items()
        )
    )


def simulate(*, seed: int) -> list[Row]:
    """Repeat the published simulation over 20 seeds."""
    found: dict[str, list[float]] = {}
    models = {"least_squares": MODELS["least_squares"], WITH_TARGETS: Causal(targets=TARGETS_OF_LONG)}
    for number in range(20):
        screen = long_world(seed=seed + number)
        held = [split(screen, drug, "without_drug") for drug in sorted(set(screen.vocabulary.targets))]
        truth = torch.cat([screen.effects[each.test].flatten() for each in held])[None]
        for name, model in models.items():
            predicted = [
                model.fit(screen.rows(each.train), seed=seed).predict(screen.batch.rows(each.test)).mean.flatten()
                for each in held
            ]
            found.setdefault(name, []).append(float(pearson_rows(torch.cat(predicted)[None], truth)))
    rows = []
    for name, each in found.items():
        rows += _rows(name, "simulation", {f"seed {seed + at}": value for at, value in enumerate(each)}, seed=seed)
        print(f"{'simulation':22s}{name:21s}{rows[-1].value:.4f} [{rows[-1].low:.3f}, {rows[-1].high:.3f}]")
    return rows


def split(screen: Screen, drug: str, protocol: str) -> Split:
    """Hold the conditions that contain a drug out, or only the combinations among them."""
    is_drug = torch.tensor([target == drug for target in screen.vocabulary.targets])
    held = (is_drug[screen.batch.genes.clamp(min=0)] & screen.batch.present).any(1)
    if protocol == "without_combinations":
        held &= screen.batch.order > 1
    return Split(torch.nonzero(~held).flatten(), torch.nonzero(held).flatten())


def published_linear(screen: Screen, held: Split) -> Float[Tensor, "b g"]:
    """Linear regression on the drug activities of the source."""
    activities = pd.read_csv(locate(DATASET) / "inputs.csv", index_col="condition")
    inputs = torch.tensor(activities.loc[screen.annotations["condition"]].to_numpy()).tanh()
    design = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=torch.float64)], dim=1)
    # The column of an unseen drug is zero throughout: the pseudo-inverse leaves it at no effect.
    coefficients: Float[Tensor, "c g"] = torch.linalg.pinv(design[held.train]) @ screen.effects[held.train]
    return design[held.test] @ coefficients


def measure(screen: Screen, name: str, protocol: str, *, seed: int) -> list[Row]:
    """Correlate a model's predictions with the held-out values, drug by drug, and print them."""
    correlations: dict[str, float] = {}
    start = time.perf_counter()
    for drug in sorted(set(screen.vocabulary.targets)):
        held = split(screen, drug, protocol)
        if name == PUBLISHED:
            prediction = published_linear(screen, held)
        else:
            model = with_targets() if name == WITH_TARGETS else MODELS[name]
            fitted = model.fit(screen.rows(held.train), seed=seed)
            prediction = fitted.predict(screen.batch.rows(held.test)).mean
        truth = screen.effects[held.test].flatten()[None]
        correlations[drug] = float(pearson_rows(prediction.flatten()[None], truth))
    rows = _rows(name, protocol, correlations, seed=seed)
    seconds = time.perf_counter() - start
    mean = f"{rows[-1].value:.4f} [{rows[-1].low:.3f}, {rows[-1].high:.3f}]"
    each = " ".join(f"{drug} {value:.2f}" for drug, value in correlations.items())
    print(f"{protocol:22s}{name:21s}{mean} {seconds:4.0f} s  {each}", flush=True)
    return rows


def _rows(name: str, protocol: str, values: Mapping[str, float], *, seed: int) -> list[Row]:
    """One row per drug, then their mean."""
    every = torch.tensor(list(values.values()))
    low, high = bootstrap_interval(lambda drawn: every[drawn].mean(1), len(every), seed=seed)
    bounds = {drug: (value, value, value, 1) for drug, value in values.items()}
    bounds["mean"] = (float(every.mean()), low, high, len(every))
    return [
        Row("leave_one_drug", DATASET, name, protocol, variant, "pearson_of_values", *numbers, "correlation")
        for variant, numbers in bounds.items()
    ]


def main() -> None:
    """Run both protocols and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None, help="write the rows to this file")
    names = (PUBLISHED, *MODELS, WITH_TARGETS)
    parser.add_argument("--simulation", action="store_true", help="the published simulation instead")
    parser.add_argument("--models", nargs="+", choices=names, default=names)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.simulation:
        simulate(seed=arguments.seed)
        return
    screen = open_dataset(DATASET)
    print("mean correlation over 12 drugs [95 % over drugs], seconds for 12 fits, and each drug")
    rows = [
        row
        for protocol in PROTOCOLS
        for name in arguments.models
        for row in measure(screen, name, protocol, seed=arguments.seed)
    ]
    if arguments.json is not None:
        models = {name: repr(model) for name, model in MODELS.items()}
        write_json(rows, arguments.json, manifest={"seed": arguments.seed, "models": models})


if __name__ == "__main__":
    main()
