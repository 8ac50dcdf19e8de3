"""What one more candidate adds to those that are chosen already: the steps of every greedy batch."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.errors import DataError

_NONE = 1e-10  # of a candidate's own variance: less is nothing new


@runtime_checkable
class Preference(Protocol):
    """A value that knows what is chosen; adding a candidate gives another value."""

    def gains(self) -> Float[Tensor, "b"]:
        """What each candidate would add."""
        ...

    def adding(self, number: int) -> "Preference":
        """Choose a candidate."""
        ...


@dataclass(frozen=True)
class Fixed:
    """Scores that do not depend on what is chosen, such as those of a :class:`~.gain.Gain`.

    Attributes:
        score: Of each candidate.
    """

    score: Float[Tensor, "b"]

    def gains(self) -> Float[Tensor, "b"]:
        """The scores."""
        return self.score

    def adding(self, number: int) -> "Fixed":  # noqa: ARG002 - of the protocol
        """Choose a candidate.

        Args:
            number: Not read.

        Returns:
            The same scores.
        """
        return self


@dataclass(frozen=True)
class Followed:
    """A preference, and another one for the time when it has nothing more to gain.

    Attributes:
        first: What counts as long as a candidate adds anything; its gains are not negative.
        then: Orders those that add nothing.
    """

    first: Preference
    then: Preference

    def gains(self) -> Float[Tensor, "b"]:
        """The gains of the first where there are any; below zero, in the order of the second, elsewhere."""
        gains, rest = self.first.gains(), self.then.gains()
        return torch.where(gains > 0, gains, rest - rest.amax() - 1)

    def adding(self, number: int) -> "Followed":
        """Choose a candidate.

        Args:
            number: Which.

        Returns:
            Both with it.
        """
        return Followed(self.first.adding(number), self.then.adding(number))


@dataclass(frozen=True)
class Thompson:
    """Thompson sampling: each pick is the best candidate in a draw of its own [Thompson 1933].

    Picks are as varied as the belief is unsure. Candidates that are chosen already cannot be taken again, so that
    the picks are distinct; with fewer draws than picks the draws are used in turn.

    Attributes:
        draws: Joint draws of utilities.
        turn: How many picks were made.
    """

    draws: Float[Tensor, "s b"]
    turn: int = 0

    def gains(self) -> Float[Tensor, "b"]:
        """The utilities in the draw whose turn it is."""
        return self.draws[self.turn % len(self.draws)]

    def adding(self, number: int) -> "Thompson":  # noqa: ARG002 - of the protocol: the pool is masked by the chooser
        """Choose a candidate.

        Args:
            number: Not read.

        Returns:
            The preference of the next draw.
        """
        return replace(self, turn=self.turn + 1)


@dataclass(frozen=True)
class Determinantal:
    """Greedy mode of a determinantal point process: good candidates whose predicted effects differ.

    The kernel is ``L_ij = q_i q_j <x_i, x_j>``; a step adds the logarithm of the squared length of ``q_i x_i``
    beyond the span of the chosen ones, kept by one row of a Cholesky factor per pick [Chen 2018].

    Attributes:
        features: Rows ``q_i x_i``.
        residual: Squared length of each beyond the chosen ones.
        rows: The rows of the Cholesky factor so far.
    """

    features: Float[Tensor, "b d"]
    residual: Float[Tensor, "b"]
    rows: Float[Tensor, "q b"]

    @classmethod
    def of(cls, quality: Float[Tensor, "b"], effects: Float[Tensor, "b m"], *, weight: float) -> "Determinantal":
        """Weigh quality against diversity.

        Args:
            quality: Of each candidate, such as its utility; standardised here.
            effects: Predicted effects; their directions count, not their lengths.
            weight: How much a standard deviation of quality counts, as a logarithm of length; zero is diversity
                alone.

        Returns:
            The preference before anything is chosen.

        Raises:
            DataError: If the weight is negative.
        """
        if not weight >= 0:
            raise DataError(f"weight {weight} of the quality is negative: it would prefer what is worst")
        spread = quality.std(correction=0).clamp(min=torch.finfo(quality.dtype).tiny)
        grade = ((quality - quality.mean()) / spread * weight).exp()
        lengths = effects.norm(dim=1, keepdim=True).clamp(min=torch.finfo(effects.dtype).tiny)
        # With the constant coordinate the kernel is (1 + cosine) / 2: opposite effects are not alike.
        unit = torch.cat([effects / lengths, torch.ones_like(lengths)], dim=1) / 2**0.5
        features = grade[:, None] * unit
        return cls(features, features.square().sum(1), features.new_zeros(0, len(features)))

    def gains(self) -> Float[Tensor, "b"]:
        """Log squared length of each candidate beyond the chosen ones; minus infinity where nothing is left."""
        whole = self.features.square().sum(1)
        return torch.where(self.residual > _NONE * whole, self.residual, 0.0).log()

    def adding(self, number: int) -> "Determinantal":
        """Choose a candidate.

        Args:
            number: Which.

        Returns:
            The preference with it.
        """
        length = self.residual[number].clamp(min=torch.finfo(self.residual.dtype).tiny).sqrt()
        inner = self.features @ self.features[number] - self.rows.T @ self.rows[:, number]
        row = inner / length
        return replace(
            self, residual=(self.residual - row.square()).clamp(min=0), rows=torch.cat([self.rows, row[None]])
        )


@dataclass(frozen=True)
class FacilityLocation:
    """Every good candidate should have something like it in the batch: ``sum_i w_i max_j k_ij``.

    Monotone and submodular; for batches larger than the rank of the effects, where nothing new is left.

    Attributes:
        likeness: Of candidates, between 0 and 1.
        weight: How much each wants to be represented.
        covered: Likeness of each to what is most like it among the chosen.
    """

    likeness: Float[Tensor, "b b"]
    weight: Float[Tensor, "b"]
    covered: Float[Tensor, "b"]

    @classmethod
    def of(cls, weight: Float[Tensor, "b"], effects: Float[Tensor, "b m"]) -> "FacilityLocation":
        """Compare candidates by the cosine of their predicted effects; opposite ones are not alike.

        Args:
            weight: Not negative, such as gains.
            effects: Predicted effects.

        Returns:
            The preference before anything is chosen.

        Raises:
            DataError: If a weight is negative.
        """
        if bool((weight < 0).any()):
            raise DataError(f"weight {float(weight.min()):g} of a candidate is negative; take gains")
        unit = torch.nn.functional.normalize(effects, dim=1)
        return cls((unit @ unit.T).clamp(min=0), weight, torch.zeros_like(weight))

    def gains(self) -> Float[Tensor, "b"]:
        """What each candidate adds to the weighted coverage."""
        return (self.likeness - self.covered[:, None]).clamp(min=0).T @ self.weight

    def adding(self, number: int) -> "FacilityLocation":
        """Choose a candidate.

        Args:
            number: Which.

        Returns:
            The preference with it.
        """
        return replace(self, covered=torch.maximum(self.covered, self.likeness[:, number]))
