"""Shifts travel along a known network of transcription factors [CellOracle: Kamimoto 2023, Nature 614:742]."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.contrib.regulation.network import Regulations, regulations_among
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.entries import FittedDescribed, Learnt, MeasuredEntries, Trial

_GENES = 256  # that are regressed together at most
_NUMBERS = 2**24  # in their regulators' effects, 128 MiB
_NONE = -1


@dataclass(frozen=True)
class CellOracle:
    """Ridge of each gene on its known regulators, bagged; a shift of one gene is passed on for three rounds.

    ``Delta <- Delta A`` with the perturbed gene held at its value, as in CellOracle. The network says which
    entries of ``A`` may differ from zero, and the data how large they are.

    What differs: ``A`` is learnt from the effects of perturbations (less their mean), not from cells; a gene is
    left out of its own regression where it is perturbed. A perturbed gene moves as far as perturbed genes do on
    average, not to zero. What is passed on is added to the mean effect, times the trust that held-out targets give
    it (:mod:`surrogates.models.entries`). Entries that were measured keep their measured effects.
    """

    # Which gene regulates which, as pairs; ``None`` for CollecTRI between the readouts of the screen.
    network: Regulations | None = None
    rounds: int = 3  # how often shifts are passed on; three as published
    bags: int = 20  # how many bootstrap samples of the perturbations are averaged; 20 as published
    # Of the ridge, in units of a regulator's mean square; 10 is the default of the published software.
    penalty: float = 10.0

    def __post_init__(self) -> None:
        """Refuse numbers that pass nothing on."""
        if min(self.rounds, self.bags) < 1 or not self.penalty > 0:
            raise DataError(
                f"rounds {self.rounds}, bags {self.bags} and penalty {self.penalty!r} must be positive"
            )

    def fit(self, screen: Screen, *, seed: int) -> FittedDescribed:
        """Learn the strength of each regulation, and how far to trust what is passed on."""
        entries = MeasuredEntries.of(screen)
        learner = Propagation.of(self, entries, seed=seed)
        _, departures = entries.departures(entries.train)
        if len(entries.train) == len(entries.own):  # nothing is left to predict
            nothing = Learnt.nothing(len(entries.own), departures)
            return entries.complete(nothing, Trial(0.0, 1.0, 1.0), learner.described)
        trial = entries.trial(learner, learner.described, seed=seed)
        return entries.complete(learner(entries.train, departures), trial, learner.described)


@dataclass(frozen=True)
class Propagation:
    """Learns a network's strengths from some entries, and passes the shifts of all others on."""

    oracle: CellOracle
    entries: MeasuredEntries
    regulators: Int[Tensor, "g p"]  # columns of each readout's regulators, padded with ``-1``
    seed: int

    @classmethod
    def of(cls, oracle: CellOracle, entries: MeasuredEntries, *, seed: int) -> "Propagation":
        """Look the regulators of each readout up."""
        readouts = entries.additive.readouts
        network = regulations_among(readouts) if oracle.network is None else oracle.network
        column = {name: number for number, name in enumerate(readouts)}
        parents: list[list[int]] = [[] for _ in readouts]
        for source, target in network:
            if source != target and source in column and target in column:
                parents[column[target]].append(column[source])
        width = max(map(len, parents), default=0)
        padded = [sorted(each) + [_NONE] * (width - len(each)) for each in parents]
        return cls(oracle, entries, torch.tensor(padded, dtype=torch.int64).reshape(len(readouts), width), seed)

    @property
    def described(self) -> Bool[Tensor, "v"]:
        """Whether each entry acts on a readout that regulates another."""
        found: Bool[Tensor, v] = torch.isin(self.entries.own, self.nodes)
        return found

    def __call__(self, train: Int[Tensor, "m"], departures: Float[Tensor, "m g"]) -> Learnt:
        """Pass the mean shift of perturbed genes on, from each entry that regulates something."""
        effects = self.entries.additive.table[train]
        prior, mean = self.entries.departures(train)[0], effects.mean(0)
        passed = departures.new_zeros(prior.shape)
        acting = torch.nonzero(self.described).flatten()
        own = self.entries.own[acting]
        edges = self.edges(effects - mean, self.entries.own[train])
        passed[acting] = self.passed_on(edges, own, (prior - mean)[acting, own])
        return Learnt(passed, passed.new_ones(len(passed)))

    @property
    def nodes(self) -> Int[Tensor, "q"]:
        """The readouts that regulate others."""
        found: Int[Tensor, q] = self.regulators.unique()
        return found[found != _NONE]

    def edges(self, effects: Float[Tensor, "m g"], own: Int[Tensor, "m"]) -> Float[Tensor, "q g"]:
        """Average the ridge regressions of bootstrap samples; a gene's own perturbations say nothing of it."""
        rows, size = effects.shape
        penalty = self.oracle.penalty * effects.square().mean().clamp(min=torch.finfo(effects.dtype).tiny)
        generator = torch.Generator().manual_seed(self.seed)
        counts = torch.stack([
            torch.bincount(torch.randint(rows, (rows,), generator=generator), minlength=rows)
            for _ in range(self.oracle.bags)
        ]).to(effects.dtype)  # fmt: skip
        hit = own[:, None] == torch.arange(size)
        nodes = self.nodes
        edges = effects.new_zeros(len(nodes), size)
        together = min(_GENES, max(1, _NUMBERS // max(1, rows * self.regulators.shape[1])))
        for genes in torch.nonzero((self.regulators != _NONE).any(1)).flatten().split(together):
            parents = self.regulators[genes]
            x = torch.where((parents != _NONE)[:, None], effects[:, parents.clamp(min=0)].transpose(0, 1), 0.0)
            unit = penalty * torch.eye(parents.shape[1], dtype=effects.dtype)
            found = effects.new_zeros(parents.shape)
            for count in counts:
                weighted = torch.where(hit[:, genes], 0.0, count[:, None]).T[:, :, None] * x
                moments = weighted.transpose(1, 2) @ effects[:, genes].T[:, :, None]
                found += torch.linalg.solve(weighted.transpose(1, 2) @ x + unit, moments)[:, :, 0]
            at = parents != _NONE
            edges[torch.searchsorted(nodes, parents[at]), genes[:, None].expand_as(parents)[at]] = found[at] / len(
                counts
            )
        return edges

    def passed_on(
        self, edges: Float[Tensor, "q g"], own: Int[Tensor, "e"], shift: Float[Tensor, "e"]
    ) -> Float[Tensor, "e g"]:
        """Pass shifts of single genes on to all others, with the shifted gene held where it is."""
        rows = torch.arange(len(own))
        state = edges.new_zeros(len(own), edges.shape[1])
        state[rows, own] = shift
        for _ in range(self.oracle.rounds):
            state = state[:, self.nodes] @ edges
            state[rows, own] = shift
        state[rows, own] = 0.0
        return state
