"""What do public screens lend to a screen without combinations, and how well does it hold?

Prints the table that ships in ``surrogates/models/wrappers/public_law.py``. Then each screen, without doubles,
borrows from all the others: how many of its doubles does a 90 % interval hold, of single readouts and of the
distance to another double?

Run: python -m benchmarks public_law
"""

from collections.abc import Mapping

import torch

from inverse_design.candidates import quantiles_of
from inverse_design.problem.objective import Distance
from inverse_design.problem.target import ProfileTarget
from surrogates.data.catalogue import open_dataset
from surrogates.data.novelty import SEEN_DOUBLE, novelty_code
from surrogates.data.screen import Screen
from surrogates.models.base import single_effects, sum_over_interventions
from surrogates.models.wrappers.public_law import PublicLaw, PublicScreen, SingleSpread

LEVEL, DRAWS, MOST_DOUBLES = 0.9, 1000, 150
SOURCES: Mapping[str, str] = {
    "norman2019_expr": "Norman et al., Science 365:786 (2019)",
    "norman2019_fitness": "Norman et al., Science 365:786 (2019)",
    "horlbeck2018_k562": "Horlbeck et al., Cell 174:953 (2018)",
    "horlbeck2018_jurkat": "Horlbeck et al., Cell 174:953 (2018)",
    "laufer2013": "Laufer et al., Nature Methods 10:427 (2013)",
    "cellbox_skmel133": "Korkut et al., eLife 4:e04640 (2015)",
}


def coverage(screen: Screen, law: PublicLaw, *, seed: int) -> tuple[float, float, float, float]:
    """Predict the doubles of a screen from its singles and a law of other screens.

    Args:
        screen: Measured effects in one context.
        law: Learnt without it.
        seed: Fixes which doubles are asked, their targets and the draws.

    Returns:
        Share of readouts and of distances within 90 % intervals, squared error relative to plain sums, and the
        mean width of the distances' bounds relative to the measured distance.
    """
    singles, alone = single_effects(screen)
    rows = torch.nonzero(novelty_code(screen.batch, alone) == SEEN_DOUBLE).flatten()
    generator = torch.Generator().manual_seed(seed)
    rows = rows[torch.randperm(len(rows), generator=generator)[:MOST_DOUBLES]]
    batch, effects = screen.batch.rows(rows), screen.effects[rows]
    sums = sum_over_interventions(singles, batch)
    mean, spread = law.scale * sums, SingleSpread.of(singles, alone)
    errors = law.errors(spread, DRAWS, seed=seed)
    reach = law.relative(spread, batch).sqrt()
    error = effects - mean
    largest = errors.abs().quantile(LEVEL, dim=0)
    within = (error.abs() <= reach[:, None] * largest).double().mean()
    held, width = [], []
    for row, other in enumerate(torch.randint(len(rows) - 1, (len(rows),), generator=generator).tolist()):
        target = effects[other + (other >= row)]
        outcome = Distance(ProfileTarget("another double", screen.readouts, target).on(screen.readouts))
        lower, _, upper = quantiles_of(outcome, mean[[row]], reach[[row]], errors, LEVEL)
        shown = outcome.measured(effects[[row]])
        held.append((lower <= shown) & (shown <= upper))
        width.append((upper - lower) / shown)
    plain = (effects - sums).square().sum()
    return (
        float(within),
        float(torch.cat(held).double().mean()),
        float(error.square().sum() / plain),
        float(torch.cat(width).median()),
    )


def main() -> None:
    """Measure, print the table and what it is worth."""
    torch.set_num_threads(1)
    screens = {name: open_dataset(name) for name in SOURCES}
    found = [PublicScreen.measured(each, name=name, source=SOURCES[name]) for name, each in screens.items()]
    for each in found:
        numbers = f"{each.scale:.3f}, {each.ratio:.3f}, {each.share:.2f}, {each.sums:.2f}, {each.within:.2f}"
        print(f'    PublicScreen("{each.name}", "{each.source}", {each.readouts}, {each.doubles}, {numbers}),')
    print(PublicLaw.of(found))
    print(f"{'each borrows from the others':28}{'readouts':>10}{'distance':>10}{'error/sums':>12}{'width':>8}")
    results = []
    for each in found:
        law = PublicLaw.of([other for other in found if other is not each])
        results.append(coverage(screens[each.name], law, seed=0))
        readouts, distance, error, width = results[-1]
        print(f"{each.name:28}{readouts:10.3f}{distance:10.3f}{error:12.3f}{width:8.2f}")
    readouts, distance, error, width = (sum(column) / len(found) for column in zip(*results, strict=True))
    print(f"{'mean':28}{readouts:10.3f}{distance:10.3f}{error:12.3f}{width:8.2f}")


if __name__ == "__main__":
    main()
