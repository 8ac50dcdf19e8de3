"""A PostgreSQL server that lives as long as a block of code, for tests and benchmarks: no network, no password."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

_USER = "postgres"


def binaries() -> Path | None:
    """Find the programs of the newest installed PostgreSQL.

    Returns:
        Their folder, ``None`` if there is none.
    """
    if found := shutil.which("initdb"):
        return Path(found).parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return installed[-1].parent if installed else None


@contextmanager
def throwaway_postgresql(programs: Path, *, durable: bool = False) -> Iterator[str]:
    """Start a server on a socket of its own, and stop and delete it at the end.

    Args:
        programs: Folder of ``initdb`` and ``pg_ctl``.
        durable: Whether commits wait for the disk.

    Yields:
        URL of the server, in which the name of a database is missing: add ``/name`` with :func:`database`.
    """
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    data = folder / "data"
    if os.getuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, _USER)
    fast = "" if durable else " -c fsync=off -c synchronous_commit=off"
    try:
        _run([programs / "initdb", "-D", data, "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-sync"])
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}'{fast}"
        _run([programs / "pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "start"])
        try:
            yield f"postgresql+psycopg://{_USER}@/{{name}}?host={folder}"
        finally:
            _run([programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def database(server: str, name: str) -> str:
    """Make a database.

    Args:
        server: What :func:`throwaway_postgresql` yields.
        name: Of the database, of letters and digits.

    Returns:
        Its URL.
    """
    engine = create_engine(server.format(name=_USER), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    return server.format(name=name)


def crashed(programs: Path, server: str) -> None:
    """Let a server stop as if the power failed, and start it again.

    Args:
        programs: Folder of ``pg_ctl``.
        server: What :func:`throwaway_postgresql` yields.
    """
    folder = Path(str(make_url(server).query["host"]))
    _run([programs / "pg_ctl", "-D", folder / "data", "-m", "immediate", "-l", folder / "log", "-w", "restart"])


def _run(words: list[str | Path]) -> None:
    command = [str(each) for each in words]
    if os.getuid() == 0:
        command = ["runuser", "-u", _USER, "--", *command]
    # pg_ctl leaves the server behind: with pipes, this would wait for it.
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False)  # noqa: S603 - our own words
        if done.returncode:
            said.seek(0)
            raise RuntimeError(f"{command[-1]} failed: {said.read().decode(errors='replace')[-2000:]}")
