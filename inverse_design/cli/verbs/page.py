"""The verb ``app``: a web page for the campaigns of a store."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from inverse_design.cli.console import complaints, output, say
from inverse_design.errors import SettingsError

_NEEDED = ("fastapi", "uvicorn", "python_multipart", "django_htmx")


def run_page(
    place: str, *, host: str, port: int, users: str | None, names: Sequence[str], most: int, new_user: str | None
) -> None:
    """Serve the page until it is interrupted."""
    if any(find_spec(each) is None for each in _NEEDED):
        raise SettingsError('the page needs further packages: pip install "inverse-design[app]"')
    from inverse_design.app.serving import is_loopback, serve  # noqa: PLC0415 - the same
    from inverse_design.app.sessions import hashed, new_token, read_users  # noqa: PLC0415 - an extra

    if new_user is not None:
        token = new_token()
        lines = (f'["{new_user}"]', f'token_sha256 = "{hashed(token)}"', 'role = "teller"')
        for line in (f"# token, to be given to {new_user}: {token}", *lines):
            say(output(), line)
        return
    if not is_loopback(host) and users is None:
        raise SettingsError(f"--host {host} lets other machines in: say who may enter with --users FILE")
    if not is_loopback(host):
        said = "tokens and results travel as they are: put a proxy that speaks HTTPS before this server"
        say(complaints(), f"warning: {said}", "bold yellow")
    known = None if users is None else read_users(Path(users))
    serve(place, host=host, port=port, users=known, names=names, most=most * 1_000_000)
