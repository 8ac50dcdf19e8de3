"""What all pages of a server share, and the fields of their forms."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated

from fastapi import Depends, File, Form, HTTPException, Path, Request
from fastapi.responses import RedirectResponse
from pydantic import InstanceOf, WithJsonSchema
from starlette.datastructures import UploadFile

from inverse_design.app.jobs import WORKER, Jobs
from inverse_design.app.security import LOOPBACK
from inverse_design.app.sessions import Sessions, User, Visitor
from inverse_design.app.shelf import Shelf, View
from inverse_design.app.uploads import Upload, Uploads
from surrogates.errors import UnknownNameError

MOST_UPLOADED = 500_000_000  # bytes


@dataclass(frozen=True)
class Site:
    """One server: a store, who has entered, what runs, and what was sent."""

    shelf: Shelf
    sessions: Sessions
    jobs: Jobs
    uploads: Uploads
    hosts: tuple[str, ...] = LOOPBACK  # names by which browsers may call it
    most: int = MOST_UPLOADED

    @classmethod
    def of(
        cls,
        place: str,
        users: dict[str, User],
        *,
        hosts: Sequence[str] = LOOPBACK,
        most: int = MOST_UPLOADED,
        worker: Sequence[str] = WORKER,
    ) -> "Site":
        """Open a store for some users."""
        return cls(Shelf(place), Sessions(users), Jobs(worker), Uploads(), tuple(hosts), most)

    def upload(self, number: str, visitor: Visitor) -> Upload:
        """Find a file that a visitor has sent."""
        found = self.uploads.get(number, visitor.name)
        if found is None:
            raise HTTPException(404, "that file is not here any longer; send it again")
        return found


async def site_of(request: Request) -> Site:
    """Find the server of a request."""
    site: Site = request.app.state.site
    return site


Here = Annotated[Site, Depends(site_of)]
Key = Annotated[str, Path(pattern="^[a-z0-9-]{1,60}$", description="The key of a campaign.")]
Number = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="The number of a task or upload.")]
Round = Annotated[int, Path(ge=1, le=100_000, description="The number of a round.")]
Revision = Annotated[
    str, Form(pattern="^[0-9]{1,12}-[0-9a-f]{16}$", description="The end of the log that the form was made from.")
]
Reason = Annotated[str, Form(max_length=1000)]
Label = Annotated[str, Form(max_length=2000)]
Ticked = Annotated[bool, Form()]
_BINARY = WithJsonSchema({"type": "string", "format": "binary"})
Sent = Annotated[InstanceOf[UploadFile], File(), _BINARY]  # as it is parsed; that of FastAPI is a class of its own


def view_of(site: Here, key: Key) -> View:
    """Find the campaign that an address names."""
    try:
        return site.shelf.view(key)
    except UnknownNameError as error:
        raise HTTPException(404, str(error)) from error


Shown = Annotated[View, Depends(view_of)]


def elsewhere(*parts: str) -> RedirectResponse:
    """Send a browser to another page of this server."""
    return RedirectResponse(str(PurePosixPath("/", *parts)), status_code=303)
