"""Parts of a fit, worked on in this process, in several or on a cluster, with the same bytes.

All parts are of one screen. It goes to every worker once: its large tables are files that all map into memory, or
travel over the network of a cluster. What is sent to and fro refers to them.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import astuple, dataclass, is_dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pandas as pd
import torch
from safetensors.torch import load, save
from torch import Tensor, UntypedStorage

from surrogates.artefact_types import decode, encode
from surrogates.data.screen import Screen
from surrogates.errors import DataError, WorkerError
from surrogates.executors import Workers, cluster
from surrogates.processes import fresh_processes
from surrogates.threads import limited_threads

Part = TypeVar("Part")
Found = TypeVar("Found")

_Submit: TypeAlias = Callable[[Any, Any], "Future[Any]"]

FEWEST_EFFECTS = 2**20  # measured ones from which a fit takes longer than workers take to start
_TABLES = ("effects", "standard_errors", "singles", "places")  # tensors of a screen
_NAMED = ("batch", "vocabulary", "readouts", "contexts")  # what else fits need of it
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
        token = _TEAM.set(_Team(held, lambda work, packed: executor.submit(_answer, there, work, packed)))
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


@dataclass(frozen=True)
class _Place:
    """A tensor within a table that both sides hold."""

    table: int
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def within(self, table: UntypedStorage) -> Tensor:
        """The tensor."""
        empty = torch.empty(0, dtype=getattr(torch, self.dtype))
        return empty.set_(table, self.offset, self.shape, self.stride)


@dataclass(frozen=True)
class _Own:
    """A tensor that only one side holds: the bytes of its span, and how it lies there."""

    span: Any  # numpy array of bytes
    place: _Place


@dataclass(frozen=True)
class _Field:
    """A field of the screen."""

    name: str


class _Held:
    """A screen on this side or on that of a worker, and its tables by number."""

    def __init__(self, document: bytes, tables: list[UntypedStorage]) -> None:
        self.document = document
        self.tables = tables
        self.known: dict[_Place, Tensor] = {}  # so that what is the same tensor stays the same

    @classmethod
    def of(cls, screen: Screen) -> "_Held":
        """Hold a screen here."""
        held = cls(b"", [])
        places: dict[str, _Place] = {}
        for name in _TABLES:
            if (tensor := getattr(screen, name)) is not None:
                table = tensor.untyped_storage()
                if table.data_ptr() not in {each.data_ptr() for each in held.tables}:
                    held.tables.append(table)
                if (place := held.place_of(tensor)) is not None:
                    places[name] = place
                    held.known[place] = tensor
        small: dict[str, Tensor] = {}
        named = encode(tuple(getattr(screen, name) for name in _NAMED), small, where="screen")
        document = {"named": named, "tables": {name: astuple(each) for name, each in places.items()}}
        held.document = save(small, metadata={"document": json.dumps(document)})
        held.__dict__["screen"] = screen
        return held

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel over a network."""
        return _arrived, (self.document, [_bytes_of(table).numpy() for table in self.tables])

    def keep_in(self, folder: Path) -> None:
        """Write all to files."""
        try:
            (folder / _SCREEN).write_bytes(self.document)
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
        size = int.from_bytes(self.document[:8], "little")
        document = json.loads(json.loads(self.document[8 : 8 + size])["__metadata__"]["document"])
        named = decode(document["named"], load(self.document), where="screen")
        places = {
            name: _Place(table, dtype, offset, tuple(shape), tuple(stride))
            for name, (table, dtype, offset, shape, stride) in document["tables"].items()
        }
        found = {name: self._at(place) for name, place in places.items()}
        given: dict[str, Any] = {name: found.pop(name) for name in ("effects", "standard_errors") if name in found}
        rows = pd.DataFrame(index=range(len(given["effects"])))  # annotations are not needed
        screen = Screen(**dict(zip(_NAMED, named, strict=True)), **given, annotations=rows)
        screen.__dict__.update(found)
        return screen

    def place_of(self, tensor: Tensor) -> _Place | None:
        """Where a tensor lies, if in a table."""
        address = tensor.untyped_storage().data_ptr()
        numbers = [n for n, table in enumerate(self.tables) if table.data_ptr() == address]
        return _lies(tensor, numbers[0], int(tensor.storage_offset())) if numbers and address else None

    def _at(self, place: _Place) -> Tensor:
        if place not in self.known:
            self.known[place] = place.within(self.tables[place.table])
        return self.known[place]

    def pack(self, value: object) -> Any:  # noqa: ANN401 - of the kind that is given
        """Put references in the place of tensors of tables and of fields of the screen, and bytes of others."""
        named = {id(getattr(self.screen, name)): _Field(name) for name in _NAMED}

        def out(each: object) -> object:
            if id(each) in named:
                return named[id(each)]
            _require_importable(type(each))
            return (self.place_of(each) or _own(each)) if isinstance(each, Tensor) else None

        return _replaced(value, out, {})

    def unpack(self, packed: Any) -> Any:  # noqa: ANN401 - of the kind that was packed
        """Put what was referred to back."""

        def back(each: object) -> object:
            if isinstance(each, _Field):
                return getattr(self.screen, each.name)
            if isinstance(each, _Own):
                return each.place.within(torch.from_numpy(each.span).clone().untyped_storage())
            return self._at(each) if isinstance(each, _Place) else None

        return _replaced(packed, back, {})


