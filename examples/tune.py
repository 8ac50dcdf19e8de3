# %% [markdown]
# # Tune a surrogate, keep the study, and save what came out
#
# The trials are judged by squared error on held-out doubles. The study is a file: run this again and it goes on.

# %%
from pathlib import Path

import optuna

from surrogates import Interaction, Origin, held_out_error, load_fitted, open_dataset, save_fitted

TRIALS = 20
FOLDER = Path("tuning")

screen = open_dataset("cellbox_skmel133")
FOLDER.mkdir(exist_ok=True)


def model(trial: optuna.trial.BaseTrial) -> Interaction:
    return Interaction(
        components=trial.suggest_int("components", 5, 60), leading=trial.suggest_int("leading", 1, 12)
    )


study = optuna.create_study(
    storage=f"sqlite:///{FOLDER / 'study.db'}", study_name="interaction", load_if_exists=True
)
study.optimize(
    lambda trial: held_out_error(model(trial), screen, seed=0, trial=trial),
    n_trials=TRIALS - len(study.trials),
)
chosen = model(optuna.trial.FixedTrial(study.best_params))
print(chosen, f"mean squared error {study.best_value:.4f} after {len(study.trials)} trials")

# %% [markdown]
# The fitted model is a file of tensors: no pickle, and equal predictions when it is read again.

# %%
place = FOLDER / "interaction.safetensors"
fitted = chosen.fit(screen, seed=0)
save_fitted(fitted, place, origin=Origin.of(screen, chosen, seed=0))
before, after = (model.predict(screen.batch).mean for model in (fitted, load_fitted(place)))
print("equal after the round trip:", bool((before == after).all()))
