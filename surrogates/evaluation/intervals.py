"""Measured numbers as rows, and how sure an average is, also over combinations that share genes.

``A+B`` and ``A+C`` are not two independent observations: what is peculiar to A is in both. Here the genes (nodes,
of which doubles are the edges) are the sample: a standard error of means in closed form, and a bootstrap of any
statistic. A row may act on any number of genes; with one gene per row, each in one row, both are the usual ones
for independent rows.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.whole_file import write_whole

# From the row numbers of each draw, as many as the draw has, to the value of the statistic for it.
RowStatistic = Callable[[Int[Tensor, "m d"]], Float[Tensor, "m"]]
_TAIL = 0.025  # of either side of 95 % intervals
_DRAWN_AT_ONCE = 2**22  # weights or row numbers, 32 MiB


def ratio_of_sums(numerator: Float[Tensor, "n"], denominator: Float[Tensor, "n"]) -> RowStatistic:
    """Divide sums over the same drawn rows."""
    return lambda rows: numerator[rows].sum(1) / denominator[rows].sum(1)


def median(values: Float[Tensor, "n"]) -> RowStatistic:
    """Take the median over the drawn rows that have a value."""
    return lambda rows: values[rows].nanquantile(0.5, dim=1)


def mean(values: Float[Tensor, "n"]) -> RowStatistic:
    """Take the mean over the drawn rows that have a value."""
    return lambda rows: values[rows].nanmean(1)


def bootstrap_interval(statistic: RowStatistic, n: int, *, seed: int, n_boot: int = 2000) -> tuple[float, float]:
    """Bound a statistic of perturbations by the percentile bootstrap.

    Perturbations are the unit that is resampled. A statistic that looks models and reference up by the same row
    numbers is resampled in pairs. Undefined draws are left out.

    Example:
        >>> errors = torch.tensor([1.0, 2.0, 4.0])
        >>> low, high = bootstrap_interval(lambda rows: errors[rows].mean(1), 3, seed=0)
    """
    generator = torch.Generator().manual_seed(seed)
    at_once = max(1, _DRAWN_AT_ONCE // n)
    sizes = [min(at_once, n_boot - start) for start in range(0, n_boot, at_once)]
    values = torch.cat([statistic(torch.randint(n, (size, n), generator=generator)) for size in sizes])
    return float(values.nanquantile(_TAIL)), float(values.nanquantile(1 - _TAIL))


def target_nodes(batch: PerturbationBatch, vocabulary: Vocabulary) -> Int[Tensor, "b k"]:
    """Number what each perturbation acts on: the same gene at two doses, or in two modes, is one node."""
    known = {target: number for number, target in enumerate(dict.fromkeys(vocabulary.targets))}
    of_entry = torch.tensor([known[target] for target in vocabulary.targets])
    return torch.where(batch.present, of_entry[batch.genes.clamp(min=0)], -1)


@dataclass(frozen=True)
class NodeBootstrap:
    """Draws of genes, made once for all statistics of the same rows, so that they can be compared.

    Genes are drawn with replacement, as many as there are, and a row counts as often as the product of its genes'
    multiplicities (the pigeonhole bootstrap: Owen 2007; for doubles Davezies, D'Haultfœuille and Guyonvarch 2021).
    Such draws have the right spread for what genes have in common, but hold a row's own noise ``2**k - 1`` times
    for a row of k genes: for doubles of independent noise they are 1.7 times too wide. The surplus is measured by
    a second bootstrap, of rows, in which a row counts ``2**k - 1`` times with probability ``1 / (2**k - 1)``, and
    the draws are pulled towards the estimate until the surplus has left their variance: what remains of the
    variance of a mean is that of :func:`dyadic_standard_error`. It stays at or above half the surplus, which for
    doubles is the variance of independent rows.
    """

    shared: tuple[Int[Tensor, "_ _"], ...]  # row numbers of each draw of genes; draws of equal length together
    alone: tuple[Int[Tensor, "_ _"], ...]  # of the bootstrap of the surplus; empty without rows of two genes
    n: int  # number of rows

    @classmethod
    def of(cls, nodes: Int[Tensor, "n k"], *, seed: int, n_boot: int = 2000) -> "NodeBootstrap":
        """Draw genes."""
        generator = torch.Generator().manual_seed(seed)
        names, number = nodes.unique(return_inverse=True)
        genes = int((names >= 0).sum())
        padding = len(names) - genes  # 1 where -1 is among them, which then has number 0
        most = 2 ** (nodes >= 0).sum(1) - 1  # how often a row counts its own noise
        shared: list[Int[Tensor, "m n"]] = []
        alone: list[Int[Tensor, "m n"]] = []
        for size in _portions(n_boot, nodes.numel()):
            drawn = torch.randint(genes, (size, genes), generator=generator)
            times = torch.ones(size, padding + genes, dtype=torch.long)
            times[:, padding:] = torch.zeros(size, genes, dtype=torch.long).scatter_add(
                1, drawn, torch.ones_like(drawn)
            )
            shared.append(times[:, number].prod(2))
            if int(most.max()) > 1:
                alone.append(most * (torch.rand(size, len(nodes), generator=generator) * most < 1))
        return cls(_as_rows(shared), _as_rows(alone), len(nodes))

    def interval(self, statistic: RowStatistic | Float[Tensor, "n"]) -> tuple[float, float]:
        """Bound a statistic by the percentiles of its draws, without the surplus of the rows' own noise."""
        of = _mean(statistic) if isinstance(statistic, Tensor) else statistic
        estimate = float(of(torch.arange(self.n)[None])[0])
        values = _defined(of, self.shared)
        if not len(values) or math.isnan(estimate):
            return math.nan, math.nan
        spread = float(values.var(correction=0))
        surplus = _defined(of, self.alone)
        excess = float(surplus.var(correction=0)) if len(surplus) else 0.0
        kept = min(1.0, max(spread - excess, excess / 2) / spread) if 0 < spread < math.inf else 1.0
        bounds = values.quantile(torch.tensor([_TAIL, 1 - _TAIL], dtype=values.dtype))
        low, high = (estimate + kept**0.5 * (bounds - estimate)).tolist()
        return low, high


def node_bootstrap_interval(
    statistic: RowStatistic | Float[Tensor, "n"], nodes: Int[Tensor, "n k"], *, seed: int
) -> tuple[float, float]:
    """Bound a statistic of combinations by drawing their genes: :class:`NodeBootstrap`, used once.

    Example:
        >>> values = torch.tensor([1.0, 2.0, 4.0])
        >>> low, high = node_bootstrap_interval(values, torch.tensor([[0, 1], [0, 2], [3, 4]]), seed=0)
    """
    return NodeBootstrap.of(nodes, seed=seed).interval(statistic)


def _mean(values: Float[Tensor, "n"]) -> RowStatistic:
    return lambda rows: values[rows].double().nanmean(1)


def _portions(n_boot: int, numbers: int) -> Iterator[int]:
    at_once = max(1, _DRAWN_AT_ONCE // max(1, numbers))
    for start in range(0, n_boot, at_once):
        yield min(at_once, n_boot - start)


def _as_rows(times: list[Int[Tensor, "m n"]]) -> tuple[Int[Tensor, "_ _"], ...]:
    """Write each row's number as often as it counts; draws in which nothing counts have no statistic."""
    by_length: dict[int, list[Int[Tensor, "_ _"]]] = {}
    for part in times:
        lengths = part.sum(1)
        for length in lengths[lengths > 0].unique().tolist():
            drawn = part[lengths == length]
            rows = torch.arange(drawn.shape[1]).repeat(len(drawn)).repeat_interleave(drawn.flatten())
            by_length.setdefault(length, []).append(rows.reshape(len(drawn), length))
    return tuple(torch.cat(parts) for parts in by_length.values())


def _defined(statistic: RowStatistic, draws: tuple[Int[Tensor, "_ _"], ...]) -> Float[Tensor, "m"]:
    values = torch.cat([statistic(rows).double() for rows in draws]) if draws else torch.empty(0).double()
    return values[~values.isnan()]


@dataclass(frozen=True)
class Row:
    """A number that a benchmark measured."""

    benchmark: str  # which protocol, for example ``"forward"``
    dataset: str  # on which data
    model: str  # of which model
    novelty: str  # on which novelty class
    variant: str  # of the protocol, for example which readouts
    metric: str  # what was measured
    value: float  # how much; ``nan`` where it is undefined
    low: float  # lower bound of its interval
    high: float  # upper bound of its interval
    n: int  # number of held-out perturbations behind it
    unit: str  # of value and bounds
    standard_error: float = math.nan  # of the value, which allows for shared genes

    def to_dict(self) -> dict[str, str | int | float | None]:
        """Spell the row out for strict JSON."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }


def write_json(rows: Sequence[Row], path: Path, *, manifest: Mapping[str, object] | None = None) -> None:
    """Write rows as JSON, ``{"manifest": {...}, "rows": [{...}, ...]}``.

    A reader sees the old file or the new one, never a part.
    """
    content = {"manifest": dict(manifest or {}), "rows": [row.to_dict() for row in rows]}
    text = json.dumps(content, indent=1, allow_nan=False)
    write_whole(path, lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))
