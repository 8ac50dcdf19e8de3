# Predictions with intervals for a list of perturbations.
from pathlib import Path

from inverse_design import fit, read_screen

screen = read_screen(Path(__file__).with_name("screen.csv"))
fitted = fit(screen, surrogate="scaled_additive")
predicted = fitted.predict(["G021+G010", "G001+G002", "G037+G027"], level=0.9)
print(fitted, predicted, predicted.mean, sep="\n\n")
print(predicted.to_frame())  # perturbation, readout, mean, lower, upper, in_sample, novelty
