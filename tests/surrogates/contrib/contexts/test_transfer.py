from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
import torch
from jaxtyping import Float
from strategies.contexts import effect_of, factor_screen
from strategies.screens import normal
from torch import Tensor

from surrogates.contrib.contexts.transfer import Transfer, fit_pair_law
from surrogates.data import catalogue
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError
from surrogates.testing import check_context_surrogate

GENES = [f"G{number:02d}" for number in range(12)]
PAIRS = list(combinations(range(12), 2))


def _screen(
    own: int, *, shared: float = 0.6, other: int = 66, alone: int = 12
) -> tuple[Screen, Float[Tensor, "p"]]:
    """Build two contexts that share interactions, and the truth of all pairs in the poor one.

    Args:
        own: How many pairs are measured in the poor context.
        shared: Standard deviation of the shared interaction.
        other: How many pairs are measured in the rich context.
        alone: How many genes are measured alone in the poor context.
    """
    singles, interaction = normal(2, 12, seed=0), shared * normal(66, seed=1)
    total = torch.stack([singles[:, i] + singles[:, j] for i, j in PAIRS], dim=1)
    pairs = total + interaction + 0.1 * normal(2, 66, seed=2)
    order = torch.randperm(66, generator=torch.Generator().manual_seed(3)).tolist()
    cells = [("poor", GENES[i], singles[0, i]) for i in range(alone)]
    cells += [("rich", GENES[i], singles[1, i]) for i in range(12)]
    labels = [f"{GENES[i]}+{GENES[j]}" for i, j in PAIRS]
    cells += [("poor", labels[pair], pairs[0, pair]) for pair in order[:own]]
    cells += [("rich", labels[pair], pairs[1, pair]) for pair in range(other)]
    screen = Screen.from_labels(
        torch.stack([value for _, _, value in cells])[:, None],
        [Perturbation.parse(label) for _, label, _ in cells],
        ["growth"],
        contexts=[context for context, _, _ in cells],
    )
    return screen, pairs[0]


def _predict(screen: Screen, context: str = "poor") -> Float[Tensor, "p"]:
    view = Transfer().fit(screen, seed=0).in_context(context)
    return view.predict(view.vocabulary.dosed(torch.tensor(PAIRS))).mean[:, 0]


def test_the_contract_is_kept() -> None:
    check_context_surrogate(Transfer(), _screen(20)[0])
    check_context_surrogate(Transfer(), _screen(20, shared=0.0, other=10, alone=8)[0])
    check_context_surrogate(Transfer(), factor_screen(readouts=2, noise=0.1, without={(0, "A"), (2, "A+B")}))
    singles_only = factor_screen(contexts=3, labels=("A", "B", "C"))
    check_context_surrogate(Transfer(), singles_only)


def test_pairs_of_the_other_context_help_where_interactions_are_shared() -> None:
    screen, truth = _screen(20)
    alone, _ = _screen(20, other=0)
    with_other, without = (float((_predict(each) - truth).square().sum()) for each in (screen, alone))
    assert with_other < 0.4 * without


def test_pairs_of_an_unrelated_context_do_little_harm() -> None:
    screen, truth = _screen(30)
    shuffle = list(range(len(screen)))
    rich = [row for row in shuffle if screen.contexts[row] == "rich" and int(screen.batch.order[row]) == 2]
    effects = screen.effects.clone()
    effects[rich] = effects[list(reversed(rich))]
    unrelated = replace(screen, effects=effects)
    alone, _ = _screen(30, other=0)
    harmed, without = (float((_predict(each) - truth).square().sum()) for each in (unrelated, alone))
    assert harmed < 1.3 * without


def test_without_pairs_of_its_own_a_context_is_additive() -> None:
    screen, _ = _screen(0)
    singles = [float(effect_of(screen, "poor", gene)) for gene in GENES]
    expected = torch.tensor([singles[i] + singles[j] for i, j in PAIRS], dtype=torch.float64)
    torch.testing.assert_close(_predict(screen), expected)


