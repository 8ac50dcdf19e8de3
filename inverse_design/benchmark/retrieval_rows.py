"""The numbers of the protocol ``retrieval``: means over targets, paired gains, and promises kept."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.benchmark.promise import Kept, compare
from inverse_design.benchmark.reliability import calibration_errors
from inverse_design.benchmark.retrieval import Retrieval, RetrievalReport
from inverse_design.benchmark.retrieval_methods import reads_own
from inverse_design.benchmark.variants import variants_of
from surrogates.data.novelty import SEEN_DOUBLE, novelty_name
from surrogates.data.screen import Screen
from surrogates.evaluation.metrics import median
from surrogates.evaluation.node_intervals import NodeBootstrap, dyadic_standard_error, target_nodes
from surrogates.evaluation.rows import Row

_TOP = 10


def retrieval_rows(report: RetrievalReport, screen: Screen, *, dataset: str, seed: int) -> list[Row]:
    """Sum up what was found, for every variant and method.

    Args:
        report: Of :func:`inverse_design.benchmark.retrieval.measure_retrieval`; the first method is the yardstick
            of paired gains.
        screen: What was measured.
        dataset: Its name.
        seed: Fixes the bootstrap.

    Returns:
        ``top1``, ``top1_gain``, ``top10``, ``mrr``, ``mrr_gain`` and ``median_rank``; of methods that state
        probabilities ``log_probability`` of the truth, ``log_probability_gain``, ``ece``, and where the fits
        promised something ``log_probability_promised`` and ``promise_gap`` (kept minus promised);
        ``top1_both_own``, which is ``top1`` over the targets of which both genes are readouts, if there are such.
        Gains are paired, over the first method. Bounds are 95 % by a bootstrap of genes, and every mean has its
        dyadic standard error.
    """
    nodes = target_nodes(screen.batch.rows(report.conditions), screen.vocabulary)
    draws = NodeBootstrap.of(nodes, seed=seed)
    rows = []
    for variant, found in report.found.items():
        own = reads_own(variants_of(screen)[variant])[screen.batch.genes[report.conditions][:, :2]] != 0
        both = own.all(1)
        first = next(iter(found.values()))
        for name, each in found.items():
            row = partial(Row, "retrieval", dataset, name, novelty_name(SEEN_DOUBLE), variant)
            summed = _Summed(draws, nodes, row)
            rows += [*summed.means(_columns(each, None if each is first else first)), *summed.others(each)]
            if bool(both.any()):
                some = _Summed(NodeBootstrap.of(nodes[both], seed=seed), nodes[both], row)
                rows += some.means({"top1_both_own": (each.hit[both].double(), "share")})
    return rows


def kept_promise(found: Retrieval, nodes: Int[Tensor, "n k"]) -> Kept | None:
    """Set what the fits of a method promised of their targets against what they kept.

    Args:
        found: What the method did with every target.
        nodes: Genes of each target.

    Returns:
        The comparison, ``None`` for a method that promised nothing.
    """
    return None if bool(found.promised.isnan().all()) else compare(found.promised, found.log_probability, nodes)


def _columns(found: Retrieval, first: Retrieval | None) -> dict[str, tuple[Float[Tensor, "n"], str]]:
    """Numbers of each target, of which means are taken, with their units."""
    rank = found.rank.double()
    columns = {
        "top1": (found.hit.double(), "share"),
        "top10": ((rank <= _TOP).double(), "share"),
        "mrr": (1 / rank, "share"),
    }
    if found.has_probabilities:
        columns["log_probability"] = (found.log_probability, "nats")
    if first is not None:
        columns["top1_gain"] = (found.hit.double() - first.hit.double(), "share")
        columns["mrr_gain"] = (1 / rank - 1 / first.rank.double(), "share")
        if found.has_probabilities and first.has_probabilities:
            columns["log_probability_gain"] = (found.log_probability - first.log_probability, "nats")
    return columns


@dataclass(frozen=True)
class _Summed:
    """Statistics over the same targets."""

    draws: NodeBootstrap
    nodes: Int[Tensor, "n k"]
    row: partial[Row]

    def means(self, columns: Mapping[str, tuple[Float[Tensor, "n"], str]]) -> Iterator[Row]:
        """Average numbers of each target."""
        for metric, (values, unit) in columns.items():
            error = dyadic_standard_error(values, self.nodes)
            bounds = self.draws.interval(values)
            yield self.row(metric, float(values.mean()), *bounds, len(values), unit, standard_error=error)

    def others(self, found: Retrieval) -> Iterator[Row]:
        """Take what is no mean over targets, or compares two."""
        n, rank = len(found.rank), found.rank.double()
        yield self.row("median_rank", float(rank.quantile(0.5)), *self.draws.interval(median(rank)), n, "rank")
        if not found.has_probabilities:
            return
        stated, hit = found.top_probability, found.hit
        error = float(calibration_errors(stated[None], hit[None])[0])
        bounds = self.draws.interval(lambda drawn: calibration_errors(stated[drawn], hit[drawn]))
        yield self.row("ece", error, *bounds, n, "share")
        kept = kept_promise(found, self.nodes)
        if kept is not None:
            gap = found.log_probability - found.promised
            bounds = self.draws.interval(gap)
            yield self.row("log_probability_promised", kept.promised, math.nan, math.nan, kept.n, "nats")
            yield self.row(
                "promise_gap", kept.kept - kept.promised, *bounds, kept.n, "nats", standard_error=kept.error
            )
