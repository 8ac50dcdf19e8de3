"""What an exact search over all pairs costs with networks: by the scan, and streamed."""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from inverse_design.search.exhaustive import search, search_span
from inverse_design.search.topk import SearchResult
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.perturbation import Intervention
from surrogates.data.vocabulary import Vocabulary
from surrogates.evaluation.intervals import Row
from surrogates.evaluation.scorecard import STATUS, resident_mb
from surrogates.models.base import LatentNetwork
from surrogates.models.latent_sum import FittedLatentSum
from surrogates.models.wrappers.calibrated import FittedCalibrated, HeldOutError
from surrogates.models.wrappers.ensemble import FittedEnsemble
from surrogates.uncertainty.error_model import ErrorLaw, FactorCovariance

_LATENT, _RANK = 16, 10  # directions in which genes differ, and of the errors
_LARGE = 10_000  # genes to which seconds are extrapolated
_STREAMED = 20_000  # pairs that are streamed


@dataclass(frozen=True)
class DecodedCase:
    """Networks with an error law, a target, and the pairs to choose from."""

    objective: TargetLikelihood
    fitted: FittedCalibrated
    space: CombinationSpace
    k: int

    def scan(self) -> SearchResult:
        """Search all pairs by the scan."""
        return search(self.objective, self.fitted, self.space, self.k)

    def streamed(self) -> SearchResult:
        """Predict every effect of the first pairs."""
        span = (0, min(_STREAMED, self.space.size))
        return search_span(self.objective, self.fitted, self.space, self.k, span=span, score=None)


def decoded_rows(
    *,
    genes: int = 2000,
    members: int = 1,
    hidden: int = 64,
    readouts: int = 1000,
    k: int = 100,
    repeats: int = 3,
    seed: int = 0,
) -> list[Row]:
    """Time the scan of networks, and the stream of all their predictions.

    The networks are drawn, not trained; the error law has ten factors, and the target is what the networks make of
    one pair, plus noise. What is streamed is a part of the pairs, and its seconds are in proportion. Memory is the
    peak resident size of one scan in a fresh process, above that before.
    """
    case = decoded_case((genes, members, hidden, readouts), k=k, seed=seed)
    case.scan()
    turns = [_turn(case) for _ in range(repeats)]
    pairs = case.space.size
    row = partial(_row, f"{genes} genes, {members} networks {hidden}-{readouts}")
    here, large = f"of {pairs} pairs", f"extrapolated to {_LARGE * (_LARGE - 1) // 2} pairs"
    factor = _LARGE * (_LARGE - 1) / 2 / pairs
    rows = [row(here, name, "seconds", [each[name] for each in turns], unit="s") for name in turns[0]]
    rows += [
        row(here, "streamed", "ratio_to_scan", [each["streamed"] / each["scan"] for each in turns], unit="1"),
        row(large, "scan", "seconds", [factor * each["scan"] for each in turns], unit="s"),
    ]
    if STATUS.exists():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            sizes = (genes, members, hidden, readouts)
            peak = fresh.submit(_peak, sizes, k, seed, torch.get_num_threads()).result()
        rows.append(row(here, "scan", "peak_mb", [peak], unit="MB"))
    return rows


def _turn(case: DecodedCase) -> dict[str, float]:
    part = case.space.size / min(_STREAMED, case.space.size)
    return {"scan": _seconds(case.scan), "streamed": part * _seconds(case.streamed)}


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _row(dataset: str, variant: str, model: str, metric: str, values: Sequence[float], *, unit: str) -> Row:
    return Row(
        benchmark="decoded",
        dataset=dataset,
        model=model,
        novelty="",
        variant=variant,
        metric=metric,
        value=statistics.median(values),
        low=min(values),
        high=max(values),
        n=len(values),
        unit=unit,
    )


def decoded_case(sizes: tuple[int, int, int, int], *, k: int, seed: int) -> DecodedCase:
    """Draw networks: genes, members, units of the hidden layer, readouts."""
    genes, members, hidden, readouts = sizes
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, size: float = 1.0) -> Float[Tensor, "..."]:
        return size * torch.randn(*shape, generator=generator, dtype=torch.float64)

    vocabulary = Vocabulary(tuple(Intervention(f"G{number:05d}") for number in range(genes)))
    names, alone = tuple(f"R{number}" for number in range(readouts)), torch.ones(genes, dtype=torch.bool)
    rows = normal(genes, _LATENT)
    networks = []
    for _ in range(members):
        weights = (normal(hidden, _LATENT, size=_LATENT**-0.5), normal(readouts, hidden, size=hidden**-0.5))
        network = LatentNetwork(rows @ weights[0].T, (normal(hidden, size=0.5),), (), weights[1])
        nothing = rows.new_zeros(1, 1).expand(genes, readouts)
        networks.append(
            FittedLatentSum(vocabulary, names, alone, nothing, (network,), torch.ones(readouts).double())
        )
    base = networks[0] if members == 1 else FittedEnsemble(tuple(networks), alone)
    covariance = FactorCovariance(torch.ones(readouts).double(), normal(readouts, _RANK, size=0.3))
    law = ErrorLaw(torch.zeros(readouts).double(), covariance, 0.0, 50.0, 0.1, 100, "double-2")
    singles = base.predict(vocabulary.dosed(torch.arange(genes)[:, None])).mean
    fitted = FittedCalibrated(base, {SEEN_DOUBLE: law}, singles, None, HeldOutError(1.0, 1.0, 1), "networks")
    made = base.predict(vocabulary.dosed(torch.tensor([[0, genes // 2]]))).mean[0]
    zero, one = torch.zeros(readouts).double(), torch.ones(readouts).double()
    target = AlignedProfile(torch.arange(readouts), made + normal(readouts, size=0.3), zero, one)
    space = CombinationSpace.of(vocabulary, orders=(2,))
    return DecodedCase(TargetLikelihood(target, torch.zeros(genes).double()), fitted, space, k)


def _peak(sizes: tuple[int, int, int, int], k: int, seed: int, threads: int) -> float:
    """Peak resident size during one scan above that before, in MB; runs in a process of its own."""
    torch.set_num_threads(threads)
    decoded_case((64, *sizes[1:]), k=k, seed=seed).scan()  # libraries load and start their threads
    case = decoded_case(sizes, k=k, seed=seed)
    before = resident_mb("VmRSS")
    case.scan()
    return resident_mb("VmHWM") - before
