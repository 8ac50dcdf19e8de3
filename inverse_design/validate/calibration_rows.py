"""The numbers of a calibration card, with intervals, and where coverage is not what was promised."""

import math
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.search.inverse_set import UNEXPLAINED
from inverse_design.validate.calibration import ClassCard
from inverse_design.validate.coverage import GROUPS, percent
from inverse_design.validate.judged import Judged, calibration_errors, calibration_noise
from surrogates.evaluation.intervals import NodeBootstrap, Row, RowStatistic, median, ratio_of_sums
from surrogates.evaluation.metrics import expected_coverage, pit_decile, pit_deviation, spread_error_correlation
from surrogates.uncertainty.conformal.quantiles import coverage_band, least_count
from surrogates.uncertainty.dyadic import dyadic_standard_error

MAIN_LEVEL = 0.9
TERCILES = ("easiest", "middle", "hardest")
_UNKNOWN = (math.nan, math.nan)
_ROUNDING = 1e-9
# What is bounded, by the metric of its coverage: "intervals of ... cover ...".
_PROMISES = {
    "coverage_{}_all": "intervals of single readouts",
    "coverage_{}_responding": "intervals of responding readouts",
    "coverage_{}_own": "intervals of the targets' own readouts",
    "band_coverage_{}": "bands of all readouts",
    "distance_coverage_{}": "intervals of the distance to a target",
    "first_coverage_{}": "intervals of the distance of first rows",
    "set_coverage_{}": "sets of candidates",
}

# Metric, unit, numbers whose mean is taken or a statistic of rows, and of which perturbations.
_Measure = tuple[str, str, Float[Tensor, "_"] | RowStatistic, Bool[Tensor, "_"]]


def calibration_rows(cards: Sequence[ClassCard], *, dataset: str, model: str, seed: int) -> list[Row]:
    """Sum the cards up."""
    rows = []
    for card in cards:
        row = partial(Row, "calibration", dataset, model, card.novelty, card.variant)
        for level, behind in card.behind.items():
            enough = behind.count >= least_count(level)
            bounds = coverage_band(behind.count, level) if enough else _UNKNOWN
            rows.append(row(f"calibration_{percent(level)}", level, *bounds, behind.count, "share"))
        draws = _Draws(card.nodes, seed)
        for metric, unit, statistic, chosen in _measures(card):
            value, bounds, error = draws.summed(statistic, chosen)
            rows.append(row(metric, value, *bounds, int(chosen.sum()), unit, standard_error=error))
        if (kept := card.promise) is not None:
            rows.append(row("log_probability_promised", kept.promised, *_UNKNOWN, kept.n, "nats"))
        stated = card.judged.column("probability")
        if not bool(stated.isnan().any()):
            noise = calibration_noise(stated, seed=seed)
            rows.append(row("ece_by_chance", noise, *_UNKNOWN, len(stated), "share"))
    return rows


def main_level(levels: Sequence[float]) -> float:
    """Choose the level that is spoken of."""
    return MAIN_LEVEL if MAIN_LEVEL in levels else max(levels)


def coverage_remarks(cards: Sequence[ClassCard], rows: Sequence[Row], level: float) -> tuple[list[str], list[str]]:
    """Say where coverage is not what so few perturbations explain."""
    values = {(row.variant, row.novelty, row.metric): row for row in rows}
    warnings, remarks = [], []
    for card in cards:
        if level not in card.behind or card.behind[level].count < least_count(level):
            continue
        for metric, what in _PROMISES.items():
            row = values.get((card.variant, card.novelty, metric.format(percent(level))))
            if row is None:
                continue
            low, high = expected_coverage(card.behind[level].count, row.n, level)
            where = f"{card.novelty}, {card.variant.replace('_', ' ')}"
            said = (
                f"{percent(level)} % {what} hold {row.value:.3f} ({where}); {card.behind[level].count} calibrating"
                f" and {row.n} held-out perturbations explain {low:.2f} to {high:.2f}"
            )
            if row.value < low:
                warnings.append(f"warning: {said}")
            elif row.value > high and not metric.startswith("set"):
                remarks.append(f"wider than need be: {said}")
            elif row.high < level - _ROUNDING:
                remarks.append(f"below the level: {said}")
    return warnings, remarks


class _Draws:
    """Draws of genes, made once for all statistics of the same perturbations."""

    def __init__(self, nodes: Int[Tensor, "n k"], seed: int) -> None:
        self._nodes, self._seed = nodes, seed
        self._made: dict[tuple[bool, ...], NodeBootstrap] = {}

    def summed(
        self, statistic: Float[Tensor, "m"] | RowStatistic, chosen: Bool[Tensor, "n"]
    ) -> tuple[float, tuple[float, float], float]:
        """Take a statistic of some perturbations with its bounds and, of a mean, its standard error."""
        nodes = self._nodes[chosen]
        if isinstance(statistic, Tensor):
            value, error = float(statistic.mean()), dyadic_standard_error(statistic, nodes)
        else:
            value, error = float(statistic(torch.arange(len(nodes))[None])[0]), math.nan
        if math.isnan(value):
            return value, _UNKNOWN, error
        key = tuple(chosen.tolist())
        if key not in self._made:
            self._made[key] = NodeBootstrap.of(nodes, seed=self._seed)
        return value, self._made[key].interval(statistic), error


