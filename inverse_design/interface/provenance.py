"""What a result rests upon: versions, data, seed and the command as typed."""

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import torch

from inverse_design.interface.run import Run
from surrogates.data.screen import Screen

PACKAGES = ("torch", "numpy", "pandas", "scipy", "anndata", "h5py", "pyarrow")
DISTRIBUTION = "inverse-design"


def manifest(
    run: Run, screen: Screen | None, *, seed: int, settings: Mapping[str, object] | None = None
) -> dict[str, object]:
    """Collect what somebody needs to repeat a result.

    Args:
        run: The command line, and when it began.
        screen: The data; its provenance says where they come from and what was detected. ``None`` if nothing is
            read.
        seed: What fixed everything random.
        settings: Choices of the run, as they were resolved.

    Returns:
        Values that JSON can hold; only ``started`` and ``ended`` differ between two equal runs.
    """
    return {
        "tool": DISTRIBUTION,
        "version": _version(DISTRIBUTION),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
        "command": run.command,
        **({} if screen is None else _data(screen)),
        "seed": seed,
        "settings": dict(settings or {}),
        "started": run.started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _data(screen: Screen) -> dict[str, object]:
    return {
        "data": dict(screen.provenance),
        "conditions": len(screen),
        "readouts": len(screen.readouts),
        "context": ", ".join(sorted(set(screen.contexts))),
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
