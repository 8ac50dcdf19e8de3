from strategies.screens import planted_screen

from surrogates.data.novelty import own_columns, own_marks
from surrogates.data.perturbation import Perturbation
from surrogates.data.vocabulary import Vocabulary

SCREEN = planted_screen(alone=range(4), together=[(0, 1), (1, 3)], readouts=3)


def test_the_own_readout_of_an_entry_bears_the_name_of_its_target() -> None:
    vocabulary = Vocabulary.of([Perturbation.parse("A@1+B"), Perturbation.parse("A@2+C")])
    assert vocabulary.targets == ("A", "A", "B", "C")
    assert own_columns(vocabulary, ["B", "x", "A"]).tolist() == [2, 2, 0, -1]


def test_marks_are_those_of_a_slow_search() -> None:
    readouts = ("G03", "r", "G00", "G01")
    marks = own_marks(SCREEN.batch, own_columns(SCREEN.vocabulary, readouts), len(readouts))
    for row, label in enumerate(SCREEN.labels):
        assert marks[row].tolist() == [readout in label.split("+") for readout in readouts]


def test_nothing_is_marked_where_no_target_is_a_readout() -> None:
    assert not own_marks(SCREEN.batch, own_columns(SCREEN.vocabulary, SCREEN.readouts), 3).any()
    empty = own_marks(SCREEN.batch.rows(slice(0, 0)), own_columns(SCREEN.vocabulary, ["G01"]), 1)
    assert empty.shape == (0, 1)
