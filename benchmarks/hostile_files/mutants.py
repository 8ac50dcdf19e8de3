"""Mutants of sound files: bytes turned at random, and changes that know what the bytes mean."""

import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.hostile_files.hdf5_mutants import mutate_hdf5
from benchmarks.hostile_files.parquet_mutants import mutate_parquet
from benchmarks.hostile_files.samples import Sample, chosen

_BINARY = frozenset({".h5ad", ".h5mu", ".gctx", ".parquet", ".xlsx", ".csv.gz", ".zarr.zip", ".safetensors"})
_BLIND = 0.45  # part of the mutants of binary formats that know nothing of the format
_BYTES = (
    b"\0",
    b"\xff",
    b'"',
    b"'",
    b",",
    b"\t",
    b";",
    b"|",
    b"\n",
    b"\r",
    b"+",
    b"-",
    b"=",
    b"@",
    b"[",
    b"{",
    b" ",
)
_TEXTS = (
    "nan", "inf", "-inf", "1e400", "-1e308", "1e-400", "0x10", "1_000", "1,5", "TRUE", "None", "", " ", "NA", "-0",
    "9" * 400, "1" * 5000, "1e999999999", "\ufeff", "\u202e", "\u0000", "ctrl", "control", "G0+G0", "G0+", "+",
    "++",
    "G0+G1+G2+G3+G4", "=cmd|x", "😀", "\ud7ff", "İ", "ß", "1-Mar", "2020-01-01", "1;2", '"', '"a',
    "[('G0', 1.0, 'uM')]",
    "G0|5,G1|3", "x" * 300, "-5", "1e200", "[[[", "{", "0" * 50 + "1", "\x1b[31m", "١٢", "\uff11", "½",
)  # fmt: skip

