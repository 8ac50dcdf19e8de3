"""Where a file lies: SQLite cannot be trusted on network file systems, whose locks come and go."""

import re
from pathlib import Path

from inverse_design.errors import StoreError

MOUNTS = Path("/proc/mounts")
_NETWORK = frozenset(
    {
        "9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "davfs", "drvfs", "glusterfs", "gpfs", "lustre", "ncpfs",
        "nfs", "nfs4", "orangefs", "smb2", "smb3", "smbfs", "vboxsf", "fuse.beegfs", "fuse.ceph", "fuse.davfs2",
        "fuse.glusterfs", "fuse.lustre", "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
    }
)  # fmt: skip


def refuse_network(path: Path, *, mounts: Path = MOUNTS) -> None:
    """Refuse a file on a network file system.

    Args:
        path: The file; it need not exist.
        mounts: Table of mounted file systems; where there is none, nothing is known and nothing refused.

    Raises:
        StoreError: If the file lies on a file system of a network; the message names it.
    """
    kind, where = _file_system(path.resolve(), mounts)
    if kind in _NETWORK:
        raise StoreError(
            f"{str(path)!r} lies on the network file system {where!r} ({kind}), where locks cannot be trusted and"
            " results could be lost; use a local disk, or a PostgreSQL database for a team"
        )


def _file_system(path: Path, mounts: Path) -> tuple[str, str]:
    """Find the kind and place of the file system with the longest path above a file; later mounts hide earlier."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "", ""
    found, longest = ("", ""), -1
    for line in lines:
        words = line.split(" ")
        if len(words) < 3:
            continue
        place = _unescaped(words[1])
        if path.is_relative_to(place) and len(Path(place).parts) >= longest:
            found, longest = (words[2], place), len(Path(place).parts)
    return found


def _unescaped(text: str) -> str:
    """Undo the octal escapes of blanks and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
