"""What the reader found worth knowing stands among the notes of an answer."""

import anndata
import numpy as np
import pandas as pd

from inverse_design.proposal import propose
from inverse_design.ranking import rank
from surrogates.data.io.readers import read_screen


def test_propose_and_rank_warn_of_what_they_cannot_tell_from_a_batch() -> None:
    draw = np.random.default_rng(0)
    labels = np.repeat(["ctrl", "A", "B", "C", "A+B", "A+C"], 10)
    obs = pd.DataFrame(
        {"gene": labels, "lane": np.where(labels == "A", "z", "x")}, index=[f"{n}" for n in range(60)]
    )
    source = anndata.AnnData(draw.normal(size=(60, 6)), obs=obs, var=pd.DataFrame(index=list("uvwxyz")))
    found = read_screen(source)
    target = pd.Series(1.0, index=list("uvwxyz"))
    proposal = propose(found, target, surrogate="additive")
    for notes in (proposal.notes, rank(found, target, ["B+C"], surrogate="additive").notes):
        assert any(note.startswith("warning: confounded with 'lane': A (z)") for note in notes)
