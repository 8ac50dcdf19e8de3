"""Small proposals, and names that a page must show as they are."""

from dataclasses import replace
from functools import cache

from strategies.screens import pairs_of, planted_screen

from inverse_design.proposal import Proposal, propose
from surrogates.data.perturbation import Intervention
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import Vocabulary

HOSTILE = "<script>alert(1)</script>"
QUOTED = "'><img src=x onerror=alert(2)>"


@cache
def named_screen() -> Screen:
    """Nine genes, of which two have hostile names, and sixteen pairs; readouts have such a name, too."""
    screen = planted_screen(alone=range(9), together=pairs_of(9, 16), readouts=7)
    names = (HOSTILE, QUOTED, *(f"Z{number}" for number in range(7)))
    return replace(
        screen,
        vocabulary=Vocabulary(tuple(map(Intervention, names))),
        readouts=("<b>r0</b>", *screen.readouts[1:]),
    )


@cache
def small_proposal() -> Proposal:
    """Propose for the state of a held-out pair of both hostile names, or of the first pair."""
    screen = named_screen()
    return propose(screen, screen.labels[-1], surrogate="additive", top=8)
