"""What names of columns say: targets, doses and their units, contexts, techniques, and what is no readout."""

import re
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache

Columns = tuple[str, ...]
METADATA = "Metadata_"  # before what is no feature of a cell in profiles of images

# Names of a column in use, folded: scPerturb, GEARS, Arc, cell-eval, OP3, LINCS, sci-Plex, two-column tables.
_LABELS = (
    "perturbation", "target", "drug", "gene", "compound", "guide_target", "condition", "target_gene",
    "gene_symbol", "pert_iname", "pert", "sm_name", "product_name", "drugname", "treatment",
)  # fmt: skip
_PARTNERS = tuple(
    pair
    for name in _LABELS
    for pair in (
        (f"{name}_1", f"{name}_2"), (f"{name}1", f"{name}2"), (f"{name}_a", f"{name}_b"), (f"{name}a", f"{name}b"),
        (name, f"{name}_2"), (name, f"{name}2"), (name, f"{name}_b"), (name, f"{name}_combination"),
        (name, f"combination_{name}"), (name, f"{name}_partner"), (name, f"partner_{name}"),
    )
)  # fmt: skip
TARGET_COLUMNS: tuple[Columns, ...] = (
    *_PARTNERS, ("target", "query"), ("id1", "id2"), ("anchor", "library"), ("anchor_gene", "library_gene"),
    ("row", "col"), ("drug_row", "drug_col"), ("condition",), ("perturbation",), ("target_gene",), ("gene",),
    ("target",), ("sm_name",), ("pert_iname",), ("cmap_name",), ("product_name",), ("drug",),
    ("drugname_drugconc",), ("compound",),
)  # fmt: skip
COMPOUND_COLUMNS = frozenset({
    *(name for pair in _PARTNERS for name in pair if name.startswith(("drug", "compound"))),
    "sm_name", "pert_iname", "cmap_name", "product_name", "drug", "compound", "drug_row", "drugname_drugconc",
})  # fmt: skip
CONTEXT_COLUMNS: tuple[Columns, ...] = (
    ("cell_type",), ("celltype",), ("cell_line",), ("cell_id",), ("cell_iname",),
)  # fmt: skip
REPLICATE_COLUMNS: tuple[Columns, ...] = (("replicate",), ("rep",), ("replicate_id",))
# Names of techniques; those of ``OTHER_MODE_COLUMNS`` may say other things as well.
MODE_COLUMNS: tuple[Columns, ...] = (
    ("perturbation_type",), ("modality",), ("pert_type",), ("perturbation_technology",), ("technique",),
    ("crispr_type",), ("perturbation_method",), ("perturb_type",), ("perturbation_modality",),
    ("perturbation_mode",), ("perturbation_system",), ("pert_method",), ("modality_type",),
)  # fmt: skip
OTHER_MODE_COLUMNS: tuple[Columns, ...] = (
    ("technology",), ("method",), ("mode",), ("crispr",), ("crispr_system",), ("library_type",), ("system",),
    ("effector",), ("cas",), ("cas_type",), ("editor",), ("type",), ("assay",),
)  # fmt: skip
GROWTH_COLUMNS = frozenset({
    "score", "gi_score", "fitness", "growth", "lfc", "phenotype", "gamma", "rho", "tau", "viability",
    "essentiality",
})  # fmt: skip
_DOSES = frozenset(
    {"dose", "doses", "dosage", "conc", "concs", "concentration", "concentrations", "idose", "mmoles"}
)
_NO_DOSES = frozenset({
    "unit", "units", "id", "n", "num", "max", "min", "log", "log2", "log10", "ln", "response", "rank", "index",
    "level", "group", "time",
})  # fmt: skip
_SIDES = ("1", "2", "a", "b", "row", "col", "r", "c")
_UNIT = re.compile(r"(?:^|[\W_])([pnuµμm]?m|(?:pico|nano|micro|milli)?molar)(?=[\W_\d]|$)", re.IGNORECASE)
_OTHER_UNIT = re.compile(r"(?:^|[\W_])([nuµm]?g|kg|m?l|percent|pct|fold|gy)(?=[\W_\d]|$)|%", re.IGNORECASE)
_WRITTEN = {"molar": "M", "millimolar": "mM", "micromolar": "uM", "nanomolar": "nM", "picomolar": "pM"}
_UNIT_COLUMN = re.compile(r"((pert|drug)_)?((dose|dosage|conc|concentration)_?)?units?")

