"""The forward models that can be chosen by name: each name stands for what makes a configuration."""

from collections.abc import Callable

from surrogates.models.base import ContextSurrogate, Surrogate
from surrogates.registry import Registry

SURROGATES: Registry[Callable[[], Surrogate]] = Registry(
    kind="surrogate",
    group="inverse_design.surrogates",
    shipped={
        "no_change": "surrogates.models.baselines:NoChange",
        "perturbation_mean": "surrogates.models.baselines:PerturbationMean",
        "matching_mean": "surrogates.models.baselines:MatchingMean",
        "additive": "surrogates.models.additive:Additive",
        "scaled_additive": "surrogates.models.additive:ScaledAdditive",
        "least_squares": "surrogates.models.presets:least_squares",
        "ridge": "surrogates.models.linear:Ridge",
        "interaction": "surrogates.models.interaction:Interaction",
        "denoised_additive": "surrogates.models.presets:denoised_additive",
        "denoised_interaction": "surrogates.models.presets:denoised_interaction",
        "stacked": "surrogates.models.presets:stacked",
        "ensemble": "surrogates.models.presets:ensemble",
        "causal": "surrogates.models.causal:Causal",
        "saturating_dynamics": "surrogates.models.dynamics:SaturatingDynamics",
        "kernel_ridge": "surrogates.models.kernel:KernelRidge",
        "random_forest": "surrogates.models.trees:RandomForest",
        "gradient_boosting": "surrogates.models.trees:GradientBoosting",
        "bilinear": "surrogates.models.bilinear:Bilinear",
        "latent_additive": "surrogates.models.latent_additive:LatentAdditive",
        "latent_residual": "surrogates.models.presets:latent_residual",
    },
)

CONTEXT_SURROGATES: Registry[Callable[[], ContextSurrogate]] = Registry(
    kind="surrogate of several contexts",
    group="inverse_design.context_surrogates",
    shipped={
        "context_mean": "surrogates.models.two_factor:ContextMean",
        "two_factor": "surrogates.models.two_factor:TwoFactor",
        "two_way": "surrogates.models.two_factor:TwoWay",
        "synthetic_interventions": "surrogates.models.synthetic:SyntheticInterventions",
        "large_perturbation": "surrogates.models.large_perturbation:LargePerturbation",
        "transfer": "surrogates.models.transfer:Transfer",
    },
)
