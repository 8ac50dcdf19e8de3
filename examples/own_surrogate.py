# A forward model of your own: any regressor of scikit-learn, whose errors are learnt from what it has not seen.
from pathlib import Path

from sklearn.linear_model import Ridge

from inverse_design import propose, read_screen

screen = read_screen(Path(__file__).with_name("screen.csv"))
answer = propose(screen, "G010+G021", surrogate=Ridge(alpha=0.1), top=5)
print(answer, answer.table[["perturbation", "distance", "lower", "upper", "probability"]], sep="\n\n")
