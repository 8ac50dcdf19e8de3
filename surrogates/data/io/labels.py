"""How a label spells a perturbation: separators, control words, cells without a call, and doses."""

import re
from collections import Counter
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from surrogates.data.names import LONGEST_NAME
from surrogates.data.perturbation import Intervention, Mode, Perturbation, split_label
from surrogates.data.symbols import gene_key
from surrogates.errors import DataError, listed, shown

# Controls, without blanks and hyphens; around them may stand that they are guides or controls, and a number.
_CONTROL_WORDS = (
    "ctrl", "controls?", "ctl", "nt", "ntc", "neg", "negative", "negctrl", "negctl", "negcontrol", "negativectrl",
    "negativecontrol", "non?target(ing|ed)?", "no(guide|s?grna|drug|treatment|compound|perturbation|stimulation)",
    "safe(target(ing|ed)?|harbou?r)?", "intergenic", "scr", "scrambled?", "ev", "emptyvector", "vector",
    "dmso(tf)?", "dimethylsulfoxide", "vehicle", "untr(ea)?t(ed)?",
    "un(transduced|transfected|infected|perturbed|stimulated)", "nonperturbed", "wt", "wildtype", "pbs", "saline",
    "water", "h2o", "parental", "medium", "media", "mock", "e?gfp", "lacz", "luc(iferase)?", "mcherry",
)  # fmt: skip
_CONTROL = re.compile(
    rf"((s?g|si|sh)(rna)?|gene|guide)?(ctrl|control|ctl)?({'|'.join(_CONTROL_WORDS)}|none(?=ctrl|control|ctl))"
    r"(controls?|ctrl|ctl|guides?|(s?g|si|sh)?rna|sg|treated|treatment|only|cells|vehicle|vector)*"
)
_HYPHENS = re.compile(r"[-_ .()]+")
# With a number right behind it, no gene: NTC1, but neither WT1 nor NT5.
_NUMBERED = re.compile(
    r"(si|sh|sg|gene)?((neg|negative)(ctrl|control|ctl)|ntc|non?target.*|noguide|safe.*|intergenic|scrambled?)"
)
# Words that are names of genes, too: a control only where nothing else is one.
GENES_AS_WELL = frozenset({"ctrl", "wt", "neg", "nt", "ev", "ctl", "scr", "luc"})
# CTRL is a gene, too (chymotrypsin like): who measured one of its family or so many genes may have measured it.
_FAMILY_OF_CTRL, _WHOLE_LIBRARY = frozenset({"CTRB1", "CTRB2", "CTRC"}), 2000
_NEVER_NUMBERED = frozenset({"wt", "neg", "ev", "scr", "luc", "negative"})
# Cells of which nobody knows what was done to them, and rows that sum others up.
_WITHOUT_CALL = frozenset({
    "unassigned", "unmapped", "undetermined", "undefined", "undetected", "unlabeled", "unlabelled", "unknown",
    "nan", "none", "na", "n/a", "<na>", "#n/a", "null", "nocall", "notassigned", "notdetected", "nonedetected",
    "nofeature", "noguidedetected", "nosg", "unassignedguide", "multiplet", "multiplets", "multi", "multiple",
    "doublet", "doublets", "singlet", "singlets", "negative", "empty", "ambiguous", "unclear", "lowquality",
    "filtered", "other", "others", "mean", "average", "median", "total", "grandtotal", "sum", "sd", "stdev", "sem",
    "intercept",
})  # fmt: skip
_COUNTED = re.compile(r"[<>≤≥]=?\d+(guides?|s?grnas?|features?)?")  # guides of a cell, none of them named
# In the column of a partner.
NO_PARTNER = frozenset({"nan", "none", "na", "n/a", "<na>", "null", "-", "empty", "0", "single"})
ALWAYS_JOIN = ("+", "|", ";", " & ")  # between the parts of a combination, whatever these are
JOIN_KNOWN = (",", "_", "__", "-", "/", ":", "~", "*", "&", " x ", " ")  # only between names that are known alone
SEPARATORS = (*ALWAYS_JOIN, *JOIN_KNOWN)
DOSED_SEPARATOR = ","
_MOST_PARTS = 50
_LONGEST_COMBINATION = 5 * LONGEST_NAME
_FEW = 2  # labels in which two names may stand together only
_PREFIXES = {"p": 1e-6, "n": 1e-3, "u": 1.0, "µ": 1.0, "μ": 1.0, "m": 1e3}  # the micro sign and the Greek mu
UNITS = {"": 1.0, "M": 1e6, **{f"{prefix}{m}": size for prefix, size in _PREFIXES.items() for m in "Mm"}}  # in µM
NO_DOSE = frozenset({"", "-666", "-666.0"})  # as LINCS writes it

