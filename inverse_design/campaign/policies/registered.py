"""The policies that can be chosen by name: each name stands for what makes one."""

from collections.abc import Callable

from inverse_design.campaign.game import Policy
from surrogates.registry import Registry

POLICIES: Registry[Callable[[], Policy]] = Registry(
    kind="policy",
    group="inverse_design.policies",
    shipped={
        "random": "inverse_design.campaign.policies.fixed:RandomChoice",
        "additive": "inverse_design.campaign.policies.fixed:AdditiveRanking",
        "greedy_ridge": "inverse_design.campaign.policies.pair_ridge:PairRidge",
        "optuna_tpe": "inverse_design.campaign.policies.pair_trial:PairTrial",
        "botorch_gp": "inverse_design.campaign.policies.pair_botorch:PairBotorch",
        "campaign": "inverse_design.campaign.policies.planned:Planned",
        "pair_hits": "inverse_design.campaign.policies.pair_hits:PairHits",
    },
)
