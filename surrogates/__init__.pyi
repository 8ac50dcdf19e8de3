from .data.perturbation import Intervention as Intervention
from .data.perturbation import Perturbation as Perturbation
from .data.screen import Screen as Screen
from .data.vocabulary import PerturbationBatch as PerturbationBatch
from .data.vocabulary import Vocabulary as Vocabulary
