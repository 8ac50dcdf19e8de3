import torch

from inverse_design import propose
from inverse_design.problem.explanation import causal_paths
from surrogates.contrib.causal.model import Causal, paths
from surrogates.data.simulate import LinearCausalWorld, Network, singles_and_doubles
from surrogates.models.baselines import Additive

NETWORK = Network(genes=12, parents=1, seed=3)
SCREEN = LinearCausalWorld(NETWORK, noise=1e-3).screen(singles_and_doubles(NETWORK, doubles=12, seed=0), seed=0)


def test_the_strongest_path_of_any_part_is_named() -> None:
    fitted = Causal(variable=0).fit(SCREEN, seed=0)
    parent, child = (NETWORK.edges("").abs() == NETWORK.edges("").abs().max()).nonzero()[0].tolist()
    other = next(gene for gene in range(12) if gene not in {parent, child})
    (said,) = causal_paths(fitted, torch.tensor(sorted([parent, other])), [SCREEN.readouts[child]])
    best = paths(fitted, NETWORK.names[parent], NETWORK.names[child], count=1)
    assert said.startswith(f"{NETWORK.names[parent]} → {NETWORK.names[child]} (")
    assert f"{float(best['contribution'][0]):+.2g}" in said


def test_a_model_without_a_graph_has_no_paths() -> None:
    assert causal_paths(Additive().fit(SCREEN, seed=0), torch.tensor([0, 1]), [SCREEN.readouts[2]]) == ()


def test_proposals_of_a_causal_model_are_explained_by_paths() -> None:
    target = SCREEN.labels[12]
    found = propose(SCREEN, target, surrogate=Causal(variable=0, steps=6), top=2)
    assert found.table["perturbation"][0] == target
    assert any("causal graph of" in note and "trust" in note for note in found.notes)
    first = found.explanations[0]
    assert len(first.paths) > 0
    assert all(path.split(" → ")[0].split(" (")[0] in target.split("+") for path in first.paths)
