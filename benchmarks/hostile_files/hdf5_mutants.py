"""HDF5 whose objects are of other shapes, types and encodings, linked in circles, or point out of the file."""

from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np

_ENCODINGS = (
    "array", "string-array", "dataframe", "csr_matrix", "csc_matrix", "categorical", "null", "dict", "string",
    "nullable-integer", "nullable-boolean", "numeric-scalar", "rec-array", "awkward-array", "\0", "",
)  # fmt: skip
_MOST_CHANGED = 10**6  # values of a dataset
_VERSIONS = ("0.1.0", "0.2.0", "", "99", "0.0.0")


def mutate_hdf5(rng: np.random.Generator, raw: bytes, path: Path) -> str:
    """Write a mutant of a file, and say what was done."""
    path.write_bytes(raw)
    said = []
    with h5py.File(path, "r+") as file:
        for _ in range(int(rng.choice([1, 1, 2]))):
            change = str(rng.choice(list(_CHANGES)))
            names = _names(file)
            name = str(rng.choice(names)) if rng.random() < 0.6 else str(rng.choice(_central(names)))
            try:
                said.append(f"{change} {name}: {_CHANGES[change](rng, file, name)}")
            except (KeyError, ValueError, TypeError, OSError, RuntimeError, IndexError, OverflowError) as error:
                said.append(f"{change} {name} was not possible ({type(error).__name__})")
    return "; ".join(said)