_JSON = (
    "-1", "0", "1000000000000", "1e400", "null", "[]", "{}", '"x"', '"|O"', '"float64"', '"vlen-utf8"',
    '"complex128"',
    '"pickle"', "[3]", "[1000000, 1000000]", '"csr_matrix"', '"array"', '"null"',
)  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A mutant on disk, and what is to read it."""

    path: Path
    reader: str  # a name in :mod:`benchmarks.hostile_files.reading`
    what: str  # sample and reader
    change: str  # what was done to the sample


def draw(known: Sequence[Sample], folder: Path, *, seed: int, number: int) -> Drawn:
    """Write the mutant of a number into a folder."""
    rng = np.random.default_rng([seed, number])
    sample = chosen(rng, known)
    reader = str(rng.choice(sample.readers))
    path = folder / f"mutant{sample.ending}"
    change = mutant(rng, sample, path)
    return Drawn(path, reader, f"{sample.name}{sample.ending} by {reader}", change)


def mutant(rng: np.random.Generator, sample: Sample, path: Path) -> str:
    """Write a mutant of a sample to a path, and say what was done."""
    ending, raw = sample.ending, sample.raw
    blind = rng.random() < _BLIND
    if ending in {".h5ad", ".h5mu", ".gctx"} and not blind:
        return mutate_hdf5(rng, raw, path)
    if ending == ".parquet" and not blind:
        return mutate_parquet(rng, raw, path)
    if ending in {".xlsx", ".zarr.zip"} and not blind:
        said, raw = _archive(rng, raw, "xl/worksheets/sheet1.xml" if ending == ".xlsx" else "zarr.json")
    elif ending == ".csv.gz" and not blind:
        said, text = _text(rng, gzip.decompress(raw))
        raw = gzip.compress(text, mtime=0)
    elif ending == ".safetensors" and not blind:
        said, raw = _model(rng, raw)
    elif ending in _BINARY:
        said, raw = blind_change(rng, raw)
    elif ending == ".toml" and rng.random() < 0.4:
        said, raw = _toml(rng, raw)
    else:
        said, raw = _text(rng, raw)
    path.write_bytes(raw)
    return said


def blind_change(rng: np.random.Generator, raw: bytes) -> tuple[str, bytes]:
    """Turn bytes, cut, repeat or overwrite, knowing nothing of the format."""
    data = bytearray(raw)
    kind = rng.choice(["bits", "bits", "bytes", "bytes", "word", "word", "cut", "drop", "repeat", "noise", "swap"])
    place = int(rng.integers(len(data)))
    span = int(rng.integers(1, min(64, len(data)) + 1))
    if kind == "bits":
        for at in rng.integers(len(data), size=rng.integers(1, 5)):
            data[at] ^= 1 << int(rng.integers(8))
    elif kind == "bytes":
        for at in rng.integers(len(data), size=rng.integers(1, 9)):
            data[at] = int(rng.integers(256))
    elif kind == "word":
        width = int(rng.choice([1, 2, 4, 8]))
        value = int(rng.choice([0, 1, 2**7, 2**15, 2**31, 2**62, -1, -2])) % 2 ** (8 * width)
        data[place : place + width] = value.to_bytes(width, "little")
    elif kind == "cut":
        del data[place:]
    elif kind == "drop":
        del data[place : place + span]
    elif kind == "repeat":
        data[place:place] = data[place : place + span] * int(rng.integers(1, 20))
    elif kind == "noise":
        data[place : place + span] = rng.bytes(span)
    else:
        other = int(rng.integers(len(data)))
        data[place : place + span], data[other : other + span] = (
            data[other : other + span],
            data[place : place + span],
        )
    return f"{kind} at {place}", bytes(data)


def _text(rng: np.random.Generator, raw: bytes) -> tuple[str, bytes]:
    """Change fields, lines, delimiters, quotes, encodings or single characters of a text."""
    changes: Sequence[Callable[[np.random.Generator, bytes], tuple[str, bytes]]] = (
        _field, _field, _field, _line, _insert, _insert, _encoded, blind_change, _delimited, _column,
    )  # fmt: skip
    said = []
    for change in rng.choice(len(changes), size=int(rng.choice([1, 1, 2, 3]))):
        what, raw = changes[int(change)](rng, raw)
        said.append(what)
        if len(raw) > 5_000_000:
            break
    return "; ".join(said), raw


def _field(rng: np.random.Generator, raw: bytes) -> tuple[str, bytes]:
    text = str(rng.choice(_TEXTS))
    lines = raw.split(b"\n")
    row = int(rng.integers(len(lines)))
    mark = b"\t" if b"\t" in lines[row] else b","
    fields = lines[row].split(mark)
    column = int(rng.integers(len(fields)))
    fields[column] = text.encode("utf-8", "surrogatepass")
    lines[row] = mark.join(fields)
    return f"field {row},{column} = {text[:20]!r}", b"\n".join(lines)


def _column(rng: np.random.Generator, raw: bytes) -> tuple[str, bytes]:
    text = str(rng.choice(_TEXTS)).encode()
    lines = raw.split(b"\n")
    mark = b"\t" if b"\t" in lines[0] else b","
    column = int(rng.integers(lines[0].count(mark) + 1))
    for number in range(1, len(lines)):
        fields = lines[number].split(mark)
        if column < len(fields):
            fields[column] = text
        lines[number] = mark.join(fields)
    return f"column {column} = {text[:20]!r}", b"\n".join(lines)


def _line(rng: np.random.Generator, raw: bytes) -> tuple[str, bytes]:
    lines = raw.split(b"\n")
    row = int(rng.integers(len(lines)))
    kind = str(rng.choice(["drop", "double", "many", "short", "long", "empty", "swap"]))
    if kind == "drop":
        del lines[row]
    elif kind in {"double", "many"}:
        lines[row:row] = [lines[row]] * (1 if kind == "double" else 2000)
    elif kind == "short":
        lines[row] = lines[row][: len(lines[row]) // 2]
    elif kind == "long":
        lines[row] += (b"," + lines[row]) * 40
    elif kind == "empty":
        lines[row] = b""
    else:
        lines[row], lines[0] = lines[0], lines[row]
    return f"{kind} line {row}", b"\n".join(lines)


def _insert(rng: np.random.Generator, raw: bytes) -> tuple[str, bytes]:
    piece = _BYTES[int(rng.integers(len(_BYTES)))] * int(rng.choice([1, 1, 1, 2, 100, 20_000]))
    place = int(rng.integers(len(raw) + 1))
    return f"{piece[:1]!r} x {len(piece)} at {place}", raw[:place] + piece + raw[place:]


def _encoded(rng: np.random.Generator, raw: bytes) -> tuple[str, bytes]:
    encoding = str(rng.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "cp1252", "utf-7"]))
    text = raw.decode("utf-8", "replace")
    mark = b"\xff\xfe" if rng.random() < 0.1 else b""
    return encoding, mark + text.encode(encoding, "replace")


def _delimited(rng: np.random.Generator, raw: bytes) -> tuple[str, bytes]:
    old, new = (_BYTES[int(each)] for each in rng.integers(len(_BYTES), size=2))
    if b"," in raw or b"\t" in raw:
        old = b"\t" if b"\t" in raw else b","
    return f"{old!r} to {new!r}", raw.replace(old, new)


def _toml(rng: np.random.Generator, raw: bytes) -> tuple[str, bytes]:
    lines = raw.decode("utf-8", "replace").split("\n")
    row = int(rng.integers(len(lines)))
    values = (
        "[" * 3000, "{a=" * 2000, "1e400", "nan", "-inf", "9" * 5000, "1979-05-27T07:32:00Z", '"\\u0000"',
        "true", "[]",
        "{}", '"' + "x" * 100_000 + '"', '["r0", "r0"]', "{r0 = 'a'}", '"../../etc/passwd"', '"/dev/zero"',
        "0x" + "f" * 999,
        '"."', '""', "[1, 'a', {}]", "{r0 = inf}", "{r0 = nan}", "{r0 = true}", "{'' = 1}", "-1", "1" * 25,
    )  # fmt: skip
    value = values[int(rng.integers(len(values)))]
    key = lines[row].partition("=")[0] or str(rng.choice(["a", "kind", "table", "cells", "column", "from", "to"]))
    lines[row] = f"{key} = {value}"
    if rng.random() < 0.1:
        lines = [".".join(["a"] * 4000) + " = 1", *lines]
    return f"{key.strip()} = {value[:30]}", "\n".join(lines).encode()


def _archive(rng: np.random.Generator, raw: bytes, likely: str) -> tuple[str, bytes]:
    """Change one member of an archive, keep the others."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        names = sorted(set(old.namelist()))
        chosen = likely if likely in names and rng.random() < 0.6 else str(rng.choice(names))
        said = "drop" if rng.random() < 0.1 else ""
        for name in names:
            part = old.read(name)
            if name == chosen and said:
                continue
            if name == chosen:
                said, part = _json(rng, part) if name.endswith("json") else _xml(rng, part)
            new.writestr(name, part)
        if rng.random() < 0.1:
            new.writestr(str(rng.choice(["../../evil", "/abs", "a" * 300])), b"x")
    return f"{chosen}: {said}", out.getvalue()