def _replaced(value: Any, change: Callable[[object], object], done: dict[int, tuple[Any, Any]]) -> Any:  # noqa: ANN401
    """Copy a value with some of what it is made of changed; what occurs twice in it still does."""
    if id(value) in done:
        return done[id(value)][1]
    found = change(value)
    if found is None:
        found = value
        if type(value) in (tuple, list):
            found = type(value)(_replaced(each, change, done) for each in value)
        elif type(value) is dict:
            found = {key: _replaced(each, change, done) for key, each in value.items()}
        elif is_dataclass(value) and not isinstance(value, type) and hasattr(value, "__dict__"):
            found = object.__new__(type(value))
            found.__dict__.update({key: _replaced(each, change, done) for key, each in vars(value).items()})
    done[id(value)] = value, found
    return found


def _lies(tensor: Tensor, table: int, offset: int) -> _Place:
    return _Place(table, str(tensor.dtype).removeprefix("torch."), offset, tuple(tensor.shape), tensor.stride())


def _own(tensor: Tensor) -> _Own:
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    last = sum((size - 1) * stride for size, stride in steps) + 1 if tensor.numel() else 0
    span = tensor.detach().as_strided((last,), (1,)).view(torch.uint8)
    return _Own(span.numpy(), _lies(tensor, 0, 0))


def _arrived(document: bytes, tables: list[Any]) -> _Held:
    # Copies lie where torch wants them: sums depend in their last digits on that, too.
    return _Held(document, [torch.from_numpy(table).clone().untyped_storage() for table in tables])


def _bytes_of(table: UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(table)


@dataclass(frozen=True)
class _Team:
    """Workers that hold a screen."""

    held: _Held
    submit: "_Submit"

    def begin(self, work: Callable[[Screen, Part], Found], part: Part) -> Callable[[], Found]:
        """Give some work to one of them; what is returned waits for the result."""
        _require_importable(work)
        return partial(self._result, self.submit(work, self.held.pack(part)))

    def _result(self, future: Future[Any]) -> Any:  # noqa: ANN401 - whatever the work finds
        try:
            return self.held.unpack(future.result())
        except BrokenExecutor as error:
            raise WorkerError(f"a worker died ({error}): use fewer workers, or give them more memory") from error


def _require_importable(kind: Any) -> None:  # noqa: ANN401 - a class or function
    if "<" in kind.__qualname__:
        raise WorkerError(
            f"a part of this fit cannot be sent to a worker ({kind.__qualname__:.80} lies within a function):"
            " define the model in a module that workers can import, or take one worker"
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


def _answer(there: _Held | None, work: Callable[[Screen, Any], object], packed: object) -> Any:  # noqa: ANN401
    """Do some work; runs in a worker."""
    held = there or _HELD_HERE[0]
    with limited_threads(given=1):
        return held.pack(work(held.screen, held.unpack(packed)))
