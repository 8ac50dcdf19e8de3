"""Parts of a fit, worked on in this process, in several or on a cluster, with the same bytes.

All parts are of one screen. It goes to every worker once: its large tables are files that all map into memory, or
travel over the network of a cluster. What is sent to and fro refers to them.
"""

import io
import pickle
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, UntypedStorage

from surrogates.data.screen import Screen
from surrogates.errors import DataError, WorkerError
from surrogates.executors import Workers, cluster
from surrogates.processes import fresh_processes
from surrogates.threads import limited_threads

Part = TypeVar("Part")
Found = TypeVar("Found")

_Place: TypeAlias = tuple[int, torch.dtype, int, tuple[int, ...], tuple[int, ...]]
_Submit: TypeAlias = Callable[[bytes], "Future[bytes]"]

FEWEST_EFFECTS = 2**20  # measured ones from which a fit takes longer than workers take to start
_LARGE = 2**20  # bytes of tables that are referred to
_SCREEN = "screen"  # name of a file, beside tables that are named by numbers


@contextmanager
def fits_over(workers: Workers) -> Iterator[None]:
    """Let fits have workers, unless a screen is so small that to start them takes longer.

    The fits are the same, bit for bit, on processors of one kind.
    """
    if not isinstance(workers, str) and workers < 1:
        raise DataError(f"{workers} workers cannot fit anything; give 1 or more")
    token = _WORKERS.set(workers)
    try:
        yield
    finally:
        _WORKERS.reset(token)


@contextmanager
def team_on(screen: Screen) -> Iterator[None]:
    """Start the workers that fits were given, if a fit to this screen is worth them."""
    workers = _WORKERS.get()
    if workers == 1 or screen.effects.numel() < FEWEST_EFFECTS:
        yield
        return
    with ExitStack() as stack:
        held = _Held.of(screen)
        if isinstance(workers, str):
            start, _ = stack.enter_context(cluster(workers))
            from distributed import Client  # noqa: PLC0415 - an extra; seconds to import

            there = Client.current().scatter(held, broadcast=True, hash=False)  # type: ignore[no-untyped-call]
            executor = stack.enter_context(start())
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="inverse-design-")))
            held.keep_in(folder)
            there, executor = None, fresh_processes(workers, begin=partial(_begin, folder))
            stack.callback(executor.shutdown, wait=False, cancel_futures=True)
        token = _TEAM.set(_Team(held, lambda packed: executor.submit(_answer, there, packed)))
        stack.callback(_TEAM.reset, token)
        yield


def has_team(screen: Screen) -> bool:
    """Tell whether parts of this screen go to workers, so that several are worth beginning at a time."""
    team = _TEAM.get()
    return team is not None and team.held.screen is screen


def submitted(screen: Screen, work: Callable[[Screen, Part], Found], part: Part) -> Callable[[], Found]:
    """Have a part of a screen worked on by a worker from now on, or here when the result is asked for.

    Either way it has one thread: sums depend in their last digits on the number of threads, and choices may depend
    on those.
    """
    team = _TEAM.get()
    if team is None or team.held.screen is not screen:
        return partial(_alone, work, screen, part)
    return team.begin(work, part)


def _alone(work: Callable[[Screen, Part], Found], screen: Screen, part: Part) -> Found:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return work(screen, part)
    finally:
        torch.set_num_threads(before)