def _names(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visit(found.append)
    return found or ["/"]


def _central(names: list[str]) -> list[str]:
    kept = ("X", "X/data", "X/indices", "X/indptr", "obs", "obs/_index", "obs/condition", "var",
            "obs/perturbation", "obs/perturbation/codes", "obs/perturbation/categories", "var/_index",
            "obs/cell_type", "layers/log",
            "0/DATA/0/matrix", "0/META/COL/id", "0/META/ROW/id", "uns/value")  # fmt: skip
    return [name for name in names if name in kept] or names


def _replaced(file: h5py.File, name: str, data: object, **how: object) -> None:
    """Put another dataset in a place, with the same attributes."""
    old = dict(file[name].attrs)
    del file[name]
    new = file.create_dataset(name, data=data, **how)
    new.attrs.update(old)


def _values(rng: np.random.Generator, file: h5py.File, name: str) -> str:
    stored = file[name]
    if not isinstance(stored, h5py.Dataset) or stored.shape in {None, ()} or stored.size > _MOST_CHANGED:
        return "none"
    values = stored[()]
    if values.dtype.kind not in "iuf":
        odd = ["", "\0", "G0+G0", "x" * 1000, "nan", "G0\nG1", "control", "\udc80"]
        values = np.array(
            [each.decode() if isinstance(each, bytes) else str(each) for each in values.ravel()], dtype=object
        )
        values[rng.integers(len(values))] = odd[int(rng.integers(len(odd)))].encode("utf-8", "surrogateescape")
        _replaced(file, name, values, dtype=h5py.string_dtype())
        return "another text"
    odd_numbers: list[float] = [
        -1,
        2**31 - 1,
        -(2**31),
        10**6,
        0,
        1e300,
        np.nan,
        np.inf,
        len(values),
        len(values) - 1,
        127,
        255,
    ]
    flat = values.ravel()
    with np.errstate(all="ignore"):
        places = rng.integers(flat.size, size=int(rng.choice([1, 1, flat.size])))
        flat[places] = np.asarray(rng.choice(odd_numbers)).astype(values.dtype)
    if rng.random() < 0.3:
        rng.shuffle(flat)
    stored[...] = flat.reshape(values.shape)
    return "other numbers"


def _shape(rng: np.random.Generator, file: h5py.File, name: str) -> str:
    stored = file[name]
    if not isinstance(stored, h5py.Dataset) or not stored.shape or stored.size > _MOST_CHANGED:
        return "none"
    values = stored[()]
    n = len(values)
    makers: list[Callable[[], np.ndarray]] = [
        lambda: values[:-1], lambda: np.concatenate([values, values[:1]]), lambda: values[:0],
        lambda: values[None],
        lambda: values[..., None], lambda: np.asarray(values).ravel()[0], lambda: np.repeat(values, 3, axis=0),
        lambda: np.asarray(values).ravel()[: n // 2], lambda: values.reshape(1, -1), lambda: np.zeros((0, 0)),
    ]  # fmt: skip
    number = int(rng.integers(len(makers)))
    _replaced(file, name, makers[number]())
    return f"shape {number}: {file[name].shape}"


def _type(rng: np.random.Generator, file: h5py.File, name: str) -> str:
    stored = file[name]
    known = isinstance(stored, h5py.Dataset) and stored.shape is not None and stored.size <= _MOST_CHANGED
    shape = stored.shape if known else (3,)
    n = max(int(np.prod(shape)), 0)
    makers: dict[str, Callable[[], tuple[object, object]]] = {
        "complex": lambda: (np.ones(shape, complex), None),
        "float16": lambda: (np.ones(shape, np.float16), None),
        "float128": lambda: (np.ones(shape, np.longdouble), None),
        "bool": lambda: (np.ones(shape, bool), None),
        "compound": lambda: (np.ones(shape, [("a", "f8"), ("b", "i4")]), None),
        "nested compound": lambda: (np.ones(shape, [("a", [("b", "f4", (3,))])]), None),
        "bytes": lambda: (np.full(shape, b"1.5"), None),
        "opaque": lambda: (np.zeros(shape, "V8"), None),
        "object reference": lambda: (np.full(n, file.ref, dtype=object), h5py.ref_dtype),
        "region reference": lambda: (np.full(n, stored.regionref[()], dtype=object), h5py.regionref_dtype),
        "vlen": lambda: (np.full(n, None, dtype=object), h5py.vlen_dtype(np.int32)),
        "enumeration": lambda: (np.zeros(shape, "i1"), h5py.enum_dtype({"RED": 0, "BLUE": 1}, basetype="i1")),
        "big endian": lambda: (np.ones(shape, ">f8"), None),
        "uint64": lambda: (np.full(shape, 2**64 - 1, np.uint64), None),
        "texts": lambda: (np.full(shape, "1.5", dtype=object), h5py.string_dtype()),
        "array": lambda: (np.zeros(shape, "(3,)f8"), np.dtype("(3,)f8")),
        "null": lambda: (h5py.Empty("f8"), None),
        "time": lambda: (np.zeros(shape, "i8"), h5py.opaque_dtype(np.dtype("M8[s]"))),
    }  # fmt: skip
    what = str(rng.choice(list(makers)))
    data, dtype = makers[what]()
    if what == "vlen":
        old = dict(file[name].attrs)
        del file[name]
        made = file.create_dataset(name, (n,), dtype=dtype)
        made.attrs.update(old)
        for row in range(n):
            made[row] = np.arange(row % 3)
        return what
    _replaced(file, name, data, **({} if dtype is None else {"dtype": dtype}))
    return what


def _attribute(rng: np.random.Generator, file: h5py.File, name: str) -> str:
    attrs = file[name].attrs
    keys = [*attrs, "encoding-type", "encoding-version", "shape", "_index", "column-order"]
    key = str(rng.choice(keys))
    values: list[object] = [
        str(rng.choice(_ENCODINGS)), str(rng.choice(_ENCODINGS)), str(rng.choice(_VERSIONS)), 0, -1, 2**40,
        [2**40, 2**40],
        [-1, 4], [40, 10**9], [10**9, 4], [1], [1, 2, 3], 1.5, np.nan, b"\xff", "..", "X", ["no"],
        ["condition"] * 3,
        h5py.Empty("f4"), np.ones(2, complex), file.ref, [], "obs", "_index", "a/b", "/", True,
    ]  # fmt: skip
    if rng.random() < 0.2:
        if key in attrs:
            del attrs[key]
        return f"no {key}"
    number = int(rng.integers(len(values)))
    value = values[number]
    attrs[key] = (
        np.array(value, dtype=h5py.string_dtype())
        if isinstance(value, list) and value and isinstance(value[0], str)
        else value
    )
    return f"{key} = {str(value)[:40]}"


def _link(rng: np.random.Generator, file: h5py.File, name: str) -> str:
    kind = str(
        rng.choice(["none", "soft", "dangling", "circle", "external", "parent", "group", "data", "other", "many"])
    )
    names = _names(file)
    other = str(rng.choice(names))
    if kind == "parent":
        (file[name] if isinstance(file[name], h5py.Group) else file[name].parent)[f"up{rng.integers(9)}"] = file[
            "/"
        ]
        return kind
    if kind == "many":
        parent = file[name].parent
        for number in range(300):
            parent[f"n{number}"] = file[name]
        return kind
    del file[name]
    made: dict[str, Callable[[], object]] = {
        "soft": lambda: h5py.SoftLink(f"/{other}"),
        "dangling": lambda: h5py.SoftLink("/no/such"),
        "circle": lambda: h5py.SoftLink(f"/{name}"),
        "external": lambda: h5py.ExternalLink(
            str(rng.choice(["no.h5", file.filename, "/etc/passwd", "."])), f"/{other}"
        ),
        "data": lambda: np.dtype("f8"),
        "other": lambda: file[other],
    }
    if kind == "group":
        file.create_group(name)
    elif kind != "none":
        file[name] = made[kind]()
    return kind


def _storage(rng: np.random.Generator, file: h5py.File, name: str) -> str:
    stored = file[name]
    shape = stored.shape if isinstance(stored, h5py.Dataset) and stored.shape else (40, 4)
    dtype = stored.dtype if isinstance(stored, h5py.Dataset) and stored.dtype.kind in "iuf" else np.dtype("f8")
    old = dict(stored.attrs)
    kind = str(
        rng.choice(
            ["huge", "huge row", "huge column", "external", "virtual", "virtual itself", "bomb", "fill", "resize"]
        )
    )
    if kind == "resize" and isinstance(stored, h5py.Dataset) and stored.chunks:
        stored.resize(int(rng.choice([0, 1, 10**9])), axis=0)
        return kind
    del file[name]
    if kind == "external":
        made = file.create_dataset(name, shape, dtype, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
    elif kind.startswith("virtual"):
        layout = h5py.VirtualLayout(shape, dtype)
        layout[...] = h5py.VirtualSource("." if kind == "virtual itself" else "other.h5", "/X", shape)
        made = file.create_virtual_dataset(name, layout)
    elif kind == "fill":
        made = file.create_dataset(name, shape, dtype, fillvalue=np.array(7).astype(dtype), chunks=True)
    else:
        huge = {
            "huge": tuple(10**5 for _ in shape),
            "huge row": (10**9, *shape[1:]),
            "huge column": (*shape[:-1], 10**9),
        }
        size = huge.get(kind, (3 * 10**8 // max(1, int(np.prod(shape[1:]))), *shape[1:]))
        made = file.create_dataset(
            name,
            size,
            dtype,
            chunks=tuple(min(each, 10**6) for each in size)[:1] + size[1:] if kind == "bomb" else True,
            compression="gzip",
        )
    made.attrs.update(old)
    return kind


_CHANGES: Mapping[str, Callable[[np.random.Generator, h5py.File, str], str]] = {
    "values": _values, "shape": _shape, "type": _type, "attribute": _attribute, "link": _link, "storage": _storage,
}  # fmt: skip
