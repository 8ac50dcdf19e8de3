"""Where the folders of the known datasets are: in a checkout's data, or in the user's cache, downloaded once."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import pooch

from surrogates.errors import DataError

VARIABLE = "INVERSE_DESIGN_DATA"
RAW_HOST = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class PublicFile:
    """One file of a public repository, at one commit, with its known checksum."""

    repository: str  # owner and name on GitHub
    commit: str  # the full hash of the commit
    path: str  # path of the file in the repository
    sha256: str  # of its content

    @property
    def url(self) -> str:
        """The address of the raw file."""
        return f"{RAW_HOST}/{self.repository}/{self.commit}/{self.path}"


def find_folder(name: str) -> Path | None:
    """Find the folder of a dataset on this machine.

    Looks in the folder that the environment variable ``INVERSE_DESIGN_DATA`` names, then in ``../shared/data``
    beside the working directory and beside the checkout of this package.
    """
    checkout = Path(__file__).resolve().parents[2]
    stated = os.environ.get(VARIABLE)
    roots = [Path(stated)] if stated else [base.parent / "shared" / "data" for base in (Path.cwd(), checkout)]
    return next((root / name for root in roots if (root / name).is_dir()), None)


def download(file: PublicFile) -> Path:
    """Fetch a public file into the user's cache, unless it is there.

    Raises:
        DataError: If the server cannot be reached, or the content is not the one that is known.
    """
    try:
        found = pooch.retrieve(
            file.url, known_hash=f"sha256:{file.sha256}", fname=Path(file.path).name, path=cache_folder()
        )
    except ValueError as error:
        raise DataError(f"{file.url} does not have the known content and was not kept: {error}") from error
    except OSError as error:
        raise DataError(
            f"{file.url} cannot be fetched ({error}); put the dataset into a folder named by {VARIABLE}"
        ) from error
    return Path(found)


def sha256_of(file: Path) -> str:
    """Take the checksum of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def cache_folder() -> Path:
    """Name the folder into which public files are fetched."""
    return Path(pooch.os_cache("inverse-design"))
