"""What is done to the cells: interventions, and perturbations as sets of them."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from surrogates.data.names import name_of
from surrogates.errors import DataError

Mode = Literal["activation", "knockdown", "knockout", "compound"]
# Where the readout of a gene itself goes; compounds have none.
DIRECTION: Mapping[Mode, float] = {"activation": 1.0, "knockdown": -1.0, "knockout": -1.0}
MODES: tuple[Mode, ...] = get_args(Mode)

# A dose stands behind the last "@", a mode behind the last ":"; anything else belongs to the target's name.
_DOSE = re.compile(r"@([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)$")
_MODE = re.compile(rf":({'|'.join(MODES)})$")
_BRACKETS = {")": "(", "]": "[", "}": "{"}
_PROTECTING = frozenset('"()[]{}')
_SPECIAL = frozenset("+@:()[]{}")  # what may make a name read as more than a name
# Words in the names of techniques, without what divides them.
_TECHNIQUES: dict[Mode, re.Pattern[str]] = {
    "activation": re.compile(
        "crispra|vpr|vp64|suntag|p300|overexpress|activation|^sam|dcas9sam|orf|cdna|^oe$|^gain|trtoe"
    ),
    "knockdown": re.compile(
        "crispri(?!a)|krab|zim3|interference|knockdown|rnai|sirna|shrna|cas13|casrx|crisproff|antisense|^aso$|degron|dtag"
        "|^kd$|trtsh"
    ),
    "knockout": re.compile("knockout|crisprko|deletion|nuclease|^ko$|trtxpr"),
    "compound": re.compile(
        "compound|drug|molecule|inhibitor|ligand|cytokine|chemical|growthfactor|antibody|peptide|protac|hormone|trtcp|trtlig"
        "|^treatment$"
    ),
}
_CUTS = re.compile(r"(?<!d)(crispr(cas|n)?$|crisprcas9|cas9|cas12a|cpf1)|^crispr$")


def mode_of(text: str) -> Mode | None:
    """Read a technique such as ``CRISPR KO`` or ``dCas9-KRAB``; ``None`` if it is not known, or may be several."""
    squeezed = re.sub(r"[^a-z0-9]", "", text.casefold())
    found = [mode for mode, words in _TECHNIQUES.items() if words.search(squeezed)]
    if not found and _CUTS.search(squeezed):
        return "knockout"
    return found[0] if len(found) == 1 else None


def split_label(text: str, sep: str) -> tuple[str, ...]:
    """Divide a label where a separator stands outside of quotes and of brackets that match."""
    if _PROTECTING.isdisjoint(text):
        return tuple(part.strip() for part in text.split(sep))
    guarded = _guarded(text)
    cuts, start = [], 0
    while (at := text.find(sep, start)) >= 0:
        if not guarded[at]:
            cuts.append(at)
        start = at + len(sep)
    edges = [0, *(cut + len(sep) for cut in cuts)]
    return tuple(text[first:last].strip() for first, last in zip(edges, [*cuts, len(text)], strict=True))


def _stands_alone(name: str) -> bool:
    """Tell whether a name is read back from a label as it is."""
    if _SPECIAL.isdisjoint(name):
        return True
    if _DOSE.search(name) or _MODE.search(name):
        return False
    return _in_brackets(name, [False] * len(name)) is not None and len(split_label(name, "+")) == 1


def _guarded(text: str) -> list[bool]:
    """Tell which characters stand in quotes or brackets, the outermost ones included."""
    inside = [False] * len(text)
    quotes = [at for at, letter in enumerate(text) if letter == '"']
    for first, last in zip(quotes[::2], quotes[1::2], strict=False):
        inside[first : last + 1] = [True] * (last + 1 - first)
    return _in_brackets(text, inside) or inside


def _in_brackets(text: str, inside: list[bool]) -> list[bool] | None:
    """The same for brackets outside of quotes; ``None`` if they do not match."""
    within, opened = list(inside), []
    for at, letter in enumerate(text):
        if inside[at]:
            continue
        if letter in _BRACKETS.values():
            opened.append(at)
        elif letter in _BRACKETS:
            if not opened or text[opened[-1]] != _BRACKETS[letter]:
                return None
            first = opened.pop()
            within[first : at + 1] = [True] * (at + 1 - first)
    return None if opened else within


@dataclass(frozen=True, order=True, slots=True)
class Intervention:
    """One gene or compound, in one mode, at one dose.

    Attributes:
        target: Gene symbol or compound name.
        mode: How it is acted upon.
        dose: Fraction of the full effect for genes, µM (or the source's own unit) for compounds.
    """

    target: str
    mode: Mode = "activation"
    dose: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a target that is no name, an unknown mode and a dose that is not positive and finite."""
        object.__setattr__(self, "target", name_of(self.target, "target name"))
        if '"' in self.target:
            raise DataError(
                f"target {self.target!r} holds a double quote, which sets names off in labels; rename it"
            )
        if self.mode not in MODES:
            raise DataError(f"mode {self.mode!r} of {self.target!r} is not one of {', '.join(MODES)}")
        if not (math.isfinite(self.dose) and self.dose > 0):
            raise DataError(f"dose {self.dose!r} of {self.target!r} is not a positive, finite number")

    @classmethod
    def parse(cls, text: str, *, mode: Mode = "activation") -> "Intervention":
        """Read ``TARGET``, ``TARGET@DOSE``, ``TARGET:MODE`` or ``TARGET:MODE@DOSE``.

        A name that could be read as more than a name stands in double quotes: ``"Vitamin C+E"@5``.

        Args:
            text: The label of one intervention.
            mode: The mode when the label names none.

        Returns:
            The intervention.

        Raises:
            DataError: If the target is empty or the dose is zero.
        """
        name = text.strip()
        dose = 1.0
        quoted = ""
        if name.startswith('"') and (end := name.find('"', 1)) > 0:
            quoted, name = name[1:end], name[end + 1 :]
        if found := _DOSE.search(name):
            dose, name = float(found[1]), name[: found.start()]
        if found := _MODE.search(name):
            name = name[: found.start()]
            mode = next(known for known in MODES if known == found[1])
        return cls((quoted + name).strip(), mode, dose)

    @property
    def label(self) -> str:
        """The target, in double quotes if it reads as more than a name, with its dose when that is not one."""
        name = self.target if _stands_alone(self.target) else f'"{self.target}"'
        return name if self.dose == 1.0 else f"{name}@{self.dose!r}".removesuffix(".0")


@dataclass(frozen=True, slots=True)
class Perturbation:
    """A set of interventions given together; the empty set is the control.

    Attributes:
        interventions: Sorted and unique, one per target.
    """

    interventions: tuple[Intervention, ...] = ()

    def __post_init__(self) -> None:
        """Sort the interventions and refuse a target that occurs twice."""
        ordered = tuple(sorted(self.interventions))
        targets = [each.target for each in ordered]
        if len(set(targets)) < len(targets):
            twice = sorted({target for target in targets if targets.count(target) > 1})
            raise DataError(f"{'+'.join(targets)!r} names {', '.join(twice)} more than once")
        object.__setattr__(self, "interventions", ordered)

    @classmethod
    def parse(cls, text: str, *, mode: Mode = "activation") -> "Perturbation":
        """Read a label such as ``"KLF1+CEBPE"``; the order of the parts never matters.

        Args:
            text: The label; an empty one is the control.
            mode: The mode of parts that name none.

        Returns:
            The perturbation.

        Raises:
            DataError: If a part is empty, occurs twice, or has a dose that is not positive.
        """
        if not text.strip():
            return cls()
        return cls(tuple(Intervention.parse(part, mode=mode) for part in split_label(text, "+")))

    @property
    def label(self) -> str:
        """The canonical label: sorted, joined by ``+``, empty for the control."""
        return "+".join(each.label for each in self.interventions)

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of what is acted upon, sorted."""
        return tuple(each.target for each in self.interventions)

    @property
    def order(self) -> int:
        """How many interventions are given together."""
        return len(self.interventions)

    def __str__(self) -> str:
        return self.label or "control"
