"""How policies did on one game, over many seeds: curves with bootstrap intervals, and paired differences."""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.campaign.curves import coverage, share_found, simple_regret
from inverse_design.campaign.game import Game
from inverse_design.campaign.replay import Trace
from surrogates.errors import DataError
from surrogates.evaluation.metrics import bootstrap_interval
from surrogates.evaluation.rows import Row

FOUND, REGRET, COVERAGE, MORE, TIMES = "found", "regret", "coverage", "found_more", "found_ratio"


def replay_rows(
    game: Game, traces: Sequence[Trace], *, reference: str, top: int, level: float, seed: int
) -> list[Row]:
    """Average the curves of each policy over seeds.

    Args:
        game: What was played, by every policy with the same seeds in the same order.
        traces: Of all policies.
        reference: The policy with which the others are compared, seed by seed.
        top: How many candidates count as best.
        level: Nominal probability of the bounds that policies stated.
        seed: Fixes the bootstrap.

    Returns:
        For each policy, at the start (``round 0``) and after each round: ``found``, the share of the best
        candidates that was measured; ``regret``, how far the best measured is below the best there is; and
        ``coverage`` of the bounds where any were stated. After the last round, ``found_more`` and
        ``found_ratio``: difference and ratio of what was found to the reference. Intervals hold 95 %, over seeds.

    Raises:
        DataError: If the seeds of two policies differ, or the reference was not played.
    """
    by_policy = _by_policy(traces, reference)
    last = {}
    rows = []
    for name, played in by_policy.items():
        row = partial(_row, dataset=game.name, policy=name, seed=seed)
        found = torch.stack([share_found(game, trace, top=top) for trace in played])
        last[name] = found[:, -1]
        rows += [row(FOUND, f"round {number}", one) for number, one in enumerate(found.unbind(1))]
        regret = torch.stack([simple_regret(game, trace) for trace in played])
        rows += [
            row(REGRET, f"round {number}", one, unit="utility")
            for number, one in enumerate(regret.unbind(1))
            if bool(one.isfinite().all())
        ]
        covered = torch.stack([coverage(game, trace) for trace in played])
        rows += [
            row(COVERAGE, f"round {number}, nominal {level:g}", one)
            for number, one in enumerate(covered.unbind(1))
            if bool(one.isfinite().all())
        ]
    for name in by_policy:
        if name != reference:
            row = partial(_row, dataset=game.name, policy=name, seed=seed)
            rows.append(row(MORE, f"than {reference}", last[name] - last[reference]))
            rows.append(_ratio(last[name], last[reference], game.name, name, reference, seed=seed))
    return rows


def _by_policy(traces: Sequence[Trace], reference: str) -> dict[str, list[Trace]]:
    by_policy: dict[str, list[Trace]] = {}
    for trace in traces:
        by_policy.setdefault(trace.policy, []).append(trace)
    if reference not in by_policy:
        raise DataError(f"the policy {reference!r} was not played, only {', '.join(by_policy)}")
    seeds = {name: [trace.seed for trace in played] for name, played in by_policy.items()}
    if odd := [name for name in seeds if seeds[name] != seeds[reference]]:
        raise DataError(
            f"{odd[0]!r} was played with the seeds {seeds[odd[0]]}, {reference!r} with {seeds[reference]}; paired"
            " differences need the same"
        )
    return by_policy


def _row(
    metric: str,
    variant: str,
    values: Float[Tensor, "s"],
    *,
    dataset: str,
    policy: str,
    seed: int,
    unit: str = "share",
) -> Row:
    low, high = bootstrap_interval(lambda drawn: values[drawn].mean(1), len(values), seed=seed)
    return Row("replay", dataset, policy, "", variant, metric, float(values.mean()), low, high, len(values), unit)


def _ratio(
    found: Float[Tensor, "s"],
    base: Float[Tensor, "s"],
    dataset: str,
    policy: str,
    reference: str,
    *,
    seed: int,
) -> Row:
    """Ratio of the means: seeds in which the reference finds nothing do no harm."""
    low, high = bootstrap_interval(lambda drawn: found[drawn].mean(1) / base[drawn].mean(1), len(found), seed=seed)
    value = float(found.mean() / base.mean())
    return Row("replay", dataset, policy, "", f"to {reference}", TIMES, value, low, high, len(found), "ratio")
