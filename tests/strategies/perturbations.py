"""Hypothesis strategies for perturbations and for tables of them."""

import string

from hypothesis import strategies as st

from surrogates.data.io.labels import control_family
from surrogates.data.perturbation import MODES, Intervention, Perturbation

targets = st.text(string.ascii_letters + string.digits + "-._", min_size=1, max_size=8).filter(
    lambda name: control_family(name) is None
)
modes = st.sampled_from(MODES)
doses = st.floats(min_value=1e-3, max_value=1e4, allow_nan=False)


@st.composite
def interventions(draw: st.DrawFn) -> Intervention:
    return Intervention(draw(targets), draw(modes), draw(doses))


@st.composite
def perturbations(draw: st.DrawFn, *, lowest: int = 0, highest: int = 3) -> Perturbation:
    """Perturbations of one mode, so that the label of each is the whole of it."""
    mode = draw(modes)
    names = draw(st.lists(targets, min_size=lowest, max_size=highest, unique=True))
    return Perturbation(tuple(Intervention(name, mode, draw(doses)) for name in names))


def libraries(size: int = 8) -> st.SearchStrategy[list[Perturbation]]:
    """Distinct singles and pairs of a few genes, in one mode, at full dose."""
    genes = st.sampled_from([f"GENE{number}" for number in range(6)])
    sets = st.frozensets(genes, min_size=1, max_size=2)
    return st.lists(sets, min_size=3, max_size=size, unique=True).map(
        lambda library: [Perturbation(tuple(map(Intervention, genes))) for genes in library]
    )