TUPLES = "[(name, dose, unit)]"  # as Tahoe-100M writes labels
LISTED = "('name', 'name')"  # as a column of lists or tuples is written out
DOSED_NAMES = "name_dose"  # a number with a point behind each name
TWICE = "A_B__A_B"  # as Norman 2019 writes the two guides of a cell
NUMBERED = "number_gene_promoter_id"  # as Replogle 2022 does
_WRITTEN_UNITS = ("pM", "nM", "uM", "mM", "M")

_UNIT = "[pnuµμm]?M|[pnuµμm]m"
_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?"
_DOSE = re.compile(rf"^({_NUMBER})\s*({_UNIT})?$")  # the micro sign and the Greek mu both occur
_DOSED_PART = re.compile(
    rf"^(.+?)(?:[@|]\s*({_NUMBER}\s*(?:{_UNIT})?)|[\s_:,(-]+({_NUMBER}[\s_]*(?:[pnuµμm]M|[pnuµμ]m))\)?)$"
)
_BELOW_ZERO = re.compile(rf"^.+?@\s*(-{_NUMBER}\s*(?:{_UNIT})?)$")
_DOSED_LIST = re.compile(rf"^[^|,]+\|{_NUMBER}(,[^|,]+\|{_NUMBER})*$")
_TUPLE = re.compile(rf"\(\s*['\"]([^'\"]+)['\"]\s*,\s*({_NUMBER})\s*,\s*['\"]({_UNIT})['\"]\s*\)")
_TUPLES = re.compile(rf"\[?\s*{_TUPLE.pattern}.*")
_LISTED = re.compile(r"[\[({]\s*(?:'[^']*'|\"[^\"]*\")(?:\s*,\s*(?:'[^']*'|\"[^\"]*\"))*\s*,?\s*[\])}]")
_DOSED_NAME = re.compile(r"(.*[^\s_:(+-])[\s_:(-]+(\d*\.\d+)\)?")
_OF_FORM = {
    TWICE: re.compile(r"([^_]+)_([^_]+)__\1_\2"),
    NUMBERED: re.compile(r"\d+_([^_]+)_(?:P\d\w*|non-targeting|nan)_(?:ENSG\d+|non-targeting|nan)"),
}
_BRACKETED = re.compile(r"\(([^()]+)\)")  # (KLF1+MYC)
_STRAND = re.compile(r"_\+_\d")  # in the name of a guide: AAAS_+_53715438.23-P1P2
_GLUE = re.compile(
    r"[\W_]+(?:(?:and|with|plus|vs|versus|x)[\W_]+)?|(?-i:(?<=[A-Z0-9])x(?=[A-Z0-9]))", re.IGNORECASE
)


def may_be_gene(control: str, names: Collection[str]) -> bool:
    """Tell whether a word for controls may be a gene among some names: ``CTRL`` in a large library."""
    return control == "CTRL" and (len(names) > _WHOLE_LIBRARY or not _FAMILY_OF_CTRL.isdisjoint(names))


