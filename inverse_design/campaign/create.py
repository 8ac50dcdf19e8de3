"""The start of a campaign: its screen and target are checked, and written into the log before the first round."""

import getpass
import json
import re
import secrets
from collections.abc import Mapping
from itertools import chain
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load, save
from torch import Tensor

from inverse_design.campaign.settings import CampaignSettings, settings_as_json, settings_of
from inverse_design.campaign.store.events import Created
from inverse_design.campaign.store.protocol import Log, Store
from inverse_design.errors import StoreError
from inverse_design.problem.target import ProfileTarget, ScalarTarget, SignatureTarget, Target
from surrogates.data.names import name_of
from surrogates.data.perturbation import Intervention
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError, UnknownNameError

Goal = dict[str, Any]


def goal_of(target: Target) -> Goal:
    """Spell a target out in the values of JSON."""
    if isinstance(target, ScalarTarget):
        return {"kind": "scalar", "readout": target.readout, "goal": target.goal, "value": target.value}
    if isinstance(target, SignatureTarget):
        return {"kind": "signature", "name": target.name, "up": dict(target.up), "down": dict(target.down)}
    return {
        "kind": "profile",
        "name": target.name,
        "readouts": list(target.readouts),
        "values": target.values.tolist(),
        "standard_errors": None if target.standard_errors is None else target.standard_errors.tolist(),
        "weights": None if target.weights is None else target.weights.tolist(),
    }


def target_of_goal(goal: Mapping[str, Any]) -> Target:
    """Read a target from the log."""
    stated = {key: value for key, value in goal.items() if key != "kind"}
    if goal["kind"] == "scalar":
        return ScalarTarget(**stated)
    if goal["kind"] == "signature":
        return SignatureTarget(**stated)
    errors, weights = stated["standard_errors"], stated["weights"]
    return ProfileTarget(
        name=stated["name"],
        readouts=tuple(stated["readouts"]),
        values=torch.tensor(stated["values"], dtype=torch.float64),
        standard_errors=None if errors is None else torch.tensor(errors, dtype=torch.float64),
        weights=None if weights is None else torch.tensor(weights, dtype=torch.float64),
    )


_LARGEST = 900_000_000  # bytes; both databases hold values of up to 1 GB


def screen_to_bytes(screen: Screen) -> bytes:
    """Write a screen of one context; annotations are left out."""
    require_usable(screen)
    names = json.dumps(
        {
            "entries": [[each.target, each.mode, each.dose] for each in screen.vocabulary.entries],
            "readouts": screen.readouts,
            "context": screen.contexts[0] if screen.contexts else "",
            "provenance": dict(screen.provenance),
        }
    )
    # A header of safetensors ends at 100 MB and is parsed whole: the names are numbers, too.
    tensors = {
        "effects": screen.effects,
        "genes": screen.batch.genes,
        "names": torch.frombuffer(bytearray(names.encode()), dtype=torch.uint8),
    }
    if screen.standard_errors is not None:
        tensors["standard_errors"] = screen.standard_errors
    content: bytes = save({name: each.contiguous() for name, each in tensors.items()})
    if len(content) > _LARGEST:
        raise StoreError(
            f"the starting screen takes {len(content) / 1e6:,.0f} MB, more than {_LARGEST / 1e6:,.0f} MB that a"
            " database holds in one value; keep fewer readouts"
        )
    return content


def require_usable(screen: Screen) -> None:
    """Refuse a screen of several contexts."""
    if len(set(screen.contexts)) > 1:
        names = ", ".join(sorted(map(repr, set(screen.contexts)))[:5])
        raise DataError(f"a campaign is run in one context, and the screen holds {names}; take one of them")


def screen_from_bytes(content: bytes) -> Screen:
    """Read a screen."""
    read: dict[str, Tensor] = load(content)
    names = json.loads(read["names"].numpy().tobytes())
    vocabulary = Vocabulary(tuple(Intervention(*each) for each in names["entries"]))
    batch: PerturbationBatch = vocabulary.dosed(read["genes"])
    return Screen(
        effects=read["effects"],
        batch=batch,
        vocabulary=vocabulary,
        readouts=tuple(names["readouts"]),
        contexts=(names["context"],) * len(batch),
        standard_errors=read.get("standard_errors"),
        annotations=pd.DataFrame(index=range(len(batch))),
        provenance=names["provenance"],
    )


def settings_for(settings: CampaignSettings | None, stated: Mapping[str, object], target: str) -> CampaignSettings:
    """Complete the settings of a campaign by what is stated beside them."""
    first = {"name": "campaign", "target": " ".join(target.split())}
    known = first if settings is None else settings_as_json(settings)
    return settings_of({**known, **stated})


def user_name() -> str:
    """Say who acts, unless it is stated."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return "unknown"


def begin(store: Store, settings: CampaignSettings, screen: Screen, *, target: Target, actor: str) -> None:
    """Check what a campaign stands on, and write its first event."""
    require_beginning(settings, screen, target)
    actor = name_of(actor, "name of who acts")
    created = Created(settings_as_json(settings), goal_of(target), len(screen))
    key = f"{_stem(settings.name)}-{secrets.token_hex(4)}"
    store.create(settings.name, key, created, screen=screen_to_bytes(screen), actor=actor)


def require_beginning(settings: CampaignSettings, screen: Screen, target: Target) -> None:
    """Check settings, screen and target against each other; no store is needed."""
    name_of(settings.name, "name of the campaign")
    target.on(screen.readouts)
    _require_names(settings, screen.vocabulary)
    require_usable(screen)


def beginning_of(log: Log) -> Created:
    """Read how a campaign began."""
    created = log.newest("created")
    if created is None or not isinstance(created.event, Created):
        raise StoreError(f"the log of campaign {log.key!r} has no beginning; restore it from a copy")
    return created.event


def start_of(log: Log) -> Screen:
    """Read the starting screen."""
    created = log.newest("created")
    if created is None or created.artefact is None:
        raise StoreError(f"the log of campaign {log.key!r} has no starting screen; restore it from a copy")
    return screen_from_bytes(log.artefact(created.artefact))


def _stem(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:40] or "campaign"


def _require_names(settings: CampaignSettings, vocabulary: Vocabulary) -> None:
    known = frozenset(vocabulary.targets) | frozenset(vocabulary.ids)
    for name in (*settings.exclude, *chain.from_iterable(settings.incompatible), *settings.costs):
        if name not in known:
            raise UnknownNameError.from_known("gene or compound", name, known)
