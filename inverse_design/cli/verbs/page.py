"""The verb ``app``: a web page for the campaigns of a store."""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from inverse_design.cli.console import complaints, output, say
from inverse_design.errors import SettingsError
from surrogates.data.names import name_of

_NEEDED = ("fastapi", "uvicorn", "python_multipart", "django_htmx")


def run_page(
    place: str, *, host: str, port: int, users: str | None, names: Sequence[str], most: int, new_user: str | None
) -> None:
    """Serve the page until it is stopped, which is no error."""
    if any(find_spec(each) is None for each in _NEEDED):
        raise SettingsError('the page needs further packages: pip install "inverse-design[app]"')
    from inverse_design.app.serving import is_loopback, serve  # noqa: PLC0415 - the same
    from inverse_design.app.sessions import hashed, new_token, read_users  # noqa: PLC0415 - an extra

    if new_user is not None:
        token, name = new_token(), json.dumps(name_of(new_user, "name of a user"), ensure_ascii=False)
        for line in (f"[{name}]", f'token_sha256 = "{hashed(token)}"', 'role = "teller"'):
            say(output(), line)
        say(complaints(), f"the token of {name}, which is not shown again: {token}")
        return
    if most < 1:
        raise SettingsError(f"--most {most} takes no file at all; state how many MB a file may have, such as 500")
    if not is_loopback(host) and users is None:
        raise SettingsError(f"--host {host} lets other machines in: say who may enter with --users FILE")
    if not is_loopback(host):
        said = "tokens and results travel as they are: put a proxy that speaks HTTPS before this server"
        say(complaints(), f"warning: {said}", "bold yellow")
    known = None if users is None else read_users(Path(users))
    serve(place, host=host, port=port, users=known, names=names, most=most * 1_000_000)
    say(complaints(), "the page has ended; campaigns are as they were recorded", "dim")