@lru_cache(maxsize=100_000)
def control_family(text: str) -> str | None:
    """Name the kind of control that a word stands for: ``nontargeting`` for ``non-targeting_00012``.

    Spellings of one word with and without hyphens, and numbered guides, are one family.
    """
    word = text.strip().casefold()
    if word[-1:] == "." and word[-2:-1].isalpha():  # an abbreviation: Ctrl.
        word = word[:-1]
    if word[:1] in "-_ ." or word[-1:] in "-_ .":
        return None
    squeezed = _HYPHENS.sub("", word)
    if _CONTROL.fullmatch(squeezed):
        return squeezed
    bare = squeezed.rstrip("0123456789")
    apart = not word.removesuffix(")").rstrip("0123456789")[-1:].isalnum()
    if bare == squeezed or not _CONTROL.fullmatch(bare) or not (apart or _NUMBERED.match(bare)):
        return None
    return None if bare in _NEVER_NUMBERED else bare


def without_call(text: str, controls: Container[str]) -> bool:
    """Tell whether a label says that nobody knows what was done to a cell."""
    squeezed = _HYPHENS.sub("", text.casefold()).strip("?")
    empty = not squeezed or squeezed in _WITHOUT_CALL or _COUNTED.fullmatch(squeezed) is not None
    return bool(text) and empty and text not in controls


@dataclass(frozen=True)
class Controls:
    """Which words say that nothing was done."""

    words: frozenset[str] = frozenset()  # case-folded, as stated or as found
    stated: bool = False  # no other word is one

    def __contains__(self, text: object) -> bool:
        """Tell whether a word is a control."""
        word = str(text).strip().casefold()
        return word in self.words or (not self.stated and control_family(word) is not None)


@dataclass(frozen=True)
class LabelFormat:
    """How the labels of one table are to be read."""

    sep: str | None  # what stands between the parts of a combination; ``None`` when labels are single parts
    controls: Container[str]  # words that mean that nothing was done, case-folded
    singles: frozenset[str] | None = None  # if given, ``sep`` divides only between two of these
    whole: frozenset[tuple[str, ...]] = frozenset()  # pieces that are one name, as ``Vitamin C`` and ``E``

    def split(self, label: str) -> tuple[str, ...]:
        """Divide a label into its parts."""
        if self.sep is None or label.strip().casefold() in self.controls:
            return (label.strip(),)
        if self.singles is None:
            return _rejoined(_pieces(label, self.sep), self.sep, self.whole)
        cuts = [cut for cut in _halvings(label, self.sep) if all(map(self._is_known, cut))]
        ways = sorted({tuple(part for half in cut for part in self.split(half)) for cut in cuts})
        if len({tuple(part for part in way if part not in self.controls) for way in ways}) > 1:
            raise DataError(
                f"label {label!r} can be {' or '.join('+'.join(way) for way in ways)}: both halves are known"
                " names either way; write combinations with '+' in the file"
            )
        return min(ways, key=len) if ways else (label.strip(),)

    def _is_known(self, name: str) -> bool:
        return name.casefold() in self.controls or name in (self.singles or ())

    def perturbation(self, parts: Sequence[str], doses: Sequence[str], mode: Mode) -> Perturbation:
        """Build what was done from the parts of a label; controls, and parts at dose 0, vanish."""
        if (length := max(map(len, parts), default=0)) > LONGEST_NAME:
            raise DataError(
                f"a label of {length} characters ({shown(parts[0])}) is not a name of a perturbation; name"
                " the column of labels with target_col="
            )
        if len(parts) > _MOST_PARTS:
            raise DataError(
                f"a label of {len(parts):,} parts ({listed(parts)}) is not a combination; name the column of"
                " labels with target_col="
            )
        if len(doses) not in {0, 1, len(parts)}:
            raise DataError(f"{len(doses)} doses ({listed(doses)}) for {len(parts)} parts of {listed(parts)}")
        each_dose = (list(doses) or [""]) * (len(parts) if len(doses) < 2 else 1)
        given = [
            _intervention(part, dose, mode)
            for part, dose in zip(parts, each_dose, strict=True)
            if part and part.casefold() not in self.controls
        ]
        return Perturbation(tuple(each for each in given if each is not None))