def _measures(card: ClassCard) -> Iterator[_Measure]:
    judged = card.judged
    for said in map(percent, _levels(judged)):
        for kind in ("", "posterior_"):
            for group in GROUPS:
                yield from _mean(judged, f"{kind}coverage_{said}_{group}", "share")
                yield from _mean(judged, f"{kind}width_{said}_{group}", "effect")
        yield from _of_terciles(judged, said)
        yield from _mean(judged, f"band_coverage_{said}", "share")
        yield from _ratio(judged, f"band_to_readouts_{said}", f"band_width_{said}", f"width_{said}_all")
        yield from _mean(judged, f"distance_coverage_{said}", "share")
        yield from _mean(judged, f"distance_width_{said}", "effect")
        yield from _ratio(judged, f"distance_to_band_{said}", f"distance_width_{said}", f"implied_width_{said}")
        for kind in ("", "likely_", "unlikely_"):
            yield from _mean(judged, f"first_{kind}coverage_{said}", "share")
        yield from _mean(judged, f"first_width_{said}", "effect")
        yield from _mean(judged, f"set_coverage_{said}", "share")
        sizes, chosen = _defined(judged, f"set_size_{said}")
        if len(sizes):
            yield f"set_size_median_{said}", "candidates", median(sizes), chosen
            yield f"set_size_mean_{said}", "candidates", sizes, chosen
    yield from _of_targets(judged)
    yield from _of_posterior(judged)


def _of_terciles(judged: Judged, said: str) -> Iterator[_Measure]:
    """Coverage and width of the third of perturbations that is said to be easiest, the middle and the hardest."""
    thirds = judged.column("spread").argsort(stable=True).tensor_split(len(TERCILES))
    for metric, unit in ((f"coverage_{said}", "share"), (f"width_{said}", "effect")):
        if f"{metric}_all" not in judged.columns:
            continue
        values = judged.column(f"{metric}_all")
        for third, rows in zip(TERCILES, thirds, strict=True):
            chosen = torch.zeros(len(judged), dtype=torch.bool)
            chosen[rows] = True
            chosen &= ~values.isnan()
            if bool(chosen.any()):
                yield f"{metric}_{third}", unit, values[chosen], chosen


def _of_targets(judged: Judged) -> Iterator[_Measure]:
    for kind in ("", "_permuted", "_negated"):
        p_value, chosen = _defined(judged, f"reachable{kind}")
        if len(p_value):
            yield f"unreachable{kind}", "share", (p_value <= UNEXPLAINED).double(), chosen
    stated, hit = judged.column("probability"), judged.column("hit") > 0
    if not bool(stated.isnan().any()):
        yield "ece", "share", lambda rows: calibration_errors(stated[rows], hit[rows]), _every(judged)
    yield from _mean(judged, "log_probability", "nats")
    gap = judged.column("log_probability") - judged.column("promised")
    if bool((~gap.isnan()).any()):
        yield "promise_gap", "nats", gap[~gap.isnan()], ~gap.isnan()


def _of_posterior(judged: Judged) -> Iterator[_Measure]:
    every, pit = _every(judged), judged.column("pit")
    yield "sharpness", "effect", judged.column("sharpness"), every
    spread = spread_error_correlation(judged.column("spread"), judged.column("error"))
    yield "spread_error", "correlation", spread, every
    yield "pit_deviation", "probability", pit_deviation(pit), every
    for number in range(10):
        yield f"pit_decile_{number + 1}", "share", pit_decile(pit, number), every


def _levels(judged: Judged) -> list[float]:
    prefix, suffix = "posterior_coverage_", "_all"
    names = [name for name in judged.columns if name.startswith(prefix) and name.endswith(suffix)]
    return [float(name.removeprefix(prefix).removesuffix(suffix)) / 100 for name in names]


def _mean(judged: Judged, name: str, unit: str) -> Iterator[_Measure]:
    values, chosen = _defined(judged, name)
    if len(values):
        yield name, unit, values, chosen


def _ratio(judged: Judged, metric: str, numerator: str, denominator: str) -> Iterator[_Measure]:
    one, other = judged.column(numerator), judged.column(denominator)
    both = ~(one.isnan() | other.isnan())
    if bool(both.any()):
        yield metric, "ratio", ratio_of_sums(one[both], other[both]), both


def _defined(judged: Judged, name: str) -> tuple[Float[Tensor, "m"], Bool[Tensor, "n"]]:
    values = judged.column(name)
    chosen = ~values.isnan()
    return values[chosen], chosen


def _every(judged: Judged) -> Bool[Tensor, "n"]:
    return torch.ones(len(judged), dtype=torch.bool)