# What pipelines write beside readouts: row numbers, sizes of cells, tests, means.
NO_READOUTS = re.compile(
    r"unnamed_?\d*|index|level_\d+|row_?names?"
    r"|n_.*|num_.*|number_of_.*|n_?(counts?|genes?|perts?|cells?|umis?|features?)(_rna|_adt)?|cells|counts?|cell_counts?"
    r"|(.*_)?umis?(_counts?)?(_.*)?|total_counts.*|(percent|pct|frac|fraction)_.*|.*_(percent|pct|frac|fraction)"
    r"|(core_)?(size|scale)_?factors?|(core_)?.*_scale_factor|doublet_scores?|s_score|g2m_score"
    r"|(.*_)?(batch|plate|well|lane|chip|gem_?group|replicate|rep)(_id|_row|_col)?"
    r"|(.*_)?(adj_)?p_?(val(ue)?s?|adj)(_.*)?|(.*_)?(log_?10_?p|log_?p|fdr|q_?val(ue)?s?)(_?val(ue)?s?)?|(neg_?)?log10_?p.*|neglog.*|rank(_.*)?"
    r"|block(_id)?|pair_index|row|col(umn)?|(median|mean)_(umi|genes?|counts?).*|base_?mean|ave_?expr|lfc_?se|stat|neg_.*|pos_.*|sd_.*|.*_sd|kind",
    re.IGNORECASE,
)
GENE_NUMBERS = re.compile(r"((entrez|ncbi)_?)?(gene_?)?id|entrez")  # of genes in a database, no readouts
# Numbers that say what was done: rows that differ in them are no replicates.
OF_DESIGN = re.compile(
    r"(.*_)?(i?time|times|time_?points?|hours?|hrs?|hpi|hpt|days?|weeks?|passage|moi|temperature|ph|log_?\d*_?(dose|conc).*"
    r"|(dose|conc|concentration).*)(_h|_hours?|_min|_days?)?",
    re.IGNORECASE,
)


@lru_cache(maxsize=100_000)
def folded(name: object) -> str:
    """A name of a column without case and ``Metadata_``, with one underscore for whatever divides its words."""
    words = re.sub(r"(?<=[a-z]{2})(?=[A-Z])", "_", str(name).removeprefix(METADATA))
    return re.sub(r"[\W_]+", "_", words.casefold()).strip("_")


def dose_columns(names: Iterable[object]) -> list[Columns]:
    """Find the columns of doses, as they are written: first the pairs with one for each part, then the others."""
    sided: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    single: list[Columns] = []
    for name in map(str, names):
        words = _words(name)
        if not words & _DOSES or words & _NO_DOSES:
            continue
        side = next((each for each in _SIDES if each in words), None)
        if side is None:
            single.append((name,))
        else:
            sided[tuple(sorted(words - {side}))][side] = name
    pairs = [tuple(each[side] for side in _SIDES if side in each) for each in sided.values()]
    return [pair for pair in pairs if len(pair) == 2] + single


def unit_of(column: str) -> str:
    """The unit in the name of a column, such as ``dose_nM``, or nothing."""
    found = _UNIT.search(column)
    return _WRITTEN.get(found[1].casefold(), found[1]) if found else ""


def other_unit_of(column: str) -> str:
    """A unit in the name of a column that is none of concentration, as in ``dose_mg_ml``."""
    found = None if _UNIT.search(column) else _OTHER_UNIT.search(column)
    return found[0].strip("_ ([") if found else ""


def is_unit_column(name: object) -> bool:
    """Tell whether a column holds units of doses."""
    return _UNIT_COLUMN.fullmatch(folded(name)) is not None


@lru_cache(maxsize=100_000)
def _words(name: str) -> frozenset[str]:
    bare = _UNIT.sub("_", name)
    return frozenset(re.sub(r"(?<=[a-z])(?=\d)", "_", folded(bare)).split("_"))
