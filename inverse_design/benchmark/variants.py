"""A screen without the readouts that give the answer away, and with all of them."""

from surrogates.data.screen import Screen


def variants_of(screen: Screen) -> dict[str, Screen]:
    """Look at a screen with the readouts that are targets themselves removed, and with all readouts.

    Activation raises its own gene: to find that again is a look-up, so that the honest variant comes first.

    Args:
        screen: Any screen.

    Returns:
        ``targets_removed`` where that leaves another, not empty screen, then ``all_readouts``.
    """
    own = set(screen.vocabulary.targets)
    kept = [column for column, readout in enumerate(screen.readouts) if readout not in own]
    if kept and len(kept) < len(screen.readouts):
        return {"targets_removed": screen.with_readouts(kept), "all_readouts": screen}
    return {"all_readouts": screen}
