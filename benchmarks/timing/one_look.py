"""What do list, probabilities and set of a target take beside one bare product of entries by readouts?

Additive effects of a synthetic screen under a planted error model; targets are sums of two effects, with noise.
One look gives the 1,000 best of all pairs and the sum over all; the set asks the same of held-out ones, by folds.
Processor time of one thread, in units of the bare single-precision product of that size in the same run.

Run: python -m benchmarks one_look --singles 9800 --readouts 8000 --targets 1 8
"""

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from unittest.mock import patch

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.scale.screens import LargeScreen
from inverse_design.cli.console import output, say
from inverse_design.problem import likelihood as questions
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from inverse_design.search.survey import Survey, surveys
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.screen import Screen
from surrogates.models.base import single_effects
from surrogates.models.baselines import Additive
from surrogates.models.wrappers.calibrated import FittedCalibrated, HeldOutError
from surrogates.uncertainty.error_model import ErrorLaw, FactorCovariance

_BLOCK, _LISTED = 512, 1000
_NOISE = 0.3  # of a target
_FEW = 256  # readouts, beyond which bounds are made


def main() -> None:
    """Print a line for each error model and number of targets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--singles", type=int, default=2000)
    parser.add_argument("--readouts", type=int, default=8000)
    parser.add_argument("--targets", type=int, nargs="+", default=[1, 8], help="how many are asked together")
    parser.add_argument("--scatter", type=float, nargs="+", default=[0.0, 0.02], help="variance of coefficients")
    parser.add_argument("--temperature", type=float, default=0.02)
    parser.add_argument("--whole", action="store_true", help="also without bounds along few directions")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    console = output()
    screen = LargeScreen(asked.singles, asked.readouts).draw()
    rows, began = screen.effects.float(), time.process_time()
    _bare_product(rows)
    bare = time.process_time() - began
    pairs = math.comb(asked.singles, 2)
    say(console, f"{pairs:,} pairs, {asked.readouts:,} readouts; bare product {bare:.1f} CPU s")
    say(console, f"{'scatter':>8}{'targets':>9}{'bounds':>8}{'CPU s':>8}{'products':>10}{'not scored':>12}")
    for scatter in asked.scatter:
        fitted = _fitted(screen, scatter, asked.temperature)
        for count in asked.targets:
            for few in (False, True) if asked.whole else (False,):
                with patch.object(questions, "_FEW", 10**9 if few else _FEW):
                    began = time.process_time()
                    found = _look(screen, fitted, count)
                    seconds = time.process_time() - began
                pruned = min(each.certificate.pruned for each in found) / pairs
                bounds = "no" if few else "yes"
                told = f"{scatter:>8}{count:>9}{bounds:>8}{seconds:>8.1f}{seconds / bare:>10.2f}{pruned:>12.2%}"
                say(console, told)


def _fitted(screen: Screen, scatter: float, temperature: float) -> FittedCalibrated:
    """Fit additive effects, and plant an error model: measured noise, and forty factors."""
    g = len(screen.readouts)
    generator = torch.Generator().manual_seed(1)
    loadings = torch.randn(g, 40, generator=generator, dtype=torch.float64) * 0.2
    variance = torch.full((g,), 3 * _NOISE**2, dtype=torch.float64)
    law = ErrorLaw(
        torch.zeros_like(variance),
        FactorCovariance(variance, loadings),
        scatter,
        math.inf,
        temperature,
        100,
        "planted",
    )
    base = Additive().fit(screen, seed=0)
    return FittedCalibrated(base, {SEEN_DOUBLE: law}, single_effects(screen)[0], None, HeldOutError(1.0, 1.0, 0))


def _look(screen: Screen, fitted: FittedCalibrated, count: int) -> list[Survey]:
    space = CombinationSpace.of(screen.vocabulary, orders=(2,))
    whole = AlignedProfile.exact(range(len(screen.readouts)), screen.effects[0])
    likelihood = TargetLikelihood(whole, torch.zeros(len(screen.vocabulary), dtype=torch.float64))
    targets = [replace(whole, values=each) for each in _targets(screen, count)]
    return surveys([replace(likelihood, target=each) for each in targets], fitted, space, _LISTED)


def _targets(screen: Screen, count: int) -> Iterator[Float[Tensor, "g"]]:
    generator = torch.Generator().manual_seed(2)
    for _ in range(count):
        pair = torch.randint(len(screen.effects), (2,), generator=generator)
        noise = torch.randn(len(screen.readouts), generator=generator, dtype=torch.float64)
        yield screen.effects[pair].sum(0) + _NOISE * noise


def _bare_product(rows: Float[Tensor, "v g"]) -> None:
    """Multiply all rows by all, by blocks into one buffer; nothing is kept."""
    out = torch.empty(_BLOCK, len(rows))
    for start in range(0, len(rows), _BLOCK):
        part = rows[start : start + _BLOCK]
        torch.mm(part, rows.T, out=out[: len(part)])


if __name__ == "__main__":
    main()
