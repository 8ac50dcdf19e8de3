from dataclasses import replace

import pytest
import torch
from strategies.screens import normal

from surrogates.data.across import Actions, ActionTable, join_contexts, require_several_contexts
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import DataError


def _screen(labels: list[str], *, seed: int = 0, errors: bool = False) -> Screen:
    effects = normal(len(labels), 2, seed=seed)
    return Screen.from_labels(
        effects,
        [Perturbation.parse(label) for label in labels],
        ["x", "y"],
        standard_errors=torch.ones_like(effects) if errors else None,
        provenance={"source": str(seed)},
    )


ONE = _screen(["B", "D", "B+D"], errors=True)
OTHER = _screen(["A", "B", "C", "A+B+C"], seed=1, errors=True)


def test_joined_screens_keep_every_row() -> None:
    both = join_contexts({"one": ONE, "other": OTHER})
    assert both.vocabulary.targets == ("A", "B", "C", "D")
    assert both.labels == (*ONE.labels, *OTHER.labels)
    assert both.contexts == ("one",) * 3 + ("other",) * 4
    assert torch.equal(both.effects, torch.cat([ONE.effects, OTHER.effects]))
    assert both.batch.genes[2].tolist() == [1, 3, -1]
    assert both.standard_errors is not None
    assert both.provenance == {"one: source": "0", "other: source": "1"}
    for name, screen in {"one": ONE, "other": OTHER}.items():
        assert both.in_context(name).labels == screen.labels


def test_standard_errors_need_all_screens() -> None:
    assert join_contexts({"one": ONE, "other": replace(OTHER, standard_errors=None)}).standard_errors is None


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(DataError, match="no screens"):
        join_contexts({})
    with pytest.raises(DataError, match=r"readouts of 'other' differ .*\('y'\)"):
        join_contexts({"one": ONE, "other": OTHER.with_readouts([0])})
    with pytest.raises(DataError, match="their order"):
        join_contexts({"one": ONE, "other": OTHER.with_readouts([1, 0])})
    with pytest.raises(DataError, match="'both' has several contexts"):
        join_contexts({"both": join_contexts({"one": ONE, "other": OTHER})})
    with pytest.raises(DataError, match="cannot learn; join screens"):
        require_several_contexts(ONE, what="learn")


def test_actions_are_found_whatever_the_number_of_slots() -> None:
    vocabulary = Vocabulary.of([Perturbation.parse("A+B+C+D")])
    known = [Perturbation.parse(label) for label in ("A", "A+C", "B+D", "D")]
    batch = vocabulary.batch(known)
    actions = Actions(torch.unique(batch.genes, dim=0))
    asked = ["D", "C", "A+C", "A+B+C", "", "A", "D"]
    found = actions.find(vocabulary.batch([Perturbation.parse(label) for label in asked]))
    spelled = [None if each < 0 else vocabulary.perturbation(actions.genes[each]).label for each in found.tolist()]
    assert spelled == ["D", None, "A+C", None, None, "A", "D"]
    narrow = actions.find(vocabulary.batch([Perturbation.parse("B")], slots=1))
    assert narrow.tolist() == [-1]


def test_the_table_holds_each_measurement_where_it_belongs() -> None:
    both = join_contexts({"one": ONE, "other": OTHER})
    shuffled = both.rows([5, 2, 0, 6, 1, 4, 3])
    table, again = ActionTable.of(both), ActionTable.of(shuffled)
    assert torch.equal(table.effects, again.effects)
    assert torch.equal(table.measured, again.measured)
    assert int(table.measured.sum()) == len(both)
    for row, context in enumerate(both.contexts):
        action = int(table.actions.find(both.batch.rows(slice(row, row + 1))))
        assert torch.equal(table.effects[table.contexts.index(context), action], both.effects[row])
    alone = [table.batch.genes[each].tolist() for each in table.alone.tolist()]
    assert alone == [[0, -1, -1], [1, -1, -1], [2, -1, -1], [3, -1, -1]]


def test_a_screen_without_rows_has_no_table() -> None:
    with pytest.raises(DataError, match="no conditions"):
        ActionTable.of(ONE.rows([]))
