"""The starting screen of a campaign as an artefact: the content of a safetensors file."""

import json

import pandas as pd
import torch
from safetensors.torch import load, save
from torch import Tensor

from inverse_design.errors import StoreError
from surrogates.data.perturbation import Intervention
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError

_LARGEST = 900_000_000  # bytes; both databases hold values of up to 1 GB


def screen_to_bytes(screen: Screen) -> bytes:
    """Write a screen of one context; annotations are left out.

    Args:
        screen: What is known when a campaign begins.

    Returns:
        The content of a safetensors file.

    Raises:
        DataError: If the screen holds several contexts.
        StoreError: If it is too large for a database.
    """
    require_one_context(screen)
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


def require_one_context(screen: Screen) -> None:
    """Refuse a screen of several contexts.

    Args:
        screen: What is known when a campaign begins.

    Raises:
        DataError: If it holds several.
    """
    if len(set(screen.contexts)) > 1:
        names = ", ".join(sorted(map(repr, set(screen.contexts)))[:5])
        raise DataError(f"a campaign is run in one context, and the screen holds {names}; take one of them")


def screen_from_bytes(content: bytes) -> Screen:
    """Read a screen.

    Args:
        content: What :func:`screen_to_bytes` has written.

    Returns:
        The screen, number by number.
    """
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