def _model(rng: np.random.Generator, raw: bytes) -> tuple[str, bytes]:
    """Change the document of a fitted model, which is JSON inside of JSON, and keep the file intact."""
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    said, document = _json(rng, header["__metadata__"]["document"].encode())
    header["__metadata__"]["document"] = document.decode("utf-8", "replace")
    new = json.dumps(header).encode()
    return said, len(new).to_bytes(8, "little") + new + raw[start:]


def _json(rng: np.random.Generator, raw: bytes) -> tuple[str, bytes]:
    """Change a number, a word or a name of JSON."""
    places = list(re.finditer(rb"-?\d+|\"[^\"]*\"", raw))
    if not places or rng.random() < 0.2:
        return blind_change(rng, raw)
    found = places[int(rng.integers(len(places)))]
    new = str(rng.choice(_JSON))
    return f"{found[0][:30]!r} to {new}", raw[: found.start()] + new.encode() + raw[found.end() :]


def _xml(rng: np.random.Generator, raw: bytes) -> tuple[str, bytes]:
    changes = (
        (b'r="B2"', b'r="XFD1048576"'), (b'ref="A1', b'ref="A1:XFD1048576" x="'), (b"<v>", b"<v>" + b"9" * 4000),
        (b't="n"', b't="s"'), (b't="n"', b't="b"'), (b't="n"', b't="d"'), (b't="n"', b't="e"'),
        (b't="n"', b't="zz"'),
        (b't="s"', b't="n"'), (b"<v>0", b"<v>99999999"), (b"<v>1", b"<v>-1"), (b"<row ", b"<row hidden='x' "),
        (b'r="2"', b'r="0"'),
        (b'r="2"', b'r="1048577"'), (b"<c ", b"<c><c "), (b"<t>", b"<t>\x00"), (b"<t>", b"<t>&#0;"),
        (b"<t>", b"<t>_x0000_"),
        (b"?>", b"?><!DOCTYPE a [<!ENTITY b 'cc'><!ENTITY d '&b;&b;&b;'>]>"), (b'count="', b'count="9999999999'),
        (b'sheetId="1"', b'sheetId="x"'), (b'r:id="rId1"', b'r:id="rId9"'), (b"Target=", b"Target='../../x' y="),
        (b"<v>", b"<f>1+1</f><v>"), (b"1", b"1e400"),
        (b"<sheetData>", b"<sheetData><row r='1048576'><c r='A1048576'/></row>"),
    )  # fmt: skip
    able = [(old, new) for old, new in changes if old in raw]
    if not able or rng.random() < 0.3:
        return blind_change(rng, raw)
    old, new = able[int(rng.integers(len(able)))]
    many = -1 if rng.random() < 0.3 else 1
    return f"{old!r} to {new[:30]!r}", raw.replace(old, new, many)
