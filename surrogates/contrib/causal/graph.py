"""The edges of a fitted causal model as a table, and the paths along which effects travel."""

from collections.abc import Iterator

import pandas as pd

from surrogates.contrib.causal.estimate import total_effects
from surrogates.contrib.causal.model import FittedCausal
from surrogates.errors import UnknownNameError

_BEAM = 500  # partial paths that are carried on at each length


def edge_table(fitted: FittedCausal) -> pd.DataFrame:
    """List the edges, the strongest first."""
    start, end = fitted.edges.nonzero(as_tuple=True)
    table = pd.DataFrame(
        {
            "source": [fitted.sources.names[at] for at in start.tolist()],
            "target": [fitted.readouts[at] for at in end.tolist()],
            "weight": fitted.edges[start, end].numpy(),
        }
    )
    strongest = table.assign(size=-table["weight"].abs()).sort_values(["size", "source", "target"])
    return table.loc[strongest.index].reset_index(drop=True)


def paths(fitted: FittedCausal, entry: str, readout: str, *, count: int = 5, longest: int = 5) -> pd.DataFrame:
    """Explain the effect of an intervention on a readout by the strongest paths between them.

    The effect that follows from the edges is the sum over all walks, of the input times the product of the edges.
    Paths visit no node twice; walks round a feedback loop are in the total only.

    Raises:
        UnknownNameError: If the intervention or the readout is not in the model.
    """
    number = fitted.vocabulary.id(entry)
    if readout not in fitted.readouts:
        raise UnknownNameError.from_known("readout", readout, fitted.readouts)
    column = fitted.readouts.index(readout)
    node, value = int(fitted.sources.of_entry[number]), float(fitted.inputs[number])
    total = value * float(total_effects(fitted.edges, fitted.sources.columns)[node, column])
    found = sorted(_walk(fitted, node, column, longest=longest), key=lambda path: (-abs(path[1]), path[0]))[:count]
    table = pd.DataFrame(
        {"path": [path for path, _ in found], "contribution": [value * product for _, product in found]}
    )
    table["share"] = table["contribution"] / total if total else float("nan")
    table.attrs["total"] = total
    return table


def _walk(fitted: FittedCausal, node: int, column: int, *, longest: int) -> Iterator[tuple[str, float]]:
    """Carry the strongest partial paths on, edge by edge, and yield those that arrive."""
    names, columns = fitted.sources.names, fitted.sources.columns.tolist()
    node_of = {at: number for number, at in enumerate(columns) if at >= 0}
    if columns[node] == column:
        yield names[node], 1.0
        return
    partial: list[tuple[tuple[int, ...], float]] = [((node,), 1.0)]
    for _ in range(longest):
        longer: list[tuple[tuple[int, ...], float]] = []
        for path, product in partial:
            row = fitted.edges[path[-1]]
            if row[column] != 0:
                yield (
                    " → ".join([*(names[at] for at in path), fitted.readouts[column]]),
                    product * float(row[column]),
                )
            for at in row.nonzero().flatten().tolist():
                following = node_of.get(at)
                if following is not None and at != column and following not in path:
                    longer.append(((*path, following), product * float(row[at])))
        partial = sorted(longer, key=lambda each: (-abs(each[1]), each[0]))[:_BEAM]
