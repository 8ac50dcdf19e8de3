# An objective of your own: one number for each candidate, from mean and variance of its predicted effects.
from pathlib import Path

from inverse_design import propose, read_screen

screen = read_screen(Path(__file__).with_name("screen.csv"))
up, down = screen.readouts.index("G010"), screen.readouts.index("G028")
answer = propose(
    screen,
    "G010+G021",
    objective=lambda mean, variance: mean[:, up] - mean[:, down] - variance[:, up].sqrt(),
    surrogate="scaled_additive",
)
print(answer.table[["perturbation", "utility", "lower", "upper"]])