def test_the_regressors_are_deviation_and_residual_of_the_other_law() -> None:
    screen, _ = _screen(20, other=50)
    view = Transfer().fit(screen, seed=0).in_context("poor")
    rich = screen.in_context("rich")
    doubles = rich.rows(torch.nonzero(rich.batch.order == 2).flatten())
    ordered = doubles.rows(sorted(range(50), key=lambda row: doubles.batch.genes[row].tolist()))
    singles = rich.effects[rich.single_rows]
    blank = torch.zeros(50, 2, 1, dtype=torch.float64)
    law = fit_pair_law(ordered.batch, ordered.effects, singles, blank)
    batch = view.vocabulary.dosed(torch.tensor(PAIRS))
    found = view.elsewhere.of(batch)
    torch.testing.assert_close(found[:, 0], law.deviation(batch))
    residuals = doubles.effects - law.mean(doubles.batch, blank)
    for row, genes in enumerate(doubles.batch.genes.tolist()):
        torch.testing.assert_close(found[PAIRS.index((genes[0], genes[1])), 1], residuals[row])
    assert not bool(found[50:, 1].any())  # pairs that the rich context has not


def test_a_single_that_a_context_lacks_is_taken_from_the_others() -> None:
    screen, _ = _screen(20, alone=9)
    view = Transfer().fit(screen, seed=0).in_context("poor")
    asked = view.vocabulary.batch([Perturbation.parse(GENES[11]), Perturbation.parse(GENES[2])])
    expected = torch.stack([effect_of(screen, "rich", GENES[11]), effect_of(screen, "poor", GENES[2])])
    assert torch.equal(view.predict(asked).mean, expected)


def test_bad_input_is_refused() -> None:
    screen, _ = _screen(20)
    with pytest.raises(DataError, match=r"only the context\(s\) \['rich'\], and one context cannot learn"):
        Transfer().fit(screen.in_context("rich"), seed=0)
    with pytest.raises(UnknownNameError, match="unknown context 'pour': did you mean 'poor'"):
        Transfer().fit(screen, seed=0).in_context("pour")
    with pytest.raises(DataError, match="none of the 4 interventions was measured alone in any context"):
        Transfer().fit(factor_screen(labels=("A+B", "C+D", "A+D")), seed=0)


@pytest.mark.real_data
def test_jurkat_pairs_from_k562_and_few_of_their_own(
    real_data: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The pairs of 40 genes; the whole library is the benchmark's.
    folder = real_data("horlbeck2018")
    tables = {line: pd.read_parquet(folder / f"{line}.parquet") for line in ("jurkat", "k562")}
    few = {*sorted(set(tables["jurkat"]["target_1"]))[5::11], "negative"}
    (tmp_path / folder.name).mkdir()
    for line, table in tables.items():
        kept = table[table["target_1"].isin(few) & table["target_2"].isin(few)]
        kept.to_parquet(tmp_path / folder.name / f"{line}.parquet")
    monkeypatch.setenv(catalogue.VARIABLE, str(tmp_path))
    screen = catalogue.open_dataset("horlbeck2018_both")
    assert set(screen.contexts) == {"Jurkat", "K562"}
    assert screen.provenance["Jurkat: source"] == "jurkat.parquet"
    here = torch.tensor([context == "Jurkat" for context in screen.contexts]) & (screen.batch.order == 2)
    pairs = torch.nonzero(here).flatten()
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(11))
    held = pairs[order[len(pairs) // 5 :]]
    train = screen.rows(sorted(set(range(len(screen))) - set(held.tolist())))
    truth = screen.effects[held]
    prediction = Transfer().fit(train, seed=0).in_context("Jurkat").predict(screen.batch.rows(held)).mean
    explained = 1 - (prediction - truth).square().sum() / (truth - truth.mean()).square().sum()
    assert float(explained) > 0.93
