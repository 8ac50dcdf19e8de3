"""How much memory this process has taken, as Linux tells it."""

from pathlib import Path

STATUS = Path("/proc/self/status")  # not there on other systems


def resident_mb(field: str) -> float:
    """Read a size of this process.

    Args:
        field: ``"VmRSS"``, resident now, or ``"VmHWM"``, the most that ever was.

    Returns:
        The size in MB.
    """
    line = next(line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6