def find_separator(labels: Iterable[str], controls: Container[str]) -> tuple[LabelFormat, str]:
    """Find what stands between the parts of combinations.

    A separator is found where both sides of it are names that stand alone elsewhere. Failing that, ``+`` and the
    like, which names hardly hold, divide whatever they stand in.
    """
    known = frozenset(label.strip() for label in labels)
    written = next((each for each in _written_forms(known, controls) if each[1]), None)
    if written is not None:
        return LabelFormat(written[0], controls), f"{written[2]}, as in {written[1][-1]!r}"
    candidates = (*SEPARATORS, *glues(known, controls))
    divided = {sep: divided_labels(known, sep, controls) for sep in candidates}
    hyphenated = divided["-"] if _stands_in_names("-", known, divided["-"], controls) else set()
    divided["-"] = divided["-"] - hyphenated
    best = max(candidates, key=lambda sep: (len(divided[sep]), len(sep)))
    for sep, others in divided.items():
        if others - divided[best]:
            raise DataError(
                f"{min(divided[best])!r} is a combination by {best!r}, and {min(others - divided[best])!r} by"
                f" {sep!r}:"
                " both sides are names that stand alone; write all combinations with '+' in the file, or state one"
                " with sep= (--sep)"
            )
    if divided[best]:
        return stated_separator(known, best, controls)
    for sep in ALWAYS_JOIN:
        if any(sep in label and len(_pieces(label, sep)) > 1 for label in known):
            return stated_separator(known, sep, controls)
    kept = (
        f"; {min(hyphenated)!r} and the like are one name each, as most with '-' (--sep -)"
        if hyphenated
        else _never_alone(known, controls)
    )
    return LabelFormat(None, controls), f"none: no label is a combination{kept}"


def _never_alone(known: frozenset[str], controls: Container[str]) -> str:
    """Say by which separator all labels are pairs of names, of which some are shared and none stands alone."""
    labels = sorted(label for label in known if label not in controls)
    between = [found.group() for found in _GLUE.finditer(labels[0])] if len(labels) > 2 else []
    for sep in dict.fromkeys((*JOIN_KNOWN, *between)):
        pairs = [label.split(sep) for label in labels]
        count = Counter(piece for pair in pairs for piece in pair)
        names = {*map(len, pairs)} == {2} and not any(not piece or piece.isdigit() for piece in count)
        if names and 1 < max(count.values()) < len(pairs):
            return f"; {labels[0]!r} and all others would be two names, divided with --sep {sep!r} (sep=)"
    return ""


def _stands_in_names(sep: str, known: frozenset[str], divided: set[str], controls: Container[str]) -> bool:
    """Tell whether a separator rather stands inside of names: readthrough genes are called as their parts are."""
    whole = sum(sep in label and label not in controls for label in known - divided)
    return len(divided) < whole


def stated_separator(labels: Iterable[str], sep: str, controls: Container[str]) -> tuple[LabelFormat, str]:
    """Read labels by a separator; one that names may hold divides between names that stand alone, if any do."""
    known = frozenset(label.strip() for label in labels)
    divided = set() if sep in ALWAYS_JOIN else divided_labels(known, sep, controls)
    if not divided:
        whole = _inseparable({label: _pieces(label, sep) for label in known})
        joined = sorted(label for label in known if len(_rejoined(_pieces(label, sep), sep, whole)) > 1)
        shown = f"; {sep.join(min(whole))!r} is one name, as its parts stand nowhere else" if whole else ""
        return LabelFormat(sep, controls, whole=whole), f"{sep!r}" + (
            f", as in {joined[0]!r}" if joined else ""
        ) + shown
    undivided = sorted(label for label in known - divided if sep in label and label not in controls)
    kept = f"; {len(undivided)} kept whole, such as {undivided[0]!r}" if undivided else ""
    between = LabelFormat(sep, controls, singles=_alone(known, sep, controls))
    return between, f"{sep!r} between names known alone, as in {min(divided)!r}{kept}"


