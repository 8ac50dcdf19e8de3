"""The paths along which a candidate reaches the readouts that it fixes, if the model has a graph."""

from collections.abc import Sequence

from jaxtyping import Int
from torch import Tensor

from surrogates.models.base import Fitted
from surrogates.models.causal import FittedCausal
from surrogates.models.causal_graph import paths
from surrogates.models.stacked import FittedStacked


def graph_of(model: Fitted) -> FittedCausal | None:
    """Take the causal graph by which a model predicts combinations.

    Args:
        model: A fitted model.

    Returns:
        The fitted graph, ``None`` if there is none.
    """
    graph = model.members[0] if isinstance(model, FittedStacked) else model
    return graph if isinstance(graph, FittedCausal) else None


def causal_paths(model: Fitted, genes: Int[Tensor, "k"], readouts: Sequence[str]) -> tuple[str, ...]:
    """Name the strongest path from a candidate to each of some readouts.

    Args:
        model: A fitted model; one that predicts combinations by a causal graph has paths.
        genes: Vocabulary ids of the candidate, ``-1`` for an empty slot.
        readouts: Which readouts.

    Returns:
        For each readout that edges lead to, the path and what it contributes, in the unit of the screen; none if
        the model has no graph.
    """
    graph = graph_of(model)
    if graph is None:
        return ()
    said = []
    for readout in readouts:
        found = [
            (float(best["contribution"]), str(best["path"]))
            for gene in genes.tolist()
            if gene >= 0
            for best in paths(graph, graph.vocabulary.entries[gene].label, readout, count=1).to_dict("records")
        ]
        if found:
            contribution, path = max(found, key=lambda each: abs(each[0]))
            said.append(f"{path} ({contribution:+.2g})")
    return tuple(said)
