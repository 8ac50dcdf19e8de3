"""The target: a profile, a signature, or one readout.

A target that does not look as if it were in the unit of the screen is given no probability.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.errors import TargetError
from surrogates.data.screen import Screen
from surrogates.data.symbols import matched
from surrogates.errors import UnknownNameError, nearest_hint
from surrogates.summary import summary


@dataclass(frozen=True)
class ProfileTarget:
    """A wanted effect on some readouts; those not named are left open.

    Attributes:
        name: What to call it.
        readouts: Names of the readouts.
        values: Wanted effects, in the unit of the screen.
        standard_errors: How exactly they are wanted, or ``None`` for exactly.
        weights: Importance of each readout, 1 by default; a readout of weight 2 counts like two.
    """

    name: str
    readouts: tuple[str, ...]
    values: Float[Tensor, "m"]
    standard_errors: Float[Tensor, "m"] | None = None
    weights: Float[Tensor, "m"] | None = None
    __repr__ = summary

    def __post_init__(self) -> None:
        """Refuse repeated readouts, and values, errors or weights that are not finite or out of range."""
        _refuse_repeats(self.name, self.readouts)
        _refuse_not_finite(self.name, "value", self.readouts, self.values)
        for what, numbers in (("standard error", self.standard_errors), ("weight", self.weights)):
            if numbers is None:
                continue
            _refuse_not_finite(self.name, what, self.readouts, numbers)
            if bool((numbers < 0).any()):
                raise TargetError(f"target {self.name!r} has a negative {what}")

    def on(self, readouts: Sequence[str]) -> "AlignedProfile":
        """Keep the readouts that a screen has.

        Args:
            readouts: Names of the screen's readouts.

        Returns:
            The profile in the screen's coordinates.

        Raises:
            TargetError: If none is in common.
        """
        at = _columns(self.name, self.readouts, readouts)
        kept = [row for row, name in enumerate(self.readouts) if name in at and self._weight(row) > 0]
        if not kept:
            raise TargetError(f"every readout of target {self.name!r} that the screen has is of weight zero")
        rows = torch.tensor(kept)
        errors, weights = self.standard_errors, self.weights
        return AlignedProfile(
            columns=torch.tensor([at[self.readouts[row]] for row in kept]),
            values=self.values[rows].double(),
            variance=torch.zeros(len(rows)).double() if errors is None else errors[rows].double().square(),
            weights=torch.ones(len(rows)).double() if weights is None else weights[rows].double(),
        )

    def _weight(self, row: int) -> float:
        return 1.0 if self.weights is None else float(self.weights[row])


@dataclass(frozen=True)
class AlignedProfile:
    """A profile in the coordinates of a screen."""

    columns: Int[Tensor, "m"]  # numbers of the screen's readouts
    values: Float[Tensor, "m"]  # wanted effect on each
    variance: Float[Tensor, "m"]  # squared standard error of each, zero when exact
    weights: Float[Tensor, "m"]  # importance of each, positive

    @classmethod
    def exact(cls, columns: Sequence[int], values: Float[Tensor, "m"]) -> "AlignedProfile":
        """Want exact values with equal weights."""
        return cls(torch.tensor(list(columns)), values, torch.zeros_like(values), torch.ones_like(values))


@dataclass(frozen=True)
class SignatureTarget:
    """Readouts that should rise and readouts that should fall.

    Attributes:
        name: What to call it.
        up: Readouts that should rise, each with a positive weight.
        down: Readouts that should fall, each with a positive weight.
    """

    name: str
    up: Mapping[str, float]
    down: Mapping[str, float]
    __repr__ = summary

    def __post_init__(self) -> None:
        """Refuse an empty signature, a readout in both sets, and weights that are not positive."""
        if not self.up and not self.down:
            raise TargetError(f"signature {self.name!r} is empty")
        if both := sorted(set(self.up) & set(self.down)):
            raise TargetError(f"signature {self.name!r} wants {both[0]!r} both up and down")
        for readout, weight in (*self.up.items(), *self.down.items()):
            if not 0 < weight < float("inf"):
                raise TargetError(f"signature {self.name!r}: weight {weight} of {readout!r} is not positive")

    def on(self, readouts: Sequence[str]) -> "AlignedProfile":
        """Spell the signature out as a direction of unit length.

        Args:
            readouts: Names of the screen's readouts.

        Returns:
            Positive values for up, negative ones for down, on the readouts that the screen has.

        Raises:
            TargetError: If no readout is in common.
        """
        signed = {**self.up, **{name: -weight for name, weight in self.down.items()}}
        at = _columns(self.name, tuple(signed), readouts)
        values = torch.tensor([signed[name] for name in at], dtype=torch.float64)
        return AlignedProfile.exact(list(at.values()), values / values.norm())


@dataclass(frozen=True)
class ScalarTarget:
    """One readout, to be made large, small, or equal to a value.

    Attributes:
        readout: Its name.
        goal: What is wanted.
        value: The wanted effect when the goal is to reach one.
    """

    readout: str
    goal: Literal["maximise", "minimise", "reach"]
    value: float | None = None

    def __post_init__(self) -> None:
        """Refuse a goal without the value it needs, a value without such a goal, and one that is not finite."""
        if (self.goal == "reach") != (self.value is not None):
            raise TargetError(
                f"goal {self.goal!r} of {self.readout!r} with value {self.value}: only 'reach' has one"
            )
        if self.value is not None and not math.isfinite(self.value):
            raise TargetError(f"value {self.value} of {self.readout!r} is not finite")

    @property
    def name(self) -> str:
        """The goal in words."""
        return f"{self.goal} {self.readout}" + ("" if self.value is None else f" = {self.value:g}")

    def on(self, readouts: Sequence[str]) -> "AlignedProfile":
        """Find the readout; a goal without a value is one unit up or down.

        Args:
            readouts: Names of the screen's readouts.

        Returns:
            The goal on that readout.

        Raises:
            UnknownNameError: If the screen has no such readout.
        """
        if self.readout not in readouts:
            raise UnknownNameError.from_known("readout", self.readout, readouts)
        unit = -1.0 if self.goal == "minimise" else 1.0
        value = unit if self.value is None else self.value
        return AlignedProfile.exact([list(readouts).index(self.readout)], torch.tensor([value]).double())


Target: TypeAlias = ProfileTarget | SignatureTarget | ScalarTarget

_FAR = 1e6  # standard deviations, more than any effect


def is_state(target: Target) -> bool:
    """Tell a state to come near to from a mere direction to go."""
    return isinstance(target, ProfileTarget) or (isinstance(target, ScalarTarget) and target.goal == "reach")


def endless(target: Target, aligned: AlignedProfile) -> AlignedProfile:
    """Move the end of a mere direction out of reach: of a signature, more is never too much."""
    return aligned if is_state(target) else replace(aligned, values=aligned.values * _FAR)


def shift(name: str, start: ProfileTarget, end: ProfileTarget) -> ProfileTarget:
    """Ask for the way from one state to another: an effect profile on the readouts that both have.

    Args:
        name: What to call it.
        start: The state that the cells are in.
        end: The state that they should reach.

    Returns:
        The difference, with the standard errors of both and the weights of the end.

    Raises:
        TargetError: If the two have no readout in common.
    """
    at = _columns(name, start.readouts, end.readouts, "the end state")
    rows = torch.tensor([row for row, readout in enumerate(start.readouts) if readout in at])
    columns = torch.tensor([at[start.readouts[int(row)]] for row in rows])
    known = [
        state.standard_errors[where].double().square()
        for state, where in ((start, rows), (end, columns))
        if state.standard_errors is not None
    ]
    return ProfileTarget(
        name=name,
        readouts=tuple(start.readouts[int(row)] for row in rows),
        values=end.values[columns].double() - start.values[rows].double(),
        standard_errors=torch.stack(known).sum(0).sqrt() if known else None,
        weights=None if end.weights is None else end.weights[columns].double(),
    )


def _columns(
    name: str, wanted: Sequence[str], readouts: Sequence[str], whose: str = "the screen"
) -> dict[str, int]:
    numbers = {readout: column for column, readout in enumerate(readouts)}
    common = matched(wanted, numbers)
    if not common:
        first = next(iter(wanted), "")
        alike = {readout.casefold(): readout for readout in readouts}
        if 2 * sum(readout.casefold() in alike for readout in wanted) > len(wanted):
            spelt = alike.get(first.casefold(), readouts[0])
            raise TargetError(
                f"target {name!r} has no readout in common with {whose}: names differ in case only, as {first!r}"
                f" and {spelt!r} do, like symbols of human and mouse; write them as {whose} does"
            )
        hint = f" (for example {first!r}: {nearest_hint(first, readouts)})" if first else ""
        raise TargetError(f"target {name!r} has no readout in common with {whose}{hint}")
    return common


def _refuse_repeats(name: str, readouts: Sequence[str]) -> None:
    if len(set(readouts)) < len(readouts):
        twice = next(readout for readout in readouts if readouts.count(readout) > 1)
        raise TargetError(f"target {name!r} names readout {twice!r} more than once")


def _refuse_not_finite(name: str, what: str, readouts: Sequence[str], numbers: Float[Tensor, "m"]) -> None:
    if len(numbers) != len(readouts):
        raise TargetError(f"target {name!r} has {len(numbers)} {what}s for {len(readouts)} readouts")
    bad = torch.nonzero(~torch.isfinite(numbers)).flatten()
    if len(bad):
        at = int(bad[0])
        raise TargetError(f"target {name!r}: {what} {float(numbers[at])} of {readouts[at]!r} is not finite")


_ROWS = 256  # measured effects that are looked at together
REACH = 2.0  # times the largest measured effect: what a pair of the same signs may reach
_WEAK = 0.5  # times the size of the weakest measured effect
_MANY = 0.2  # share of the readouts that are wanted out of reach
_FEWEST = 8  # readouts from which signs and whole numbers show it
_WHOLE_STATE = 0.5  # share of the screen's readouts; fewer may be markers that are all to rise
_ONE_SIDED = 0.95  # share of readouts of one sign in a measured effect
_SMALL_WHOLE = 2.0  # codes such as 0 and 1 are no counts


def beyond_reach(aligned: AlignedProfile, screen: Screen) -> Float[Tensor, "m"]:
    """Say how far each readout is wanted, in largest measured effects."""
    parts = screen.effects.split(_ROWS)
    largest = torch.stack([rows[:, aligned.columns].abs().amax(0) for rows in parts]).amax(0)
    wanted = aligned.values.abs()
    return torch.where(wanted > 0, wanted / largest, torch.zeros_like(wanted))


def scale_misfit(target: Target, aligned: AlignedProfile, screen: Screen) -> tuple[str, ...]:
    """List what speaks against a target being a change against the control in the unit of the screen.

    Densities compare candidates only; of a target in another unit they make one candidate certain all the same,
    as squares of large numbers differ by large numbers.
    """
    if not isinstance(target, ProfileTarget):
        return ()
    values, weights = aligned.values, aligned.weights
    share = weights / weights.sum()
    parts = screen.effects.split(_ROWS)
    sizes = torch.cat([rows[:, aligned.columns].square() @ share for rows in parts]).sqrt()
    size = float((values.square() @ share).sqrt())
    found = []
    if size > REACH * float(sizes.max()):
        found.append(f"its size is {size:.3g}, that of the largest measured effect {float(sizes.max()):.3g}")
    if size < _WEAK * float(sizes.min()):
        found.append(f"its size is {size:.3g}, that of the weakest measured effect {float(sizes.min()):.3g}")
    far = float((beyond_reach(aligned, screen) > REACH).double().mean())
    if far >= _MANY:
        found.append(f"{100 * far:.0f} % of its readouts are wanted beyond twice the largest measured effect")
    if len(values) >= _FEWEST:
        measured = screen.effects[:, aligned.columns]
        found += _signs(values, measured, whole=len(values) >= _WHOLE_STATE * len(screen.readouts))
    return tuple(found)


def _signs(values: Float[Tensor, "m"], measured: Float[Tensor, "n m"], *, whole: bool) -> list[str]:
    """Recognise ratios and counts: neither is ever negative, and counts are whole numbers."""
    if bool((values < 0).any()):
        return []
    counts = bool((values == values.round()).all()) and not bool((measured == measured.round()).all())
    if counts and float(values.max()) > _SMALL_WHOLE:
        return [
            "all its values are whole numbers and none is negative, as counts are; measured effects are neither"
        ]
    positive = (measured > 0).double().mean(1)
    if whole and bool((values > 0).all()) and float(positive.max()) < _ONE_SIDED:
        return [
            "all its values are positive, as ratios (fold changes) are; of the measured effects the most one-sided"
            f" has {100 * float(positive.max()):.0f} % positive ones: take the logarithm"
        ]
    return []
