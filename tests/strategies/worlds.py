"""Files of a tiny simulated screen, and the command line run in this process."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from inverse_design.cli.app import main
from surrogates.data.screen import Screen
from surrogates.data.simulate import Network, SaturatingWorld, singles_and_doubles

# Matrices of a dozen rows: a second thread costs more than it gives, above all beside other jobs.
torch.set_num_threads(1)


def tiny_screen() -> Screen:
    """Ten genes alone and 16 of their 45 pairs."""
    world = SaturatingWorld(Network(genes=10))
    design = singles_and_doubles(world.network, doubles=16, seed=0)
    return world.screen(design, seed=0)


def tiny_table() -> pd.DataFrame:
    """The same as a table: condition, then one column per readout."""
    screen = tiny_screen()
    table = pd.DataFrame(screen.effects.numpy(), columns=list(screen.readouts))
    return pd.concat([pd.Series(screen.labels, name="condition"), table], axis=1)


def save_table(folder: Path, table: pd.DataFrame | None = None, name: str = "screen.csv") -> Path:
    """Write a screen as CSV."""
    path = folder / name
    (tiny_table() if table is None else table).to_csv(path, index=False)
    return path


def save_state(folder: Path, label: str | None = None, name: str = "state.csv") -> Path:
    """Write the effect of one condition as a target table; by default the last one's."""
    table = tiny_table().set_index("condition")
    row = table.iloc[-1] if label is None else table.loc[label]
    path = folder / name
    pd.DataFrame({"gene": row.index, "logFC": np.asarray(row)}).to_csv(path, index=False)
    return path


def command(*words: object) -> int:
    """Run one command line in this process."""
    return main([str(word) for word in words])
