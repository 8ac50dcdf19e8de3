# %% [markdown]
# # Tune a surrogate, keep the study, and save what came out
#
# The trials are judged by squared error on held-out doubles. The study is a file: run this again and it goes on.

# %%
from pathlib import Path

from optuna.distributions import IntDistribution
from rich.progress import Progress

from surrogates import Interaction, Origin, Study, load_fitted, open_dataset, save_fitted, tune

TRIALS = 20
FOLDER = Path("tuning")

screen = open_dataset("cellbox_skmel133")
FOLDER.mkdir(exist_ok=True)
with Progress() as bar:
    task = bar.add_task("tuning", total=TRIALS)
    tuned = tune(
        Interaction(),
        {"components": IntDistribution(5, 60), "leading": IntDistribution(1, 12)},
        screen,
        trials=TRIALS,
        seed=0,
        study=Study(storage=str(FOLDER / "study.db")),
        progress=lambda done, total: bar.update(task, completed=done, total=total),
    )
print(tuned.surrogate, f"mean squared error {tuned.value:.4f} after {tuned.trials} trials")

# %% [markdown]
# The fitted model is a file of tensors: no pickle, and equal predictions when it is read again.

# %%
place = FOLDER / "interaction.safetensors"
fitted = tuned.surrogate.fit(screen, seed=0)
save_fitted(fitted, place, origin=Origin.of(screen, tuned.surrogate, seed=0))
before, after = (model.predict(screen.batch).mean for model in (fitted, load_fitted(place)))
print("equal after the round trip:", bool((before == after).all()))
