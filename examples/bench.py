# %% [markdown]
# # A bench to practise a campaign on
#
# A simulated world of 40 genes plays the laboratory. Nothing here is needed for a campaign of your own: your bench
# measures what was asked, and writes a table like `results.csv`.
#
#     python examples/bench.py world                           # writes screen.csv and target.csv
#     python examples/bench.py measure plate.csv results.csv   # measures every well of a plate map or batch
#     python examples/bench.py reveal                          # says which double the target was

# %%
import argparse
import zlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from surrogates.data.perturbation import Perturbation
from surrogates.data.simulate import Network, SaturatingWorld, singles_and_doubles

WORLD = SaturatingWorld(Network(genes=40, seed=7), noise=0.15)
KNOWN = 60  # doubles that were measured before the campaign begins, besides all singles
WELLS = 2  # of each known condition
BESIDES = ["plate", "well", "perturbation", "replicate", "campaign", "round"]

# %% [markdown]
# The world, what is known of it, and the double whose state is wanted: the one that is farthest from all that is
# known.


# %%
def hidden() -> tuple[Perturbation, list[Perturbation]]:
    """Choose the target among the doubles that were not measured; give it and what was measured."""
    pairs = WORLD.network.genes * (WORLD.network.genes - 1) // 2
    design = list(singles_and_doubles(WORLD.network, doubles=pairs, seed=1))
    known, others = design[: WORLD.network.genes + KNOWN], design[WORLD.network.genes + KNOWN :]
    states, reached = WORLD.truth(others), WORLD.truth(known)
    nearest = (states[:, None] - reached).square().mean(-1).amin(1)
    return others[int(nearest.argmax())], known


def write_world() -> None:
    """Write what is known, with its spread and number of wells, and where the cells should go."""
    target, known = hidden()
    names = list(WORLD.network.names)
    truth = WORLD.truth(known).numpy()
    wells = truth + WORLD.noise * np.random.default_rng(0).normal(size=(WELLS, *truth.shape))
    screen = pd.DataFrame(wells.mean(0), columns=names)
    screen.insert(0, "condition", [each.label for each in known])
    spread = pd.DataFrame(WORLD.noise, index=screen.index, columns=[f"{name}__sd" for name in names])
    pd.concat([screen, spread], axis=1).assign(n_wells=WELLS).round(4).to_csv("screen.csv", index=False)
    state = WORLD.truth([target])[0].numpy()
    pd.DataFrame({"gene": names, "effect": state.round(4)}).to_csv("target.csv", index=False)
    print(f"wrote screen.csv ({len(known)} conditions, {len(names)} readouts) and target.csv")


# %% [markdown]
# A well shows the true effect of its perturbation and the noise of one measurement; a control shows noise alone.


# %%
def measure(plate: str, results: str) -> None:
    """Measure the wells of a plate map, or the experiments of a batch in one well each."""
    table = pd.read_csv(plate, dtype=str)
    told = table[[name for name in (*BESIDES, "role") if name in table]].copy()
    labels = ["" if label == "control" else label for label in told["perturbation"]]
    truth = WORLD.truth([Perturbation.parse(label) for label in labels]).numpy()
    seed = zlib.crc32(told.to_csv(index=False).encode())  # other wells, other noise
    effects = truth + WORLD.noise * np.random.default_rng(seed).normal(size=truth.shape)
    told["status"] = "measured"
    names = list(WORLD.network.names)
    measured = pd.DataFrame(effects.round(4), columns=names, index=told.index)
    pd.concat([told, measured], axis=1).to_csv(results, index=False)
    print(f"measured {len(told)} wells: wrote {results}")


# %%
def main(words: Sequence[str] | None = None) -> None:
    """Play the bench."""
    parser = argparse.ArgumentParser(description="A simulated bench to practise a campaign on.")
    tasks = parser.add_subparsers(dest="task", required=True)
    tasks.add_parser("world", help="write screen.csv and target.csv")
    tasks.add_parser("reveal", help="say which double the target was")
    wells = tasks.add_parser("measure", help="measure the wells of a plate map or batch")
    wells.add_argument("plate", help="what `campaign export` or `campaign ask` wrote, as .csv")
    wells.add_argument("results", help="where to write the results, as .csv")
    asked = parser.parse_args(words)
    if asked.task == "measure":
        measure(asked.plate, asked.results)
    elif asked.task == "world":
        write_world()
    else:
        print(f"the target was {hidden()[0].label}")


if __name__ == "__main__":
    main()
