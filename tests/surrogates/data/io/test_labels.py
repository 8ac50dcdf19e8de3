import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies.perturbations import libraries, targets

from surrogates.data.io.labels import (
    SEPARATORS,
    Controls,
    LabelFormat,
    control_family,
    dose_parts,
    find_separator,
    read_label,
    stated_separator,
)
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.errors import DataError


def read(label: str, form: LabelFormat, *doses: str) -> Perturbation:
    return form.perturbation(form.split(label), doses, "compound")


@given(libraries(), st.sampled_from(SEPARATORS))
def test_any_separator_is_found_when_a_pair_uses_it(library: list[Perturbation], sep: str) -> None:
    labels = {sep.join(one.targets) for one in library} | {"GENE0", "GENE1", sep.join(("GENE0", "GENE1"))}
    form, _ = find_separator(labels | {f"GENE{number}" for number in range(6)}, Controls())
    assert form.sep == sep
    assert all(read(sep.join(one.targets), form).targets == one.targets for one in library)


@given(targets, st.sampled_from(["ctrl", "CTRL", "control"]))
def test_control_tokens_vanish(target: str, token: str) -> None:
    form = LabelFormat("+", Controls())
    done = {read(label, form).targets for label in (target, f"{target}+{token}", f"{token}+{target}")}
    assert done == {(target,)}
    assert read(f"{token}+{token}", form) == Perturbation()


def test_underscores_divide_only_between_known_names() -> None:
    form, rule = find_separator({"A", "B", "A_B", "HLA_X", "A_ctrl"}, Controls())
    assert [form.split(label) for label in ("A_B", "HLA_X", "A_ctrl")] == [("A", "B"), ("HLA_X",), ("A", "ctrl")]
    assert "1 kept whole, such as 'HLA_X'" in rule


def test_an_underscore_that_divides_in_two_ways_is_refused() -> None:
    form, _ = find_separator({"A", "B_C", "A_B", "C", "A_B_C"}, frozenset())
    with pytest.raises(DataError, match=r"'A_B_C' can be A\+B_C or A_B\+C"):
        form.split("A_B_C")


def test_doses_stand_in_labels() -> None:
    form, _ = find_separator({"901|1.5", "901|1.5,HN|6"}, Controls())
    wanted = Perturbation((Intervention("901", "compound", 1.5), Intervention("HN", "compound", 6.0)))
    assert read("901|1.5,HN|6", form) == wanted


@pytest.mark.parametrize(
    ("text", "dose"),
    [("1.0uM", 1.0), ("250 nM", 0.25), ("3", 3.0), ("1e-2µM", 0.01), ("0.5 mM", 500.0), ("2M", 2e6)],
)
def test_doses_have_units(text: str, dose: float) -> None:
    assert read(f"drug@{text}", LabelFormat("+", frozenset())).interventions[0].dose == dose


def test_doses_of_parts_are_matched_before_controls_vanish() -> None:
    form = LabelFormat("+", frozenset({"ctrl"}))
    assert read("ctrl+A", form, *dose_parts("1+2.5")).interventions == (Intervention("A", "compound", 2.5),)
    assert read("A+B", form, "3").label == "A@3+B@3"


def test_a_lone_dose_may_be_written_with_an_exponent() -> None:
    assert dose_parts("1e+3") == ("1e+3",)


