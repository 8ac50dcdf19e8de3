"""The starting screen as the content of a file."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from strategies.campaigns import starting_screen
from strategies.screens import pairs_of, planted_screen

from inverse_design.campaign import create as module
from inverse_design.campaign.create import screen_from_bytes, screen_to_bytes
from inverse_design.errors import StoreError
from surrogates.data.novelty import folds_of_doubles


def test_numbers_and_names_come_back_and_annotations_are_one_empty_row_per_condition() -> None:
    screen = planted_screen(alone=range(6), together=pairs_of(6, 8), readouts=4)
    screen = replace(
        screen,
        standard_errors=torch.full_like(screen.effects, 1 / 3),
        annotations=pd.DataFrame({"double_fold": range(len(screen)), "note": "x"}),
        provenance={"dataset": "planted", "unit": "log2 fold change"},
    )
    found = screen_from_bytes(screen_to_bytes(screen))
    assert torch.equal(found.effects, screen.effects)
    assert found.standard_errors is not None
    assert torch.equal(found.standard_errors, torch.full_like(screen.effects, 1 / 3))
    assert (found.labels, found.readouts, found.contexts) == (screen.labels, screen.readouts, screen.contexts)
    assert (found.vocabulary, found.provenance) == (screen.vocabulary, screen.provenance)
    assert found.annotations.shape == (len(screen), 0)
    assert found.rows([2, 0]).annotations.shape == (2, 0)
    plain = replace(screen, annotations=pd.DataFrame(index=range(len(screen))))
    assert torch.equal(folds_of_doubles(found, seed=3), folds_of_doubles(plain, seed=3))


def test_the_bytes_are_those_of_the_content() -> None:
    assert screen_to_bytes(starting_screen()) == screen_to_bytes(starting_screen())
    assert screen_to_bytes(starting_screen()) != screen_to_bytes(starting_screen(seed=1))
    assert screen_from_bytes(screen_to_bytes(starting_screen())).standard_errors is None


def test_a_screen_too_large_for_a_database_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST", 100)
    with pytest.raises(StoreError, match="keep fewer readouts"):
        screen_to_bytes(starting_screen())