def read_label(text: str, targets: Collection[str]) -> Perturbation | None:
    """Read a label with any separator, case, control word or former symbol, if that can mean one thing only."""
    exact = {target: target for target in targets}
    folded: dict[str, str | None] = {}
    for target in targets:
        folded[target.casefold()] = None if target.casefold() in folded else target

    def known(part: str) -> str | None:
        return exact.get(part) or folded.get(part.casefold()) or folded.get(gene_key(part.upper()).casefold())

    found = set()
    for sep in (None, *SEPARATORS, *{glue.group() for glue in _GLUE.finditer(text)}):
        parts = (text.strip(),) if sep is None else _pieces(text, sep)
        named = [known(part) for part in parts if part not in Controls()]
        if named and all(named) and len(set(named)) == len(named):
            found.add(tuple(sorted(str(name) for name in named)))
    return Perturbation(tuple(map(Intervention, found.pop()))) if len(found) == 1 else None


def dose_parts(text: str) -> tuple[str, ...]:
    """Divide the dose of a combination, as in GEARS' ``"1+1"``."""
    if not text or _DOSE.match(text):  # a lone dose may hold a plus of its own, as in 1e+3
        return (text,) if text else ()
    return tuple(each.strip() for each in text.split("+"))


@lru_cache(maxsize=100_000)
def _intervention(part: str, dose: str, mode: Mode) -> Intervention | None:
    """One part at its dose; ``None`` where the dose is zero, so that it was not given."""
    if below := _BELOW_ZERO.match(part):
        raise DataError(f"label {shown(part)} names the dose {below[1]}, and none is below zero; correct it")
    if dosed := _DOSED_PART.match(part):
        part, dose = dosed[1].strip(), (dosed[2] or dosed[3]).replace("_", "")
    amount = 1.0 if dose in NO_DOSE else _dose(dose, part)
    return Intervention(part.strip('"'), mode, amount) if amount > 0 else None


def _dose(text: str, target: str) -> float:
    found = _DOSE.match(text)
    if found is None:
        raise DataError(
            f"dose {shown(text)} of {shown(target)} is not a number, alone or in {', '.join(_WRITTEN_UNITS)}; name"
            " the column of doses with dose_col= (--dose-col), convert it or remove it"
        )
    return float(found[1]) * UNITS[found[2] or ""]


def _pieces(label: str, sep: str) -> tuple[str, ...]:
    if sep == TUPLES:
        return tuple(f"{name}@{dose}{unit}" for name, dose, unit in _TUPLE.findall(label)) or (label.strip(),)
    if sep == LISTED:
        return tuple(one or other for one, other in re.findall(r"'([^']*)'|\"([^\"]*)\"", label)) or (
            label.strip(),
        )
    if sep == DOSED_NAMES:
        dosed = _DOSED_NAME.fullmatch(label.strip())
        return (f"{dosed[1]}@{dosed[2]}",) if dosed else (label.strip(),)
    if sep in _OF_FORM:
        return found.groups() if (found := _OF_FORM[sep].fullmatch(label.strip())) else (label.strip(),)
    if sep == "+" and _STRAND.search(label):
        return (label.strip(),)
    if sep in ALWAYS_JOIN and (inner := _BRACKETED.fullmatch(label.strip())):
        label = inner[1]
    pieces = split_label(label, sep)
    return pieces if all(pieces) else (label.strip(),)


