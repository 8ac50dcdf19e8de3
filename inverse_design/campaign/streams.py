"""Seeds for what is random in a simulated campaign: a stream of its own for each purpose."""

from typing import Literal, get_args

import numpy as np

Purpose = Literal["world", "target", "game", "noise", "policy", "shuffle", "judge"]


def stream(purpose: Purpose, seed: int, number: int) -> int:
    """Give one purpose a seed of its own, so that nothing is drawn twice under two names.

    With one seed for all, random shifts would be the very noise of the genes that they are measured with.

    Args:
        purpose: What is drawn.
        seed: Of the protocol or the game.
        number: Of the family or the round.

    Returns:
        A seed of 32 bits: others for other purposes, seeds or numbers, and not one next to theirs.
    """
    key = (get_args(Purpose).index(purpose), number)
    return int(np.random.SeedSequence(seed % 2**64, spawn_key=key).generate_state(1)[0])
