import pytest
import torch
from hypothesis import given
from strategies.perturbations import libraries, perturbations

from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import DataError, UnknownNameError


@given(libraries())
def test_batch_spells_back(library: list[Perturbation]) -> None:
    vocabulary = Vocabulary.of(library)
    batch = vocabulary.batch(library)
    assert [vocabulary.perturbation(genes) for genes in batch.genes] == library


@given(libraries())
def test_ids_ascend_and_empty_slots_are_last(library: list[Perturbation]) -> None:
    batch = Vocabulary.of(library).batch(library, slots=3)
    filled = torch.where(batch.present, batch.genes, 10**6)
    assert torch.equal(filled, filled.sort(dim=1).values)
    assert batch.order.tolist() == [one.order for one in library]
    assert bool((batch.dose[~batch.present] == 0).all())


@given(perturbations(lowest=1))
def test_parse_reads_what_label_wrote(perturbation: Perturbation) -> None:
    assert Vocabulary.of([perturbation]).parse(perturbation.label) == perturbation


@given(libraries())
def test_multi_hot_counts_the_parts(library: list[Perturbation]) -> None:
    vocabulary = Vocabulary.of(library)
    batch = vocabulary.batch(library)
    assert torch.equal(batch.multi_hot(len(vocabulary)).sum(dim=1), batch.order.to(torch.float64))


def test_unknown_names_come_with_the_nearest() -> None:
    vocabulary = Vocabulary((Intervention("KLF1"), Intervention("CEBPE")))
    with pytest.raises(UnknownNameError, match="did you mean 'KLF1'"):
        vocabulary.parse("KLF2+CEBPE")


def test_one_target_in_two_modes_is_refused() -> None:
    with pytest.raises(DataError, match="one mode at a time"):
        Vocabulary((Intervention("KLF1"), Intervention("KLF1", "knockdown")))


def test_too_few_slots_are_refused() -> None:
    done = Perturbation.parse("A+B")
    with pytest.raises(DataError, match="order 2, more than 1 slots"):
        Vocabulary.of([done]).batch([done], slots=1)


@pytest.mark.parametrize("text", ["KLF1_CEBPE", "cebpe+klf1", "KLF1;CEBPE", "CEBPE-KLF1", "KLF1 & CEBPE"])
def test_labels_are_read_as_a_file_may_write_them(text: str) -> None:
    entries = tuple(Intervention(name) for name in ("CEBPE", "HLA-A", "KLF1"))
    assert Vocabulary(entries).parse(text).label == "CEBPE+KLF1"
    assert Vocabulary(entries).parse("KLF1+NTC").label == "KLF1"
    assert Vocabulary(entries).parse("HLA-A_KLF1").label == "HLA-A+KLF1"
    with pytest.raises(UnknownNameError, match="'KLF2'"):
        Vocabulary(entries).parse("KLF2+CEBPE")