@pytest.mark.parametrize(
    ("label", "doses", "message"),
    [
        ("x" * 1000, (), "a label of 1000 characters"),
        ("A\x00", (), "printable"),
        ("A", ("high",), "dose 'high' of 'A' is not a number"),
        ("A", ("-1",), "dose '-1' of 'A' is not a number"),
        ("A+B+C", ("1", "2"), "2 doses .* for 3 parts"),
    ],
)
def test_hostile_labels_are_refused(label: str, doses: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(label, LabelFormat("+", Controls()), *doses)


@pytest.mark.parametrize(
    ("words", "family"),
    [
        ("NTC ntc_1 NTC-02", "ntc"),
        ("NegCtrl0 NegCtrl10 neg-ctrl-3 NegCtrl", "negctrl"),
        ("non-targeting nontargeting non_targeting Non-Targeting_00012", "nontargeting"),
        ("NO-TARGET no_target", "notarget"),
        ("DMSO", "dmso"),
        ("ctl_untrt", "ctluntrt"),
    ],
)
def test_spellings_and_numbered_guides_of_a_control_are_one_family(words: str, family: str) -> None:
    assert {control_family(word) for word in words.split()} == {family}


KNOWN_CONTROLS = """
NTC NT NegCtrl3 NegCtrl scrambled no-guide NO-TARGET nontargeting non_targeting safe-targeting intergenic
ctl_vehicle ctl_untrt DMSO DMSO_TF vehicle untreated mock PBS empty_vector sgNTC siScr gene_ntc neg_control
Neg-Ctrl NT_sgRNA_2
non-targeting_control_0012 untransduced EGFP LacZ water DMSO_control no_treatment
"""


@pytest.mark.parametrize("word", KNOWN_CONTROLS.split())
def test_each_word_for_a_control_is_one_alone_beside_a_gene_and_twice(word: str) -> None:
    for sep in ("+", "_", " and "):
        labels = {"A", "B", f"A{sep}B", f"{word}{sep}A", f"C{sep}{word}", f"{word}{sep}{word}", word}
        form, _ = find_separator(labels, Controls())
        wanted = {"A", "B", "C", "A+B", ""}
        assert {read(label, form).label for label in labels} == wanted, sep


@pytest.mark.parametrize(
    "gene", ["WT1", "NT5E", "TNF", "AAVS1", "CTRL1", "MOCK2", "A", "EVI1", "SGK1", "NEGR1", "SCR2"]
)
def test_genes_are_no_controls(gene: str) -> None:
    assert control_family(gene) is None
    assert gene not in Controls()


def test_names_with_a_plus_survive() -> None:
    form, _ = find_separator({"JQ1", "Vitamin C+E", "SAHA", "JQ1_Vitamin C+E", "SAHA_JQ1"}, Controls())
    assert read("JQ1_Vitamin C+E", form).targets == ("JQ1", "Vitamin C+E")
    form, _ = find_separator({"(+)-JQ1", "SAHA", "(+)-JQ1+SAHA"}, Controls())
    assert read("(+)-JQ1+SAHA", form).targets == ("(+)-JQ1", "SAHA")
    salt = "[Na+].[Cl-]"
    assert read(salt, find_separator({salt, "CCO"}, Controls())[0]).targets == (salt,)


def test_a_name_with_a_plus_is_whole_where_its_parts_stand_nowhere_else() -> None:
    labels = {"JQ1", "SAHA", "Vitamin C+E", "JQ1+Vitamin C+E", "Vitamin C+E+SAHA", "JQ1+SAHA"}
    form, rule = find_separator(labels, Controls())
    assert "'Vitamin C+E' is one name" in rule
    assert read("Vitamin C+E+SAHA", form).targets == ("SAHA", "Vitamin C+E")
    assert read("JQ1+SAHA", form).targets == ("JQ1", "SAHA")
    pairs = {"A+B", "A+C", "B+C", "A+B+C", "D+E"}
    assert find_separator(pairs, Controls())[0].whole == frozenset()


@given(
    libraries(),
    st.sampled_from(
        [" and ", "_AND_", " with ", ".", "--", "::", "//", "||", "++", "^", "#", "=", " vs ", "x", "_+_"]
    ),
    st.sampled_from(["", "NTC"]),
)
def test_whatever_stands_between_names_known_alone_divides_them(
    library: list[Perturbation], sep: str, pad: str
) -> None:
    alone = {f"GENE{number}": f"GENE{number}{sep}{pad}" if pad else f"GENE{number}" for number in range(6)}
    of_library = {sep.join(one.targets) if one.order > 1 else alone[one.targets[0]] for one in library}
    labels = of_library | set(alone.values()) | {sep.join(("GENE0", "GENE1")), sep.join(("GENE2", "GENE3"))}
    form, _ = find_separator(labels, Controls())
    for one in library:
        label = alone[one.targets[0]] if one.order == 1 else sep.join(one.targets)
        assert read(label, form).targets == one.targets


def test_two_separators_are_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"'A_B' is a combination by '_', and 'A-C' by '-'"):
        find_separator({"A", "B", "C", "A_B", "A-C"}, Controls())


