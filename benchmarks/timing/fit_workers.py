"""What do workers save of a fit with doubles, and are its bytes the same?

Processor time tells on a machine that others use as well: a fit takes as long as its busiest process.

Run: python -m benchmarks fit_workers --workers 1 2 3
"""

import argparse
import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from benchmarks.scale.screens import LargeScreen
from inverse_design.cli.console import output, say
from surrogates.artefact import save_value
from surrogates.cached_fit import cached_fit
from surrogates.models.wrappers.automatic import Automatic
from surrogates.team import fits_over

_LOOK = 0.2  # seconds between looks at the processes


def main() -> None:
    """Fit the same screen with each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--singles", type=int, default=1200)
    parser.add_argument("--doubles", type=int, default=120)
    parser.add_argument("--readouts", type=int, default=2000)
    asked = parser.parse_args()
    console, screen = output(), LargeScreen(asked.singles, asked.readouts, asked.doubles).draw()
    say(
        console,
        f"{'workers':>8}{'elapsed s':>11}{'busiest CPU s':>15}{'all CPU s':>11}{'peak GB':>9}  bytes of the fit",
    )
    for workers in asked.workers:
        began = time.monotonic()
        with _watched() as seen, fits_over(workers):
            fitted = cached_fit(Automatic(unseen=None), screen, seed=0, cache=None)
        took = time.monotonic() - began
        with TemporaryDirectory() as folder:
            place = Path(folder) / "fit"
            save_value(fitted, place, origin="benchmark")
            digest = hashlib.sha256(place.read_bytes()).hexdigest()[:12]
        busy = seen.seconds.values()
        say(
            console,
            f"{workers:>8}{took:>11.1f}{max(busy):>15.1f}{sum(busy):>11.1f}{seen.memory / 1e9:>9.2f}  {digest}",
        )


class _Seen:
    """What this process and those that it starts took."""

    def __init__(self) -> None:
        self.others = {each.pid for each in psutil.Process().children()}  # which a fit before has not ended yet
        self.seconds: dict[int, float] = {}
        self.memory = 0  # of all at a time, what they share counted once

    def look(self, first: float) -> None:
        """Look at all processes; this one had used so much before."""
        this, memory = psutil.Process(), 0
        for each in (this, *(child for child in this.children() if child.pid not in self.others)):
            try:
                used, memory = each.cpu_times(), memory + each.memory_full_info().pss
            except psutil.Error:
                continue
            self.seconds[each.pid] = used.user + used.system - (first if each == this else 0.0)
        self.memory = max(self.memory, memory)


@contextmanager
def _watched() -> Iterator[_Seen]:
    used, seen, ended = psutil.Process().cpu_times(), _Seen(), threading.Event()
    first = used.user + used.system

    def watch() -> None:
        while not ended.wait(_LOOK):
            seen.look(first)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()
        seen.look(first)


if __name__ == "__main__":
    main()