class _Held:
    """A screen on this side or on that of a worker, and its large tables by number."""

    def __init__(self, packed: bytes, tables: list[UntypedStorage]) -> None:
        self.packed = packed
        self.tables = tables
        self.known: dict[_Place, Tensor] = {}  # so that what is the same tensor stays the same

    @classmethod
    def of(cls, screen: Screen) -> "_Held":
        """Hold a screen here."""
        _ = screen.singles, screen.places  # worked out once for all
        held, stream = cls(b"", []), io.BytesIO()
        _Packer(stream, held).dump(screen)
        held.packed = stream.getvalue()
        held.__dict__["screen"] = screen
        return held

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel over a network."""
        return _arrived, (self.packed, [_bytes_of(table).numpy() for table in self.tables])

    def keep_in(self, folder: Path) -> None:
        """Write all to files."""
        try:
            (folder / _SCREEN).write_bytes(self.packed)
            for number, table in enumerate(self.tables):
                _bytes_of(table).numpy().tofile(folder / str(number))
        except OSError as error:
            raise WorkerError(
                f"the screen cannot be given to workers by a file in {str(folder.parent)!r:.80} ({error}): set"
                " TMPDIR to a folder with more room, or take one worker"
            ) from error

    @cached_property
    def screen(self) -> Screen:
        """The screen, made of the tables."""
        found: Screen = _Unpacker(io.BytesIO(self.packed), self).load()
        return found

    def pack(self, value: object) -> bytes:
        """Pickle a value; what it shares with the screen is referred to."""
        stream = io.BytesIO()
        _Packer(stream, self, self.screen).dump(value)
        return stream.getvalue()

    def unpack(self, packed: bytes) -> Any:  # noqa: ANN401 - whatever was packed
        """Read what the other side has packed."""
        return _Unpacker(io.BytesIO(packed), self).load()


def _arrived(packed: bytes, tables: list[Any]) -> _Held:
    # Copies lie where torch wants them: sums depend in their last digits on that, too.
    return _Held(packed, [torch.from_numpy(table).clone().untyped_storage() for table in tables])


def _bytes_of(table: UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(table)


class _Packer(pickle.Pickler):
    """Refers to large tables, and to the fields of a screen; of the screen itself it notes what is large."""

    def __init__(self, stream: io.BytesIO, held: _Held, screen: Screen | None = None) -> None:
        super().__init__(stream, protocol=5)
        self._held = held
        self._numbers = {table.data_ptr(): number for number, table in enumerate(held.tables)}
        self._notes = screen is None
        self._fields = {id(getattr(screen, each.name)): each.name for each in fields(Screen)} if screen else {}

    def persistent_id(self, value: object) -> object:
        if type(value) is not Tensor:
            return None if value is None else self._fields.get(id(value))
        if value.layout is not torch.strided or value.device.type != "cpu" or value.requires_grad:
            return None
        table = value.untyped_storage()
        if self._notes and table.nbytes() >= _LARGE and table.data_ptr() not in self._numbers:
            self._numbers[table.data_ptr()] = len(self._held.tables)
            self._held.tables.append(table)
        if (number := self._numbers.get(table.data_ptr())) is None:
            return None
        place = (number, value.dtype, int(value.storage_offset()), tuple(value.shape), value.stride())
        if self._notes:
            self._held.known[place] = value
        return place


class _Unpacker(pickle.Unpickler):
    """Finds what was referred to."""

    def __init__(self, stream: io.BytesIO, held: _Held) -> None:
        super().__init__(stream)
        self._held = held

    def persistent_load(self, reference: Any) -> object:  # noqa: ANN401 - as pickle has it
        if isinstance(reference, str):
            return getattr(self._held.screen, reference)
        if reference not in self._held.known:
            number, kind, *place = reference
            self._held.known[reference] = torch.empty(0, dtype=kind).set_(self._held.tables[number], *place)
        return self._held.known[reference]


@dataclass(frozen=True)
class _Team:
    """Workers that hold a screen."""

    held: _Held
    submit: "_Submit"

    def begin(self, work: Callable[[Screen, Part], Found], part: Part) -> Callable[[], Found]:
        """Give some work to one of them; what is returned waits for the result."""
        try:
            packed = self.held.pack((work, part))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise _immovable(error) from error
        return partial(self._result, self.submit(packed))

    def _result(self, future: Future[bytes]) -> Any:  # noqa: ANN401 - whatever the work finds
        try:
            return self.held.unpack(future.result())
        except BrokenExecutor as error:
            raise WorkerError(f"a worker died ({error}): use fewer workers, or give them more memory") from error


def _immovable(error: Exception) -> WorkerError:
    return WorkerError(
        f"a part of this fit cannot be sent to a worker ({error!s:.200}): define the model in a module that"
        " workers can import, or take one worker"
    )


_WORKERS: ContextVar[Workers] = ContextVar("workers of fits", default=1)
_TEAM: ContextVar[_Team | None] = ContextVar("who works on a fit", default=None)
_HELD_HERE: list[_Held] = []  # what a process of this machine was started with


def _begin(folder: Path) -> None:
    """Hold what lies in a folder; a pipe to a process that starts would have to wait until it has imported all."""
    files = sorted((each for each in folder.iterdir() if each.name != _SCREEN), key=lambda each: int(each.name))
    mapped = [
        torch.from_file(str(each), size=each.stat().st_size, dtype=torch.uint8, shared=False) for each in files
    ]
    _HELD_HERE[:] = [_Held((folder / _SCREEN).read_bytes(), [each.untyped_storage() for each in mapped])]


def _answer(there: _Held | None, packed: bytes) -> bytes:
    """Do some work; runs in a worker."""
    held = there or _HELD_HERE[0]
    with limited_threads(given=1):
        try:
            work, part = held.unpack(packed)
        except (AttributeError, ImportError) as error:
            raise _immovable(error) from None
        return held.pack(work(held.screen, part))
