"""The screen and the names that a command line states."""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from inverse_design.cli.console import complaints, say
from inverse_design.cli.early import is_missing
from inverse_design.cli.gene_sets import ENDING, sets_named
from inverse_design.cli.options import SCHEDULER_TRUST, Reading
from inverse_design.value_tables import names_a_file
from surrogates.data.catalogue import load, names
from surrogates.data.io.dialects import Dialect
from surrogates.data.io.labels import read_label
from surrogates.data.io.pseudobulk.spread import Spread
from surrogates.data.io.readers import screen_of
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError

_LIST_ENDINGS = (".lst", ".list", ENDING)  # beside those of tables


def read_names(stated: Sequence[str], *, known: Collection[str] = ()) -> tuple[str, ...]:
    """Collect names."""
    return tuple(dict.fromkeys(name for text in stated for name in _names(text, known)))


def _names(text: str, known: Collection[str]) -> tuple[str, ...]:
    if text in known:
        return (text,)
    if text.endswith(ENDING):
        raise DataError(f"{text!r} holds gene sets, which --allow, --exclude and --groups take; give names here")
    if names_a_file(text):
        found = _lines(Path(text))
    elif text.endswith(_LIST_ENDINGS) or "/" in text or is_missing(text):
        raise DataError(f"there is no file {text!r}; give names as A,B or a file with one name per line")
    else:
        found = tuple(each.strip() for each in text.split(",") if each.strip())
    if not found:
        raise DataError(f"{text!r} names nothing; give names as A,B or a file with one name per line")
    return found


def _lines(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{str(path)!r} cannot be read as a list of names: {error}") from error
    return tuple(name for line in lines if (name := line.partition("#")[0].strip()))


def read_exclusions(stated: Sequence[str], *, known: Collection[str]) -> tuple[str, ...]:
    """Collect names that are left out; of a list in a file, those that the data know, which is said.

    Lists may have a header, numbers in brackets behind a name (``TP53 (7157)``), or be sets of a ``.gmt``.
    """
    folded = {name.casefold(): name for name in known}
    found: list[str] = []
    for text in stated:
        sets = None if text in known else sets_named(text, known, may_be_empty=True)
        if sets is not None:
            found += [name for names in sets.values() for name in names]
            continue
        if text in known or not names_a_file(text):
            found += [_target(name, known) for name in _names(text, known)]
            continue
        lines = _lines(Path(text))
        by = r"[\t,;]" if text.endswith(".csv") else r"\t"  # the first of several columns
        bare = dict.fromkeys(
            re.sub(r"\s*\(\d+\)$", "", re.split(by, line)[0].strip().strip('"')) for line in lines
        )
        held = [folded[name.casefold()] for name in bare if name.casefold() in folded]
        say(complaints(), f"{Path(text).name}: {len(held)} of {len(bare)} names are in the data", "dim")
        found += held
    return tuple(dict.fromkeys(found))


def read_allowed(stated: Sequence[str], *, known: Collection[str]) -> tuple[str, ...]:
    """Collect the only names that candidates may hold: names, lists of names, or gene sets."""
    found: list[str] = []
    for text in stated:
        sets = None if text in known else sets_named(text, known)
        found += _names(text, known) if sets is None else (name for names in sets.values() for name in names)
    return tuple(dict.fromkeys(found))


def _target(name: str, known: Collection[str]) -> str:
    """The target that a name means, which may be written in another case, or beside a control."""
    meant = None if name in known else read_label(name, known)
    return meant.targets[0] if meant is not None and meant.order == 1 else name


def open_screen(data: str, reading: Reading, *, workers: int = 1, scheduler: str | None = None) -> Screen:
    """Open a dataset by its name, or read a file, or a folder of files of cells."""
    if data in names() or not Path(data).exists():
        return _in_mode(_as_it_is(data, reading), reading)
    spread = Spread(workers, scheduler, None if reading.sums is None else Path(reading.sums))
    screen = screen_of(data, replace(stated_dialect(reading), spread=spread))
    return replace(screen, provenance={**screen.provenance, "dataset": Path(data).name})


def warn_of_scheduler(address: str | None) -> None:
    """Say what a scheduler that others may listen to must be trusted with."""
    if address is not None and not address.startswith(("tls://", "inproc://")):
        say(complaints(), f"warning: {SCHEDULER_TRUST}", "bold yellow")


def stated_dialect(reading: Reading) -> Dialect:
    """Collect what was typed about the columns of a file."""
    return Dialect(
        _target_col(reading),
        _listed(reading.reference_key),
        reading.dose_col,
        reading.group_col,
        reading.sep,
        reading.mode,
        reading.collapse_guides,
        reading.normalise,
        reading.batch_col,
        reading.modality,
        _listed(reading.baseline_cols),
        _listed(reading.endpoint_cols),
        reading.layer_key,
        read_names(reading.readouts) or None,
    )


def _as_it_is(data: str, reading: Reading) -> Screen:
    refuse_options(data, replace(reading, mode=None))
    return load(data)


def refuse_options(data: str, reading: Reading) -> None:
    """Refuse options of files for a dataset of the catalogue, and a name that can only be that of a file."""
    if reading != Reading() and data in names():
        raise DataError(
            f"{data!r} is a dataset of the catalogue, read in one way; give reading options for files only"
        )
    if data not in names() and is_missing(data):
        raise DataError(f"there is no file {data!r}")


def _in_mode(screen: Screen, reading: Reading) -> Screen:
    modes = sorted({entry.mode for entry in screen.vocabulary.entries})
    if reading.mode is not None and reading.mode not in modes:
        raise UnknownNameError.from_known("mode", reading.mode, modes)
    return screen


def _target_col(reading: Reading) -> str | tuple[str, ...] | None:
    columns = reading.target_col
    return (columns[0] if len(columns) == 1 else columns) if columns else None


def _listed(stated: Sequence[str]) -> tuple[str, ...] | None:
    """Names that were stated once with commas or repeatedly."""
    return tuple(name.strip() for words in stated for name in words.split(",")) or None
