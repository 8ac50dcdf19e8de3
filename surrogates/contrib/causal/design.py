"""Which nodes of a causal linear model may act on the readouts, and the regression problem that a screen poses."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.screen import Screen
from surrogates.data.simulate import SIGN
from surrogates.data.vocabulary import EMPTY, PerturbationBatch, Vocabulary
from surrogates.errors import DataError, UnknownNameError

VIRTUAL = -1
TargetTable: TypeAlias = tuple[tuple[str, tuple[tuple[str, float], ...]], ...]  # drug, and weights of its targets
ParentTable: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]  # readout, and what may act on it


@dataclass(frozen=True)
class Sources:
    """The nodes that may act on readouts.

    A target that is itself a readout is one; so is a regulator, and a readout that a table of targets names. Any
    other target (a compound, a deleted gene) is a virtual node: nothing acts on it, and its value is its input.
    """

    names: tuple[str, ...]  # of the nodes
    columns: Int[Tensor, "q"]  # the readout that each node is, ``-1`` for a virtual node
    of_entry: Int[Tensor, "v k"]  # the nodes on which each vocabulary entry acts, padded with the first node
    dose: Float[Tensor, "v k"]  # signed input of each entry into each of them, zero where padded
    known: Bool[Tensor, "q"]  # whether the strength of inputs is stated, hence one

    @classmethod
    def of(
        cls,
        screen: Screen,
        *,
        regulators: Sequence[str],
        variable: int,
        targets: TargetTable,
        parents: ParentTable = (),
    ) -> "Sources":
        """Collect the targets of a screen, what they act on, its regulators and stated parents."""
        column = {name: number for number, name in enumerate(screen.readouts)}
        stated = {drug: dict(weights) for drug, weights in targets}
        for what, names in (
            ("regulators", regulators),
            ("targets", [one for each in stated.values() for one in each]),
            ("parents", [one for readout, each in parents for one in (readout, *each)]),
        ):
            for name in names:
                if name not in column:
                    raise UnknownNameError.from_known(f"readout among the {what}", name, column)
        acting = set(regulators) or {screen.readouts[int(at)] for at in _most_variable(screen, variable)}
        acting |= {one for _, each in parents for one in each}
        acted = set(screen.vocabulary.targets) - stated.keys()
        known = {name for weights in stated.values() for name in weights}
        if both := sorted(known & acted):
            raise DataError(
                f"{both[0]!r} is perturbed itself and a stated target of another perturbation; state it for both"
            )
        names = (*sorted(acting | known | (acted & column.keys())), *sorted(acted - column.keys()))
        number = {name: at for at, name in enumerate(names)}
        doses = _signed_doses(screen.vocabulary, acted & column.keys(), stated.keys())
        of_each = [
            [(number[name], weight) for name, weight in stated.get(target, {target: 1.0}).items()]
            for target in screen.vocabulary.targets
        ]
        width = max(map(len, of_each), default=1)
        padded = [[*each, *[(0, 0.0)] * (width - len(each))] for each in of_each]
        return cls(
            names=names,
            columns=torch.tensor([column.get(name, VIRTUAL) for name in names], dtype=torch.int64),
            of_entry=torch.tensor([[node for node, _ in each] for each in padded], dtype=torch.int64),
            dose=doses[:, None]
            * torch.tensor([[weight for _, weight in each] for each in padded], dtype=torch.float64),
            known=torch.tensor([name in known for name in names]),
        )

    @property
    def real(self) -> Bool[Tensor, "q"]:
        """Which nodes are readouts."""
        return self.columns != VIRTUAL

    def allowed(self, parents: ParentTable, readouts: Sequence[str]) -> Bool[Tensor, "q g"] | None:
        """Which edges the stated parents leave; readouts that are not named keep all, and virtual nodes theirs."""
        if not parents:
            return None
        column = {name: number for number, name in enumerate(readouts)}
        left = torch.ones(len(self.names), len(readouts), dtype=torch.bool)
        for readout, acting in parents:
            left[:, column[readout]] = torch.tensor([name in acting for name in self.names]) | ~self.real
        return left

    def inputs(self, batch: PerturbationBatch) -> Float[Tensor, "b q"]:
        """Add up what each perturbation puts into the nodes, for a strength of one."""
        entry = batch.genes.clamp(min=0)
        dose = torch.where((batch.genes == EMPTY)[:, :, None], 0.0, self.dose[entry])
        inputs = torch.zeros(len(batch), len(self.names), dtype=torch.float64)
        return inputs.scatter_add_(1, self.of_entry[entry].flatten(1), dose.flatten(1))


@dataclass(frozen=True)
class Regression:
    """What the edges must explain: ``effects = values @ edges + inputs``, apart from the targets' own readouts."""

    effects: Float[Tensor, "n g"]  # measured effects
    inputs: Float[Tensor, "n q"]  # what each condition puts into each node, for a strength of one
    columns: Int[Tensor, "q"]  # the readout that each node is, ``-1`` for a virtual one
    known: Bool[Tensor, "q"]  # whether the strength of inputs is known to be one
    allowed: Bool[Tensor, "q g"] | None = None  # which edges there may be; ``None`` for all

    @property
    def real(self) -> Bool[Tensor, "q"]:
        """Which nodes are readouts."""
        return self.columns != VIRTUAL

    @property
    def perturbed(self) -> Bool[Tensor, "q"]:
        """Which nodes some condition acts on."""
        return (self.inputs != 0).any(0)

    @property
    def values(self) -> Float[Tensor, "n q"]:
        """Value of each node in each condition: its measured effect, or its input."""
        return torch.where(self.real, self.effects[:, self.columns.clamp(min=0)], self.inputs)

    @property
    def passed_on(self) -> Float[Tensor, "n g"]:
        """Effects without the inputs of known strength: what edges must explain."""
        effects = self.effects.clone()
        effects[:, self.columns[self.known]] -= self.inputs[:, self.known]
        return effects

    @property
    def weights(self) -> Float[Tensor, "n g"]:
        """Zero where a readout was itself acted on, with unknown strength; one elsewhere."""
        hit = torch.zeros_like(self.effects)
        unknown = self.real & ~self.known
        hit[:, self.columns[unknown]] = (self.inputs[:, unknown] != 0).to(hit.dtype)
        return 1 - hit

    def rows(self, index: Tensor) -> "Regression":
        """Take some of the conditions."""
        return replace(self, effects=self.effects[index], inputs=self.inputs[index])

    def with_readouts(self, keep: Int[Tensor, "m"]) -> "Regression":
        """Take some of the readouts, all nodes among them."""
        columns = torch.where(self.real, torch.searchsorted(keep, self.columns), VIRTUAL)
        allowed = None if self.allowed is None else self.allowed[:, keep]
        return replace(self, effects=self.effects[:, keep], columns=columns, allowed=allowed)

    def strengths(self, edges: Float[Tensor, "q g"]) -> Float[Tensor, "q"]:
        """Estimate how strongly an input of one acts on each node.

        That is the part of the own readout that the other nodes do not explain, regressed on the input, so that
        feedback is not counted twice. A strength far from the others says that feedback was misjudged: it is
        brought to three robust standard deviations (median absolute deviation, scaled) from their median.
        """
        at = self.columns.clamp(min=0)
        unexplained = self.effects[:, at] - self.values @ edges[:, at]
        power = self.inputs.square().sum(0)
        strength = (self.inputs * unexplained).sum(0) / power.clamp(min=torch.finfo(power.dtype).tiny)
        estimated = self.perturbed & self.real & ~self.known
        given = ~self.real | self.known
        if not bool(estimated.any()):
            return torch.where(given, 1.0, 0.0).to(strength.dtype)
        centre = strength[estimated].quantile(0.5)
        width = 3 * 1.4826 * (strength[estimated] - centre).abs().quantile(0.5)
        strength = strength.clamp(centre - width, centre + width)
        return torch.where(given, 1.0, torch.where(estimated, strength, strength[estimated].mean()))

    def with_idle_conditions(self, weight: float) -> "Regression":
        """Add, for each node never acted on, a pseudo-condition in which acting on it changes nothing else.

        It is the prior that effects are no larger than ``noise / sqrt(weight)``: without it the edges of a node
        that was never perturbed are bounded by no measurement, and what they predict explodes.
        """
        idle = torch.nonzero(self.real & ~self.perturbed).flatten()
        power = self.strengths(self.effects.new_zeros(len(self.columns), self.effects.shape[1]))
        rows = torch.arange(len(idle))
        effects = self.effects.new_zeros(len(idle), self.effects.shape[1])
        inputs = self.inputs.new_zeros(len(idle), self.inputs.shape[1])
        effects[rows, self.columns[idle]] = weight**0.5 * power[idle]
        inputs[rows, idle] = weight**0.5
        return replace(self, effects=torch.cat([self.effects, effects]), inputs=torch.cat([self.inputs, inputs]))


