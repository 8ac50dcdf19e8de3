"""The forward models that can be chosen by name: each name stands for what makes a configuration.

Nothing is imported until a model is loaded, so that a misspelt name is refused before torch is there.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from surrogates.registry import Registry

if TYPE_CHECKING:
    from surrogates.models.base import CellSurrogate, ContextSurrogate, Surrogate

SURROGATES: "Registry[Callable[[], Surrogate]]" = Registry(
    kind="surrogate",
    group="inverse_design.surrogates",
    shipped={
        "no_change": "surrogates.models.baselines:NoChange",
        "perturbation_mean": "surrogates.models.baselines:PerturbationMean",
        "matching_mean": "surrogates.models.baselines:MatchingMean",
        "additive": "surrogates.models.baselines:Additive",
        "scaled_additive": "surrogates.models.baselines:ScaledAdditive",
        "least_squares": "surrogates.models.wrappers.ensemble:least_squares",
        "ridge": "surrogates.models.linear:Ridge",
        "interaction": "surrogates.models.interaction:Interaction",
        "denoised_additive": "surrogates.models.wrappers.ensemble:denoised_additive",
        "denoised_interaction": "surrogates.models.wrappers.ensemble:denoised_interaction",
        "stacked": "surrogates.models.wrappers.ensemble:stacked",
        "stacked_per_readout": "surrogates.models.wrappers.ensemble:stacked_per_readout",
        "ensemble": "surrogates.models.wrappers.ensemble:ensemble",
        "causal": "surrogates.contrib.causal.model:Causal",
        "cell_oracle": "surrogates.contrib.regulation.cell_oracle:CellOracle",
        "saturating_dynamics": "surrogates.contrib.dynamics:SaturatingDynamics",
        "kernel_ridge": "surrogates.models.kernel:KernelRidge",
        "random_forest": "surrogates.contrib.descriptor_learners:RandomForest",
        "gradient_boosting": "surrogates.contrib.descriptor_learners:GradientBoosting",
        "bilinear": "surrogates.contrib.descriptor_learners:Bilinear",
        "latent_additive": "surrogates.models.latent:LatentAdditive",
        "decoder_only": "surrogates.models.latent:decoder_only",
        "gears": "surrogates.contrib.embedded.gears:Gears",
        "sclambda": "surrogates.contrib.embedded.sclambda:ScLambda",
        "latent_residual": "surrogates.models.wrappers.ensemble:latent_residual",
        "cpa": "surrogates.contrib.cells.effects:cpa_of_effects",
        "cpa_without_adversary": "surrogates.contrib.cells.effects:cpa_without_adversary_of_effects",
        "sams_vae": "surrogates.contrib.cells.effects:sams_vae_of_effects",
    },
)

CONTEXT_SURROGATES: "Registry[Callable[[], ContextSurrogate]]" = Registry(
    kind="surrogate of several contexts",
    group="inverse_design.context_surrogates",
    shipped={
        "context_mean": "surrogates.contrib.contexts.two_way:ContextMean",
        "two_factor": "surrogates.contrib.contexts.two_way:TwoFactor",
        "two_way": "surrogates.contrib.contexts.two_way:TwoWay",
        "synthetic_interventions": "surrogates.contrib.contexts.two_way:SyntheticInterventions",
        "large_perturbation": "surrogates.contrib.contexts.large_perturbation:LargePerturbation",
        "transfer": "surrogates.contrib.contexts.transfer:Transfer",
    },
)

CELL_SURROGATES: "Registry[Callable[[], CellSurrogate]]" = Registry(
    kind="surrogate of cells",
    group="inverse_design.cell_surrogates",
    shipped={
        "two_factor_cells": "surrogates.contrib.cells.shift:TwoFactorCells",
        "latent_shift": "surrogates.contrib.cells.latent_shift:LatentShift",
        "screpa": "surrogates.contrib.cells.latent_shift:screpa",
        "cpa": "surrogates.contrib.cells.additive_autoencoder:cpa",
        "cpa_without_adversary": "surrogates.contrib.cells.additive_autoencoder:cpa_without_adversary",
        "sams_vae": "surrogates.contrib.cells.additive_autoencoder:sams_vae",
        "trvae": "surrogates.contrib.cells.additive_autoencoder:trvae",
        "latent_shift_remainder": "surrogates.contrib.cells.latent_shift:remainder_kept",
        "transport_shift": "surrogates.contrib.cells.transport:TransportShift",
        "convex_transport": "surrogates.contrib.cells.convex_transport:ConvexTransport",
        "flow_matching": "surrogates.contrib.cells.flow:FlowMatching",
        "scdfm": "surrogates.contrib.cells.flow:scdfm",
    },
)
