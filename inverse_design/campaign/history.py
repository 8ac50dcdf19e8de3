"""What happened to a campaign, as a table."""

import pandas as pd

from inverse_design.campaign.store import Log


def history_of(log: Log) -> pd.DataFrame:
    """List every event.

    Args:
        log: Of the campaign.

    Returns:
        One row per event: ``sequence``, ``time`` (UTC), ``actor``, ``kind`` and ``what``.
    """
    rows = [(one.sequence, one.time, one.actor, one.event.kind, one.event.words) for one in log.events()]
    return pd.DataFrame(rows, columns=["sequence", "time", "actor", "kind", "what"])