def test_a_hyphen_that_is_stated_leaves_known_names_whole() -> None:
    labels = {"HLA-A", "KLF1", "NKX2-1", "HLA-A-KLF1", "NKX2-1-HLA-A"}
    form, rule = stated_separator(labels, "-", Controls())
    assert form.split("NKX2-1-HLA-A") == ("NKX2-1", "HLA-A")
    assert form.split("HLA-A") == ("HLA-A",)
    assert "2 kept whole" in rule


def test_parts_at_dose_zero_were_not_given() -> None:
    form = LabelFormat(None, Controls())
    assert form.perturbation(("A", "B"), ("0", "0.5"), "compound").label == "B@0.5"
    assert form.perturbation(("A", "B"), ("0.0", "0"), "compound") == Perturbation()


def test_labels_of_tahoe_hold_their_doses() -> None:
    form, _ = find_separator({"[('JQ1', 0.05, 'uM')]", "[('JQ1', 0.05, 'uM'), ('SAHA', 5, 'nM')]"}, Controls())
    assert read("[('JQ1', 0.05, 'uM'), ('SAHA', 5, 'nM')]", form).label == "JQ1@0.05+SAHA@0.005"


def test_readthrough_genes_are_no_combinations() -> None:
    labels = {"BIVM", "ERCC5", "BIVM-ERCC5", "HLA-A", "HLA-B", "NKX2-1", "MYC"}
    form, rule = find_separator(labels, Controls())
    assert form.split("BIVM-ERCC5") == ("BIVM-ERCC5",)
    assert "'BIVM-ERCC5' and the like are one name each" in rule


@pytest.mark.parametrize("form", ["('{}', '{}')", "['{}', '{}']", '["{}", "{}"]', "{{'{}', '{}'}}"])
def test_lists_of_names_are_read(form: str) -> None:
    found, _ = find_separator({form.format("A", "B"), "['A']"}, Controls())
    assert read(form.format("A", "B"), found).targets == ("A", "B")
    assert read("['A']", found).targets == ("A",)


@pytest.mark.parametrize(
    "form",
    [
        "{}_{}uM",
        "{} {} uM",
        "{} ({} uM)",
        "{}-{}µM",
        "{}, {} uM",
        "{}_{}_uM",
        "{}({}uM)",
        "{}_{}",
        "{}:{}",
        "{}@{}",
    ],
)
def test_doses_behind_names_are_read(form: str) -> None:
    labels = {form.format(name, dose) for name in ("JQ1", "Drug B") for dose in ("0.05", "0.5")}
    found, _ = find_separator(labels, Controls())
    assert {read(label, found).label for label in labels} == {"JQ1@0.05", "JQ1@0.5", "Drug B@0.05", "Drug B@0.5"}


def test_a_label_is_read_as_a_file_writes_it() -> None:
    targets = ("GATA1", "MYC", "HLA-A", "jq1", "JQ1")
    for text in ("GATA1_MYC", "myc+gata1", "GATA1;MYC", "MYC-GATA1", "MYC,GATA1"):
        assert read_label(text, targets) == Perturbation.parse("GATA1+MYC")
    assert read_label("HLA-A_MYC", targets) == Perturbation.parse("HLA-A+MYC")
    assert read_label("NTC+MYC", targets) == Perturbation.parse("MYC")
    assert read_label("Jq1", targets) is None  # two targets differ from it in case only
    assert read_label("KLF1_MYC", targets) is None
    assert read_label("c-myc and gata1", targets) == Perturbation.parse("GATA1+MYC")


anything = st.text(st.sampled_from("ab+@:()[]1 "), min_size=1, max_size=8).filter(
    lambda name: name == name.strip()
)


@given(st.lists(anything, min_size=1, max_size=3, unique=True), st.sampled_from([1.0, 0.5]))
def test_any_name_is_read_back_from_a_label(names: list[str], dose: float) -> None:
    done = Perturbation(tuple(Intervention(name, "compound", dose) for name in names))
    assert Perturbation.parse(done.label, mode="compound") == done
