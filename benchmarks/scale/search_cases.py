"""Problems that the search over all pairs is timed on: how factors are drawn, and what is searched for."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from benchmarks.scale.ensembles import EnsembleImprovement
from inverse_design.problem.score import ProductScore
from surrogates.data.screen import Screen
from surrogates.errors import DataError

_NOISE = 0.1  # of a target, as a share of its norm
_APART = 0.3  # noise that a member adds to each number, in units of its standard deviation
_SAMPLED = 20_000  # pairs of which the best is the incumbent


@dataclass(frozen=True)
class EffectShape:
    """How effects are spread, without the effects.

    Attributes:
        name: Of the screen.
        spectrum: Share of the squared singular values of the single effects, descending.
        norms: Of each single effect.
    """

    name: str
    spectrum: tuple[float, ...]
    norms: tuple[float, ...]

    @classmethod
    def of(cls, screen: Screen, *, name: str) -> "EffectShape":
        """Measure a screen.

        Args:
            screen: Measured effects.
            name: What to call it.

        Returns:
            Spectrum and norms of what was measured alone.

        Raises:
            DataError: If nothing was.
        """
        alone = screen.effects[screen.batch.order == 1].double()
        if not len(alone):
            raise DataError(f"none of the {len(screen)} conditions was measured alone; a spectrum needs singles")
        squares = torch.linalg.svdvals(alone).square()
        return cls(name, tuple((squares / squares.sum()).tolist()), tuple(alone.norm(dim=1).tolist()))


@dataclass(frozen=True)
class SearchCase:
    """One problem.

    Attributes:
        genes: Number of entries.
        columns: Of the factors.
        seed: Fixes them.
        members: With one member its best pairs are searched for, with more the expected improvement over them.
        shape: What effects are like, and then a target is approached; by default factors are normal numbers.
    """

    genes: int
    columns: int
    seed: int
    members: int = 1
    shape: EffectShape | None = None

    @property
    def dataset(self) -> str:
        """What the rows of factors are."""
        return f"{self.genes} normal rows" if self.shape is None else f"{self.genes} rows like {self.shape.name}"

    @property
    def searched(self) -> str:
        """What is searched for."""
        return "exact_scan" if self.members == 1 else f"expected_improvement_{self.members}"

    @property
    def bare(self) -> str:
        """What it is timed beside, made by blocks."""
        return "bare_product" if self.members == 1 else f"bare_products_{self.members}"

    @property
    def whole(self) -> str:
        """The same in one piece."""
        return "bare_square" if self.members == 1 else f"bare_squares_{self.members}"

    def scores(self) -> tuple[ProductScore, ...]:
        """Draw the scores of all members.

        Returns:
            Scores with factors in double precision.
        """
        generator = torch.Generator().manual_seed(self.seed)
        if self.shape is not None:
            return (_approached(self.shape, self.genes, self.columns, generator),)
        common = [_normal(*shape, generator=generator) for shape in self._shapes]
        if self.members == 1:
            return (ProductScore(*common),)
        return tuple(
            ProductScore(*(each + _APART * _normal(*each.shape, generator=generator) for each in common))
            for _ in range(self.members)
        )

    @property
    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        return (self.genes,), (self.genes, self.columns), (self.genes, self.columns)


def asked(scores: tuple[ProductScore, ...]) -> ProductScore | EnsembleImprovement:
    """Make the question of some scores anew, so that nothing that a search has prepared is used again.

    Args:
        scores: Of each member.

    Returns:
        The score of a single member, or the expected improvement upon the best of some pairs under the first.
    """
    fresh = tuple(ProductScore(each.side, each.left, each.right) for each in scores)
    if len(fresh) == 1:
        return fresh[0]
    some = torch.randint(fresh[0].size, (2, _SAMPLED), generator=torch.Generator().manual_seed(0)).sort(0).values
    first, second = some[:, some[0] < some[1]].unbind(0)
    return EnsembleImprovement(fresh, float(fresh[0].exact(first, second).max()))


def _normal(*shape: int, generator: torch.Generator) -> Float64[Tensor, "..."]:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _approached(shape: EffectShape, genes: int, columns: int, generator: torch.Generator) -> ProductScore:
    """Draw effects of a spectrum and of resampled norms, and a target: the sum of two of them, and noise."""
    spectrum, norms = (torch.tensor(each, dtype=torch.float64) for each in (shape.spectrum, shape.norms))
    spectrum = spectrum[:columns]
    axes = torch.linalg.qr(_normal(columns, len(spectrum), generator=generator)).Q
    rows = _normal(genes, len(spectrum), generator=generator) * spectrum.sqrt()
    sizes = norms[torch.randint(len(norms), (genes,), generator=generator)]
    rows = torch.nn.functional.normalize(rows, dim=1) * sizes[:, None] @ axes.T
    target = rows[0] + rows[genes // 2]
    noise = torch.nn.functional.normalize(_normal(columns, generator=generator), dim=0)
    return ProductScore.of_distance(rows, target + _NOISE * target.norm() * noise)
