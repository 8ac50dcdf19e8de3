"""Graphs of similar targets, as fixed sparse matrices that average embeddings over neighbours."""

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.data.descriptors import Descriptors
from surrogates.data.perturbation import Intervention
from surrogates.data.vocabulary import Vocabulary


def convolution(descriptors: Descriptors | None, names: tuple[str, ...], *, count: int) -> Float[Tensor, "t t"]:
    """Make the matrix ``S = D^-1/2 (A + I) D^-1/2`` of a graph convolution [Wu 2019, simple graph convolution].

    ``A`` holds the similarity of two targets if one is among the nearest of the other. A target that nothing
    describes, or that is like no other, is joined to itself alone: its row of ``S`` is that of the identity.
    """
    size = len(names)
    eye = torch.arange(size).expand(2, -1)
    if descriptors is None:
        return torch.sparse_coo_tensor(eye, torch.ones(size), (size, size), check_invariants=True).coalesce()
    entries = Vocabulary(tuple(Intervention(name) for name in names))
    near, alike = descriptors.nearest(entries, count=count)
    start, slot = torch.nonzero(alike > 0, as_tuple=True)
    end, weight = near[start, slot], alike[start, slot]
    # An edge that both ends name counts once: the two values are equal.
    keys = torch.cat([start * size + end, end * size + start])
    distinct, first = keys.unique(return_inverse=True)
    weights = weight.new_zeros(len(distinct)).index_copy(0, first, weight.repeat(2))
    edges = torch.cat([torch.stack([distinct // size, distinct % size]), eye], dim=1)
    weights = torch.cat([weights, weights.new_ones(size)])
    degree = weights.new_zeros(size).index_add(0, edges[0], weights)
    scaled = weights / (degree[edges[0]] * degree[edges[1]]).sqrt()
    return torch.sparse_coo_tensor(edges, scaled.float(), (size, size), check_invariants=True).coalesce()
