"""Quick scores of tiles of pairs on a device: products in single precision, other scores by their blocks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from inverse_design.errors import SpaceError
from inverse_design.problem.pair_means import NetworkScore
from inverse_design.problem.score import LikelihoodScore, PairScore, PooledScore, ProductScore
from inverse_design.search.device.networks import folded_networks, rounding
from inverse_design.search.pruning import Products, Tile

T = TypeVar("T")

_CACHED = 1 << 20  # cells at a time on processors
_LARGEST = 1 << 27  # cells at a time elsewhere
_SHARE = 4  # a tile and what is made on the way take one part in so many of the free memory
_NETWORKED, _TOGETHER = (
    {"cpu": 1 << 11},
    1 << 18,
)  # pairs whose hidden layers are made at a time, there and elsewhere
_BLOCK_BYTES = 256  # a cell of a block takes on the way: the forms of a density, in double precision


@runtime_checkable
class DeviceTiles(Protocol):
    """Quick scores of all pairs, made on a device tile by tile, without waiting for it."""

    @property
    def size(self) -> int:
        """Number of entries."""
        ...

    @property
    def device(self) -> str:
        """Where the tiles are made."""
        ...

    @property
    def error(self) -> float:
        """A bound on how far quick scores are from the exact ones."""
        ...

    @property
    def cell_bytes(self) -> int:
        """How much memory a cell takes while its tile is made."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The type of the scores."""
        ...

    def into(self, out: Float[Tensor, "rows columns"], tile: Tile) -> None:
        """Write the scores of a tile; cells on and below the diagonal mean nothing, but are not NaN."""
        ...


@runtime_checkable
class TiledScore(PairScore, Protocol):
    """A score of pairs that brings its own tiles."""

    def tiles(self, device: str) -> DeviceTiles:
        """Put on a device what its tiles are made of."""
        ...


def device_tiles(score: PairScore, device: str) -> DeviceTiles:
    """Put a score on a device, by the cheapest form that it has there."""
    if isinstance(score, TiledScore):
        return score.tiles(device)
    if isinstance(score, ProductScore):
        return ProductTiles(score, device)
    if isinstance(score, NetworkScore):
        return NetworkTiles(score, device)
    return BlockTiles(score, device)


class ProductTiles:
    """Tiles of one product, in single precision."""

    cell_bytes, dtype = 4, torch.float32

    def __init__(self, score: ProductScore, device: str, *, shift: float = 0.0) -> None:
        self.size, self.device, self.error = score.size, device, score.error
        self._products = Products(score, device=device, shift=shift)

    def into(self, out: Float32[Tensor, "rows columns"], tile: Tile) -> None:
        """Write the scores of a tile."""
        right = self._products.right[slice(*tile.columns)]
        torch.mm(self._products.left(tile.start, tile.stop), right.T, out=out)


class NetworkTiles:
    """Tiles of networks on sums of rows, in single precision."""

    cell_bytes, dtype = 4, torch.float32

    def __init__(self, score: NetworkScore, device: str) -> None:
        product, networks = folded_networks(score)
        self.size, self.device = score.size, device
        self.error = rounding(product, networks) + score.error
        self._product = ProductTiles(product, device)
        self._networks = moved(networks, device, dtype=torch.float32)

    def into(self, out: Float32[Tensor, "rows columns"], tile: Tile) -> None:
        """Write the scores of a tile, networks a few pairs at a time."""
        self._product.into(out, tile)
        self._networks.add_to(out, tile, together=_NETWORKED.get(torch.device(self.device).type, _TOGETHER))


class BlockTiles:
    """Tiles of any other score, whose tensors are moved; in double precision where its blocks are."""

    cell_bytes = _BLOCK_BYTES

    def __init__(self, score: PairScore, device: str) -> None:
        self.size, self.device, self.error = score.size, device, score.error
        self._score = moved(score, device)
        self.dtype = torch.float64 if isinstance(score, LikelihoodScore | PooledScore) else torch.float32

    def into(self, out: Float[Tensor, "rows columns"], tile: Tile) -> None:
        """Write the scores of a tile."""
        if isinstance(self._score, LikelihoodScore | PooledScore):
            out.copy_(self._score.double_block(slice(tile.start, tile.stop), slice(*tile.columns)))
        else:
            out.copy_(self._score.block(*tile))


def moved(value: T, device: str, *, dtype: torch.dtype | None = None) -> T:
    """Put all tensors of a value on a device; with a type of numbers, convert what has a fractional part."""
    found: Any = value
    if isinstance(value, Tensor):
        found = value.to(device, dtype if value.is_floating_point() else None)
    elif isinstance(value, tuple):
        found = tuple(moved(each, device, dtype=dtype) for each in value)
    elif is_dataclass(value) and not isinstance(value, type):
        parts = {each.name: moved(getattr(value, each.name), device, dtype=dtype) for each in fields(value)}
        found = replace(value, **parts)
    return cast("T", found)


def cells_on(tiles: DeviceTiles) -> int:
    """Choose how many cells a tile should have: what stays in a processor's cache, or fits the device's memory."""
    if torch.device(tiles.device).type == "cpu":
        return _CACHED
    if torch.device(tiles.device).type != "cuda":
        return _LARGEST // tiles.cell_bytes
    free, _ = torch.cuda.mem_get_info(tiles.device)
    return min(_LARGEST, free // (_SHARE * tiles.cell_bytes))


@contextmanager
def single_precision() -> Iterator[None]:
    """Have products made in whole single precision: the bounds on rounding do not hold for shorter numbers."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def usable(device: str) -> tuple[str, str]:
    """Find where to search: the device, or the processors and a line that says why.

    Raises:
        SpaceError: If no device has such a name, or it holds no numbers.
    """
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise SpaceError(f"device {device!r:.80} cannot be used: {reason:.200}; take cpu") from error
    if kind == "meta":
        raise SpaceError(f"device {device!r:.80} cannot be used: it holds no numbers; take cpu")
    try:
        torch.empty(1, dtype=torch.float64, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        return "cpu", f"device {device} is not here ({str(error).splitlines()[0]:.80}): the processors searched"
    return device, ""
