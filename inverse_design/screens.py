"""Screens under the names of this package: how one is taken, what is in it, and what stands before a proposal."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pandas as pd
import torch

from inverse_design.numbers import in_column
from surrogates.data.io.annotated import AnnotatedMatrix
from surrogates.data.io.notes import COUNTS, NOTE
from surrogates.data.io.readers import read_screen
from surrogates.data.novelty import SEEN_DOUBLE, novelty_code
from surrogates.data.screen import Screen
from surrogates.errors import DataError, some_of

__all__ = ["Screen", "ScreenLike", "as_screen", "concerns", "contents", "one_context", "read_screen"]

_WEAK = 1.2  # effect over standard error; noise alone gives one
ScreenLike: TypeAlias = Screen | str | Path | pd.DataFrame | AnnotatedMatrix


def as_screen(source: ScreenLike) -> Screen:
    """Take a screen as it is, or read one: a path, a DataFrame or an AnnData."""
    return source if isinstance(source, Screen) else read_screen(source)


def one_context(screen: Screen, context: str | None) -> Screen:
    """Take one context, the only one if none is named."""
    if COUNTS in screen.provenance:
        raise DataError(f"{screen.provenance[COUNTS]}; --no-normalise takes them as they are")
    if context is not None:
        return screen.in_context(context)
    contexts = sorted(set(screen.contexts))
    if len(contexts) > 1:
        known = some_of(map(repr, contexts))
        raise DataError(f"the data hold {len(contexts)} contexts; name one with --context: {known}")
    return screen


def contents(screen: Screen) -> dict[str, str]:
    """Count what is in a screen."""
    orders = screen.batch.order
    counts = [f"{int((orders == order).sum()):,} {name}" for order, name in ((1, "singles"), (2, "doubles"))]
    higher = int((orders > 2).sum())
    doses = screen.vocabulary.doses.unique()
    contexts = {name: screen.contexts.count(name) for name in sorted(set(screen.contexts))}
    modes = sorted({entry.mode for entry in screen.vocabulary.entries})
    return {
        "conditions": f"{len(screen):,}: " + ", ".join(counts) + f", {higher:,} of higher order",
        "contexts": some_of([f"{name or 'one, not named'} ({n:,})" for name, n in contexts.items()]),
        "targets": f"{len(set(screen.vocabulary.targets)):,}, {', '.join(modes)}",
        "doses": "1 (the full effect) everywhere"
        if doses.tolist() == [1.0]
        else f"{len(doses):,} from {float(doses.min()):g} to {float(doses.max()):g}",
        "readouts": f"{len(screen.readouts):,}: {some_of(screen.readouts, 5)}",
        "own genes": f"{_counted(len(own_readouts(screen)), 'readout')} also a target",
        "errors": "no standard errors" if screen.standard_errors is None else "standard errors for each effect",
        "effects": _norms(screen),
    }


def own_readouts(screen: Screen) -> tuple[str, ...]:
    """Find the readouts that are targets themselves."""
    targets = set(screen.vocabulary.targets)
    return tuple(readout for readout in screen.readouts if readout in targets)


def concerns(screen: Screen) -> Iterator[str]:
    """Find what stands between a screen and a good proposal."""
    if dropped := screen.provenance.get("dropped rows"):
        yield f"rows left out: {dropped}"
    yield from (value for key, value in screen.provenance.items() if key.startswith(NOTE))
    contexts = sorted(set(screen.contexts))
    if len(contexts) > 1:
        yield f"{len(contexts)} contexts: propose and benchmark need --context, for example {contexts[0]!r}"
    where: dict[str, list[str]] = {}
    for context in contexts:
        for said in _concerns_of_one(screen.in_context(context)):
            where.setdefault(said, []).append(context)
    for said, places in where.items():
        yield said if len(places) == len(contexts) else f"in {some_of(places, 4)}: {said}"
    if own := own_readouts(screen):
        yield (
            f"{_counted(len(own), 'readout')} also a target ({some_of(own, 4)}): a profile with them names its"
            " own perturbation; benchmark retrieval reports without them, too"
        )


def weak_conditions(screen: Screen) -> tuple[str, ...]:
    """Find conditions whose effect is about as long as its standard error."""
    if screen.standard_errors is None:
        return ()
    ratio = screen.effects.norm(dim=1) / screen.standard_errors.norm(dim=1).clamp(
        min=torch.finfo(torch.float64).tiny
    )
    return tuple(screen.labels[int(row)] for row in torch.nonzero(ratio < _WEAK).flatten())


def _concerns_of_one(screen: Screen) -> Iterator[str]:
    alone = screen.single_rows >= 0
    missing = _never_alone(screen)
    if not bool(alone.any()):
        yield "no single was measured: nothing can be proposed"
        return
    if missing:
        yield f"{_counted(len(missing), 'target')} never measured alone, and left out: {some_of(missing)}"
    tested = int((novelty_code(screen.batch, alone) == SEEN_DOUBLE).sum())
    if tested < 20:
        yield (
            f"{tested or 'no'} double{'' if tested == 1 else 's'} with both singles measured: "
            + ("too few to judge the model by" if tested else "the model and its probabilities cannot be tested")
        )
    if weak := weak_conditions(screen):
        yield f"{_counted(len(weak), 'condition')} about as weak as the standard error: {some_of(weak)}"


def _never_alone(screen: Screen) -> list[str]:
    genes = screen.batch.genes[screen.batch.order > 1]
    used = genes[genes >= 0].unique().tolist()
    return [screen.vocabulary.entries[each].label for each in used if int(screen.single_rows[each]) < 0]


def _norms(screen: Screen) -> str:
    norms = screen.effects.norm(dim=1)
    points = torch.stack([norms.min(), norms.median(), norms.max()])
    low, middle, high = in_column(points.tolist())
    least, most = screen.labels[int(norms.argmin())], screen.labels[int(norms.argmax())]
    return f"length over readouts: least {low} ({least}), median {middle}, largest {high} ({most})"


def _counted(number: int, what: str) -> str:
    return f"1 {what} is" if number == 1 else f"{number:,} {what}s are"
