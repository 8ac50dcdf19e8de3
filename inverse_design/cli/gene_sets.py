"""Gene sets in ``.gmt`` files, as MSigDB gives them: a name, a description and genes, divided by tabs."""

import re
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

from inverse_design.cli.console import complaints, say
from inverse_design.value_tables import names_a_file
from surrogates.data.io.tabular import text_of
from surrogates.data.names import name_of
from surrogates.errors import DataError, UnknownNameError, shown, some_of

ENDING = ".gmt"
_LINE_ENDS = re.compile(r"\r\n|\r|\n")  # str.splitlines also divides at signs that stand within a name


def read_gene_sets(path: Path) -> dict[str, tuple[str, ...]]:
    """Read all sets of a file, each with its genes, which stand there once."""
    try:
        lines = _LINE_ENDS.split(text_of(path))
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name!r} cannot be read as text: {shown(error, bare=True)}") from error
    sets: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, genes = _set_of(line, f"line {number} of {path.name!r}")
        if name in sets:
            raise DataError(
                f"line {number} of {path.name!r} names the set {shown(name)}, as a line before; rename one"
            )
        sets[name] = genes
    if not sets:
        raise DataError(f"{path.name!r} holds no set; give one in each line: name, description, genes")
    return sets


def _set_of(line: str, where: str) -> tuple[str, tuple[str, ...]]:
    name, *rest = line.rstrip("\t ").split("\t")
    if len(rest) < 2:
        raise DataError(
            f"{where} has {len(rest) + 1} of the fields that a set needs ({shown(line)}): name, description and"
            " genes, with a tab between any two"
        )
    try:
        return name_of(name, "set"), tuple(dict.fromkeys(name_of(gene, "gene") for gene in rest[1:]))
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def sets_named(
    text: str, known: Collection[str], *, may_be_empty: bool = False
) -> Mapping[str, tuple[str, ...]] | None:
    """Read the sets that a word of the command line names, if it names any: ``sets.gmt`` or ``sets.gmt:A,B``.

    Genes are those of the data, in their spelling; which are not there is said.
    """
    file, stated = (text, "") if text.endswith(ENDING) else _divided(text)
    if not file:
        return None
    if not names_a_file(file):
        raise DataError(f"there is no file {file!r}; give gene sets as sets.gmt or sets.gmt:NAME")
    sets = read_gene_sets(Path(file))
    names = (
        list(sets) if not stated else [stated] if stated in sets else [one.strip() for one in stated.split(",")]
    )
    if unknown := [one for one in names if one not in sets]:
        raise UnknownNameError.from_known(f"set of {Path(file).name!r}", unknown[0], sets)
    chosen = {one: sets[one] for one in names}
    folded = {each.casefold(): each for each in known}
    every = dict.fromkeys(gene for genes in chosen.values() for gene in genes)
    spelt = {gene: gene if gene in known else folded.get(gene.casefold()) for gene in every}
    lacking = [gene for gene, found in spelt.items() if found is None]
    where = shown(Path(file).name + (f":{stated}" if stated else ""), bare=True)
    if len(lacking) == len(spelt) and not may_be_empty:
        raise DataError(
            f"none of the genes of {where} ({len(spelt)}) is in the data, such as {shown(lacking[0])}; do both"
            " name genes in the same way?"
        )
    missing = f"; not there: {some_of(lacking)}" if lacking else ""
    say(
        complaints(), f"{where}: {len(spelt) - len(lacking)} of {len(spelt)} names are in the data{missing}", "dim"
    )
    return {
        one: tuple(dict.fromkeys(found for gene in genes if (found := spelt[gene]) is not None))
        for one, genes in chosen.items()
    }


def _divided(text: str) -> tuple[str, str]:
    file, ending, stated = text.partition(f"{ENDING}:")
    return (file + ENDING, stated.strip()) if ending and stated.strip() else ("", "")
