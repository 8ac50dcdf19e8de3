"""How a label spells a perturbation: separators, control tokens and doses."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from surrogates.data.perturbation import Intervention, Mode, Perturbation
from surrogates.errors import DataError

CONTROL_LABELS = frozenset(
    label.casefold()
    for label in (
        "ctrl", "control", "non-targeting", "non_targeting", "NT", "neg", "negctrl", "negative",
        "safe-targeting", "DMSO", "DMSO_TF", "vehicle", "untreated", "unperturbed", "WT", "PBS", "mock",
        "Dimethyl Sulfoxide",
    )
)  # fmt: skip
SEPARATORS = ("+", "|", ";", " & ")
DOSED_SEPARATOR = ","
LONGEST_LABEL = 200

_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?"
_DOSE = re.compile(rf"^({_NUMBER})\s*([uµμn]M)?$")  # the micro sign and the Greek mu both occur
_DOSED_PART = re.compile(rf"^(.+?)[@|]\s*({_NUMBER}\s*(?:[uµμn]M)?)$")
_DOSED_LIST = re.compile(rf"^[^|,]+\|{_NUMBER}(,[^|,]+\|{_NUMBER})*$")


@dataclass(frozen=True)
class LabelFormat:
    """How the labels of one table are to be read.

    Attributes:
        singles: When given, ``sep`` divides a label only between two of these names; for underscores, which
            also occur inside names.
    """

    sep: str | None  # what stands between the parts of a combination; ``None`` when labels are single parts
    controls: frozenset[str]  # case-folded tokens that mean that nothing was done
    singles: frozenset[str] | None = None

    def split(self, label: str) -> tuple[str, ...]:
        """Divide a label into its parts.

        Raises:
            DataError: If an underscore could divide the label in two ways.
        """
        if self.sep is None:
            return (label.strip(),)
        if self.singles is None:
            return _pieces(label, self.sep)
        cuts = [cut for cut in _halvings(label, self.sep) if all(map(self._is_known, cut))]
        if len(cuts) > 1:
            raise DataError(
                f"label {label!r} can be {' or '.join('+'.join(cut) for cut in cuts)}: both halves are known"
                " names either way; write combinations with '+' in the file"
            )
        return cuts[0] if cuts else (label.strip(),)

    def _is_known(self, name: str) -> bool:
        return name.casefold() in self.controls or name in (self.singles or ())

    def perturbation(self, parts: Sequence[str], doses: Sequence[str], mode: Mode) -> Perturbation:
        """Build what was done from the parts of a label; control tokens vanish.

        Raises:
            DataError: If a label is too long, a dose is not a positive number, doses and parts do not match,
                or the name of a target could not be read back from a label.
        """
        if (length := max(map(len, parts), default=0)) > LONGEST_LABEL:
            raise DataError(
                f"a label of {length} characters ({parts[0][:40]!r}...) is not a name of a perturbation; name"
                " the column of labels with target_col="
            )
        if len(doses) not in {0, 1, len(parts)}:
            raise DataError(f"{len(doses)} doses ({', '.join(doses)}) for {len(parts)} parts of {parts!r}")
        each_dose = (list(doses) or [""]) * (len(parts) if len(doses) < 2 else 1)
        return Perturbation(
            tuple(
                _intervention(part, dose, mode)
                for part, dose in zip(parts, each_dose, strict=True)
                if part and part.casefold() not in self.controls
            )
        )


def find_separator(labels: Iterable[str], controls: frozenset[str]) -> tuple[LabelFormat, str]:
    """Find what stands between the parts of combinations."""
    known = frozenset(label.strip() for label in labels)
    if dosed := sorted(label for label in known if _DOSED_LIST.match(label)):
        return LabelFormat(DOSED_SEPARATOR, controls), f"',' between parts, dose behind '|', as in {dosed[-1]!r}"
    for sep in SEPARATORS:
        if joined := sorted(label for label in known if len(_pieces(label, sep)) > 1):
            return LabelFormat(sep, controls), f"{sep!r}, as in {joined[0]!r}"
    underscored = LabelFormat("_", controls, singles=known)
    divided = {label for label in known if len(underscored.split(label)) > 1}
    if not divided:
        return LabelFormat(None, controls), "none: no label is a combination"
    whole = sorted(label for label in known - divided if "_" in label and label.casefold() not in controls)
    kept = f"; {len(whole)} kept whole, such as {whole[0]!r} (sep='_' divides all)" if whole else ""
    return underscored, f"'_' between names known alone, as in {min(divided)!r}{kept}"


def dose_parts(text: str) -> tuple[str, ...]:
    """Divide the dose of a combination, as in GEARS' ``"1+1"``."""
    if not text or _DOSE.match(text):  # a lone dose may hold a plus of its own, as in 1e+3
        return (text,) if text else ()
    return tuple(each.strip() for each in text.split("+"))


@lru_cache(maxsize=100_000)
def _intervention(part: str, dose: str, mode: Mode) -> Intervention:
    if dosed := _DOSED_PART.match(part):
        part, dose = dosed[1].strip(), dosed[2]
    found = Intervention(part, mode, _dose(dose, part) if dose else 1.0)
    if "+" in found.label or Intervention.parse(found.label, mode=mode) != found:
        raise DataError(
            f"target {part!r} could not be told apart in a label, where '+' joins parts and '@' and ':' set off"
            " doses and modes; rename it in the file"
        )
    return found


def _dose(text: str, target: str) -> float:
    found = _DOSE.match(text)
    if found is None:
        raise DataError(
            f"dose {text!r} of {target!r} is not a number; name the column of doses with dose_col= or remove it"
        )
    return float(found[1]) / (1000.0 if found[2] == "nM" else 1.0)


def _pieces(label: str, sep: str) -> tuple[str, ...]:
    pieces = tuple(piece.strip() for piece in label.split(sep))
    # A separator inside brackets belongs to a name, as in "(+)-JQ1".
    sound = all(piece and piece.count("(") == piece.count(")") for piece in pieces)
    return pieces if sound else (label.strip(),)


def _halvings(label: str, sep: str) -> list[tuple[str, str]]:
    words = label.split(sep)
    return [(sep.join(words[:cut]), sep.join(words[cut:])) for cut in range(1, len(words))]