def _inseparable(pieces: Mapping[str, tuple[str, ...]]) -> frozenset[tuple[str, ...]]:
    """Labels of several pieces that stand in other labels, too, while no piece stands without the others."""
    count = Counter(piece for each in pieces.values() for piece in each)
    together = Counter(two for each in pieces.values() for two in pairwise(each))
    return frozenset(
        each
        for each in pieces.values()
        if len(each) > 1
        and count[each[0]] > _FEW
        and all(count[one] == together[one, other] == count[other] for one, other in pairwise(each))
    )


def _rejoined(pieces: tuple[str, ...], sep: str, whole: frozenset[tuple[str, ...]]) -> tuple[str, ...]:
    """Put the pieces of names together that hold the separator themselves."""
    for name in whole:
        for at in range(len(pieces) - len(name), -1, -1):
            if pieces[at : at + len(name)] == name:
                pieces = (*pieces[:at], sep.join(name), *pieces[at + len(name) :])
    return pieces


def _halvings(label: str, sep: str) -> list[tuple[str, str]]:
    if len(label) > _LONGEST_COMBINATION:  # each of its halves is as long again
        return []
    words = split_label(label, sep)
    strip = str if sep == " " else str.strip
    joined = [(sep.join(words[:cut]), sep.join(words[cut:])) for cut in range(1, len(words))]
    return [(strip(one), strip(other)) for one, other in joined if one and other]


def _alone(known: frozenset[str], sep: str, controls: Container[str]) -> frozenset[str]:
    """Names that stand alone, or beside a control, which is another way to be alone."""
    beside = set()
    for label in (each for each in known if sep in each):
        halvings = [] if label in controls else _halvings(label, sep)
        if any(one in controls and other in controls for one, other in halvings):
            continue
        padded = [
            (len(one), other) if one in controls else (len(other), one)
            for one, other in halvings
            if one in controls or other in controls
        ]
        beside.update([max(padded)[1]] if padded else [])  # beside the longest: DMSO_TF, not DMSO
    return known | beside


def glues(known: frozenset[str], controls: Container[str]) -> list[str]:
    """Other separators: what stands between names known alone, or beside a control, such as `` and ``."""
    found = set()
    for label in known:
        for glue in () if label in controls else _GLUE.finditer(label):
            halves = label[: glue.start()], label[glue.end() :]
            if all(halves) and (any(half in controls for half in halves) or known.issuperset(halves)):
                found.add(glue.group())
    return sorted(glue for glue in found if glue.strip() not in SEPARATORS)


def _written_forms(known: frozenset[str], controls: Container[str]) -> Iterator[tuple[str, list[str], str]]:
    """Forms other than names with separators, the labels that have each, and what it is."""
    labels = sorted(known)
    yield TUPLES, [label for label in labels if _TUPLES.fullmatch(label)], "tuples of name, dose and unit"
    yield LISTED, [label for label in labels if _LISTED.fullmatch(label)], "lists of names"
    dosed = [label for label in labels if _DOSED_LIST.match(label)]
    yield DOSED_SEPARATOR, dosed, "',' between parts, dose behind '|'"
    for form, written in _OF_FORM.items():
        yield form, labels if len(labels) > 1 and all(map(written.fullmatch, labels)) else [], form
    yield DOSED_NAMES, _dosed_names(known, controls), "a dose behind each name"


def _dosed_names(known: frozenset[str], controls: Container[str]) -> list[str]:
    """Labels, if all are a name and a number with a point, and some name has several: ``JQ1_0.05``."""
    labels = sorted(label for label in known if label not in controls)
    dosed = [found for label in labels if (found := _DOSED_NAME.fullmatch(label))]
    return labels if len(dosed) == len(labels) > len({found[1] for found in dosed}) else []


def divided_labels(known: frozenset[str], sep: str, controls: Container[str]) -> set[str]:
    """Labels that a separator divides into names that stand alone."""
    alone = _alone(known, sep, controls)
    return {
        label
        for label in known
        if sep in label
        and label not in controls
        and any(
            (one in alone or one in controls) and (other in alone or other in controls)
            for one, other in _halvings(label, sep)
        )
    }
