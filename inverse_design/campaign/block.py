"""A block: the numbers of one told table, as the content of a safetensors file.

Bulk numbers are never rows of a database: a campaign of many measurements is read block by block, as arrays.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from safetensors.numpy import load, save

_BREAK = "\n"  # labels and replicates are printable, so that no line break is in them


@dataclass(frozen=True)
class Block:
    """Wells of one told table.

    Attributes:
        number: Experiment of each well.
        extra: Whether that experiment was made by this very block, because nobody had asked for it.
        failed: Whether the well gave no values.
        genes: Vocabulary ids of its perturbation, ``-1`` where empty.
        values: Measured effects, NaN where failed.
        labels: Its perturbation, one line per well.
        replicates: Name of the replicate, one line per well.
    """

    number: Int[np.ndarray, "m"]
    extra: Bool[np.ndarray, "m"]
    failed: Bool[np.ndarray, "m"]
    genes: Int[np.ndarray, "m k"]
    values: Float[np.ndarray, "m g"]
    labels: str
    replicates: str

    @property
    def label(self) -> list[str]:
        """The perturbation of each well."""
        return self.labels.split(_BREAK)

    @property
    def replicate(self) -> list[str]:
        """The replicate of each well."""
        return self.replicates.split(_BREAK)

    @staticmethod
    def lines(texts: list[str]) -> str:
        """Join texts, one for each well.

        Args:
            texts: None of them with a line break.

        Returns:
            What ``labels`` and ``replicates`` hold.
        """
        return _BREAK.join(texts)

    def to_bytes(self) -> bytes:
        """Write the block.

        Returns:
            The content of a safetensors file; equal blocks have equal content.
        """
        arrays = {
            "number": self.number.astype(np.int64),
            "extra": self.extra.astype(np.uint8),
            "failed": self.failed.astype(np.uint8),
            "genes": self.genes.astype(np.int32),
            "values": self.values.astype(np.float64),
            "labels": np.frombuffer(self.labels.encode(), dtype=np.uint8),
            "replicates": np.frombuffer(self.replicates.encode(), dtype=np.uint8),
        }
        content: bytes = save({name: np.ascontiguousarray(each) for name, each in arrays.items()})
        return content

    @classmethod
    def from_bytes(cls, content: bytes) -> "Block":
        """Read a block.

        Args:
            content: What :meth:`to_bytes` has written.

        Returns:
            The block.
        """
        read = load(content)
        return cls(
            number=read["number"],
            extra=read["extra"].astype(bool),
            failed=read["failed"].astype(bool),
            genes=read["genes"].astype(np.int64),
            values=read["values"],
            labels=read["labels"].tobytes().decode(),
            replicates=read["replicates"].tobytes().decode(),
        )


def content_hash(content: bytes) -> str:
    """Name an artefact.

    Args:
        content: Of the artefact.

    Returns:
        Its SHA-256, in hexadecimal.
    """
    return hashlib.sha256(content).hexdigest()
