import pytest
import torch
from strategies.screens import normal

from surrogates.uncertainty import forms as module
from surrogates.uncertainty.error_model import ErrorLaw, FactorCovariance
from surrogates.uncertainty.forms import FoldProducts, HeldOutFold, inner_products

V, G, ROWS = 9, 14, 3
PAIRS = torch.combinations(torch.arange(V), 2)[::2]


def fold_of(*, shared: bool, streamed: bool = False) -> HeldOutFold:
    singles, apart = normal(V, G, seed=0).clone, normal(V, G, seed=1)
    atoms = singles if shared else apart.clone
    summed = PAIRS
    if streamed:
        atoms, summed = apart[PAIRS].sum(1).clone, torch.arange(len(PAIRS))[:, None]
    return HeldOutFold(
        measured=normal(ROWS, G, seed=2),
        truth=torch.arange(ROWS),
        atoms=atoms,
        summed=summed,
        basis=normal(2, G, seed=3),
        products=normal(len(PAIRS), 2, seed=4),
        scale=1 + normal(len(PAIRS), seed=5).square(),
        parts=PAIRS,
        singles=singles,
    )


def law_of(rank: int) -> ErrorLaw:
    diagonal = 0.5 + normal(G, seed=6).square()
    return ErrorLaw(normal(G, seed=7), FactorCovariance(diagonal, normal(G, rank, seed=8)), 0.0, 1.0, 1.0, 0, "")


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("dense", [0, 1000])
@pytest.mark.parametrize("kind", [{"shared": True}, {"shared": False}, {"shared": False, "streamed": True}])
def test_forms_are_those_of_dense_matrices(
    monkeypatch: pytest.MonkeyPatch, rank: int, dense: int, kind: dict[str, bool]
) -> None:
    monkeypatch.setattr(module, "_DENSE", dense)
    monkeypatch.setattr(module, "_READOUTS", 4)
    monkeypatch.setattr(module, "_BLOCK", len(PAIRS))  # one row at a time
    fold, law = fold_of(**kind), law_of(rank)
    inverse = torch.linalg.inv(
        law.covariance.diagonal.diag() + law.covariance.loadings @ law.covariance.loadings.T
    )
    blocks = list(FoldProducts.of(fold, law).forms())
    assert len(blocks) == ROWS
    parts = fold.singles()[fold.parts]
    grams = torch.einsum("cag,gh,cbh->cab", parts, inverse, parts)
    for measured, (square, projections, gram, scale) in zip(fold.measured, blocks, strict=True):
        gaps = measured - law.offset - fold.predictions
        torch.testing.assert_close(square[0], (gaps @ inverse * gaps).sum(1))
        torch.testing.assert_close(
            torch.stack(projections)[:, 0].T, torch.einsum("cag,gh,ch->ca", parts, inverse, gaps)
        )
        torch.testing.assert_close(torch.stack(gram, 1), grams[:, [0, 0, 1], [0, 1, 1]])
        assert torch.equal(scale, fold.scale)


@pytest.mark.parametrize("width", [0, 3])
@pytest.mark.parametrize("dense", [0, 1000])
def test_rows_are_multiplied_pair_by_pair(monkeypatch: pytest.MonkeyPatch, dense: int, width: int) -> None:
    monkeypatch.setattr(module, "_DENSE", dense)
    left, right = normal(V, width, seed=0), normal(V, width, seed=1)
    first, second = PAIRS.T
    torch.testing.assert_close(inner_products(left, right, (first, second)), (left[first] * right[second]).sum(1))