def _most_variable(screen: Screen, count: int) -> Int[Tensor, "m"]:
    spread = screen.effects.square().mean(0)
    return torch.argsort(spread, descending=True, stable=True)[:count]


def _signed_doses(
    vocabulary: Vocabulary, readouts: Collection[str], stated: Collection[str]
) -> Float[Tensor, "v"]:
    """Signed dose of each entry; the weights of a stated drug have their own sign, whatever its mode."""
    largest: dict[str, float] = {}
    for entry in vocabulary.entries:
        largest[entry.target] = max(entry.dose, largest.get(entry.target, 0.0))
    unit = {target: 1.0 if target in readouts else dose for target, dose in largest.items()}
    signs = [1.0 if entry.target in stated else SIGN[entry.mode] for entry in vocabulary.entries]
    doses = [sign * entry.dose / unit[entry.target] for sign, entry in zip(signs, vocabulary.entries, strict=True)]
    return torch.tensor(doses, dtype=torch.float64)


def targets_from(table: pd.DataFrame) -> TargetTable:
    """Read the direct effects of drugs from a table with the columns ``drug``, ``readout`` and ``weight``."""
    if missing := {"drug", "readout", "weight"} - set(table.columns):
        raise DataError(
            f"a table of targets needs the columns drug, readout and weight; {min(missing)!r} is missing"
        )
    weights = pd.to_numeric(table["weight"], errors="coerce").astype(float)
    wrong = (
        ~np.isfinite(weights.to_numpy())
        | (weights == 0).to_numpy()
        | table[["drug", "readout"]].isna().any(axis=1)
    )
    if wrong.any():
        row = table[wrong].iloc[0]
        raise DataError(
            f"target {row['readout']!r} of {row['drug']!r} has the weight {row['weight']!r}; state a"
            " number other than zero"
        )
    if (twice := table.duplicated(["drug", "readout"])).any():
        row = table[twice].iloc[0]
        raise DataError(f"target {row['readout']!r} of {row['drug']!r} is stated twice; keep one")
    found: dict[str, list[tuple[str, float]]] = {}
    for drug, readout, weight in zip(
        table["drug"].astype(str), table["readout"].astype(str), weights, strict=True
    ):
        found.setdefault(drug, []).append((readout, float(weight)))
    return tuple((drug, tuple(each)) for drug, each in found.items())
