"""A screen with all its readouts, and without those that give the answer away."""

from surrogates.data.screen import Screen


def variants_of(screen: Screen) -> dict[str, Screen]:
    """Look at a screen with all readouts, and with the readouts that are targets themselves removed.

    Activation raises its own gene: to find that again is a look-up.

    Args:
        screen: Any screen.

    Returns:
        ``all_readouts``, and ``targets_removed`` where that leaves another, not empty screen.
    """
    own = set(screen.vocabulary.targets)
    kept = [column for column, readout in enumerate(screen.readouts) if readout not in own]
    variants = {"all_readouts": screen}
    if kept and len(kept) < len(screen.readouts):
        variants["targets_removed"] = screen.with_readouts(kept)
    return variants
