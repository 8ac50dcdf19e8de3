"""The forward models that can be chosen by name."""

from surrogates.models.base import ContextSurrogate, Surrogate
from surrogates.registry import Registry

SURROGATES: Registry[type[Surrogate]] = Registry(
    kind="surrogate",
    group="inverse_design.surrogates",
    shipped={
        "no_change": "surrogates.models.baselines:NoChange",
        "perturbation_mean": "surrogates.models.baselines:PerturbationMean",
        "matching_mean": "surrogates.models.baselines:MatchingMean",
        "additive": "surrogates.models.additive:Additive",
        "scaled_additive": "surrogates.models.additive:ScaledAdditive",
        "interaction": "surrogates.models.interaction:Interaction",
    },
)

CONTEXT_SURROGATES: Registry[type[ContextSurrogate]] = Registry(
    kind="surrogate of several contexts",
    group="inverse_design.context_surrogates",
    shipped={},
)
