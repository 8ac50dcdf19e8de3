"""What reads a file, and what becomes of one that is damaged."""

import os
import signal
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from benchmarks.hostile_files.samples import CONTROL, GENES, READOUTS
from inverse_design.campaign.results import results_of
from inverse_design.campaign.settings import read_settings
from inverse_design.cell_targets import cell_shift
from inverse_design.cli.campaign.results import read_library, read_results
from inverse_design.cli.limit_tables import read_costs, read_doses, read_experiments, read_groups, read_pairs
from inverse_design.cli.options import Reading
from inverse_design.cli.screens import read_names
from inverse_design.cli.verbs.rounds import read_rounds
from inverse_design.target_files import read_target_file
from inverse_design.value_tables import read_value_table
from surrogates.artefact import load_fitted
from surrogates.data.io.cells import read_cells
from surrogates.data.io.dialects import Dialect
from surrogates.data.io.read_h5ad import read_effect_rows
from surrogates.data.io.readers import read_screen
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import SurrogatesError

MOST_MEMORY = 2 * 1024**3  # bytes that reading a small file may take


def _results(path: Path) -> object:
    vocabulary = Vocabulary.of([Perturbation((Intervention(gene),)) for gene in GENES])
    table = read_results(str(path), Reading(), READOUTS)
    return results_of(table, vocabulary=vocabulary, readouts=READOUTS, key="key")


READERS: Mapping[str, Callable[[Path], object]] = {
    "screen": lambda path: str(read_screen(path)),
    "layer": lambda path: str(read_screen(path, layer_key="log", normalise=False)),
    "cells": read_cells,
    "rows": lambda path: read_effect_rows(path, Dialect(normalise=False)),
    "shift": lambda path: cell_shift(path, column="perturbation", start=CONTROL, end="G0"),
    "values": read_value_table,
    "results": _results,
    "groups": read_groups,
    "pairs": read_pairs,
    "costs": read_costs,
    "doses": read_doses,
    "experiments": lambda path: read_experiments(path, cost_col="price"),
    "library": lambda path: read_library(str(path)),
    "rounds": read_rounds,
    "names": lambda path: read_names([str(path)], known=GENES),
    "model": load_fitted,
    "target": read_target_file,
    "settings": lambda path: read_settings(path, {}),
}


def outcome(reader: str, path: Path) -> tuple[str, str]:
    """Read a file: ``read``, ``refused``, ``traceback`` or ``memory``, and what was said."""
    before = _peak(reset=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            READERS[reader](path)
        verdict, said = "read", ""
    except SurrogatesError as error:
        verdict, said = "refused", f"{type(error).__name__}: {error}"
    except MemoryError as error:
        verdict, said = "memory", str(error)
    except Exception as error:  # noqa: BLE001 - this is what is counted
        place = error.__traceback__
        lines = []
        while place is not None:
            lines.append(f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}")
            place = place.tb_next
        verdict, said = "traceback", f"{type(error).__name__}: {str(error)[:200]} at {' '.join(lines[1:])}"
    if (grown := _peak() - before) > MOST_MEMORY:
        return "memory", f"{grown / 1e9:.1f} GB; {verdict} {said}"
    return verdict, said


def _peak(*, reset: bool = False) -> int:
    """Largest resident memory of this process, since it was last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def limit_memory() -> None:
    """Let no read take much more than is counted, so that other work on the machine is not disturbed."""
    import resource  # noqa: PLC0415 - not on Windows

    held = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (held + 2 * MOST_MEMORY, resource.RLIM_INFINITY))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
