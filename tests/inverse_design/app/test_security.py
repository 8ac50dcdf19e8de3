"""Who may see and change what."""

import errno
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from inverse_design.app.server import create_app
from inverse_design.app.sessions import hashed, read_users
from inverse_design.app.site import Site
from inverse_design.app.uploads import Upload, Uploads
from surrogates.errors import DataError

from .conftest import Browser

ELSEWHERE = {"key": "first-00", "number": "0" * 32, "name": "curve"}


def operations(site: Site) -> Iterator[tuple[str, str]]:
    """Every method and address that the schema names."""
    for path, methods in create_app(site).openapi()["paths"].items():
        for method in methods:
            yield method.upper(), path.format(**ELSEWHERE).replace("rounds/" + "0" * 32, "rounds/1")


def test_nothing_is_seen_or_done_without_a_session(site: Site, enter: Callable[..., Browser]) -> None:
    browser = enter()
    asked = [each for each in operations(site) if not each[1].startswith(("/enter", "/static"))]
    assert len(asked) >= 20
    assert {browser.send(*each).status_code for each in asked} == {401}


def test_no_form_is_taken_without_its_token(site: Site, ann: Browser) -> None:
    posts = [path for method, path in operations(site) if method == "POST" and path != "/enter"]
    for path in posts:
        answer = ann.send("POST", path, data={"csrf": "guessed"})
        assert answer.status_code in {403, 422}, path  # 422 where a field is missing, too


def test_readers_read(site: Site, home: str, enter: Callable[[str], Browser]) -> None:
    reader = enter("rea")
    page = reader.get(home)
    assert page.status_code == 200
    assert "Drop" not in page.text
    assert "Drag" not in reader.get(f"{home}/rounds/1/plate").text
    before = site.shelf.view(home.rpartition("/")[2]).revision
    csrf = {"csrf": page.text.partition('name="csrf" value="')[2].partition('"')[0], "revision": before}
    for path, fields in {
        "order": {},
        "ask": {},
        "drop": {"label": "G0+G1"},
        "rounds/1/pin": {"label": "x"},
    }.items():
        answer = reader.send("POST", f"{home}/{path}", data={**csrf, **fields})
        assert answer.status_code == 403
        assert "may read" in answer.text
    assert site.shelf.view(home.rpartition("/")[2]).revision == before


def test_tellers_begin_no_campaign(enter: Callable[[str], Browser]) -> None:
    answer = enter("tom").post("/screens", made="/", files={"screen": ("screen.csv", b"a,b\n1,2\n")})
    assert (answer.status_code, "may not begin campaigns" in answer.text) == (403, True)


def test_a_token_is_exchanged_for_a_cookie_that_scripts_and_other_sites_do_not_get(
    enter: Callable[..., Browser],
) -> None:
    browser = enter()
    assert browser.get("/enter?token=guessed").status_code == 401
    answer = browser.get("/enter?token=token of ann")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=strict" in answer.headers["set-cookie"]
    assert browser.get("/").status_code == 200
    assert browser.post("/leave", made="/").headers["location"] == "/enter"
    left = browser.get("/")
    assert (left.status_code, "your session has ended" in left.text) == (401, True)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::2]", "127.0.0.1:80@evil"])
def test_names_that_are_not_ours_are_refused(ann: Browser, host: str) -> None:
    answer = ann.get("/", headers={"host": host})
    assert (answer.status_code, "not known by that name" in answer.text) == (400, True)


def test_forms_of_other_sites_are_refused(ann: Browser) -> None:
    answer = ann.send("POST", "/leave", headers={"origin": "https://evil.example"})
    assert (answer.status_code, "another site" in answer.text) == (403, True)
    assert ann.get("/").headers["referrer-policy"] == "same-origin"  # else browsers hide the origin of our own


def test_forms_pass_a_proxy_that_speaks_https(enter: Callable[..., Browser]) -> None:
    browser = enter()
    proxied = {"origin": "https://127.0.0.1", "x-forwarded-proto": "https"}
    answer = browser.send("POST", "/enter", data={"token": "token of ann"}, headers=proxied)
    assert (answer.status_code, "Secure" in answer.headers["set-cookie"]) == (303, True)


def test_nobody_sends_a_large_form_before_entering(enter: Callable[..., Browser]) -> None:
    large = {"screen": ("screen.csv", b"x" * 1_500_000)}
    assert enter().send("POST", "/enter", data={"token": "guessed"}, files=large).status_code == 413


def test_every_answer_forbids_scripts_that_are_not_ours(home: str, ann: Browser, place: Path) -> None:
    for path in ("/", home, f"{home}/history", "/none", "/static/page.js", "/static/none", "/openapi.json"):
        answer = ann.get(path)
        assert "default-src 'none'; script-src 'self'" in answer.headers["content-security-policy"], path
        assert answer.headers["x-content-type-options"] == "nosniff"
        if "html" in answer.headers["content-type"]:
            assert "<script>" not in answer.text
            assert " style=" not in answer.text
            assert " onclick=" not in answer.text
    place.unlink()
    assert "script-src 'self'" in ann.get("/").headers["content-security-policy"]


def test_what_is_too_large_is_refused_before_it_is_kept(ann: Browser) -> None:
    large = b"x" * 4_000_000
    declared = ann.post("/screens", made="/new", files={"screen": ("screen.csv", large)})

    async def parts() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="screen"; filename="s.csv"\r\n\r\n'
        for _ in range(40):
            yield b"x" * 100_000

    headers = {"content-type": "multipart/form-data; boundary=b"}
    streamed = ann.send("POST", "/screens", content=parts(), headers=headers)
    form = ann.send("POST", "/leave", data={"csrf": "x" * 1_500_000})
    for answer in (declared, streamed, form):
        assert answer.status_code == 413
        assert "inverse-design campaign" in answer.text


def test_nothing_stays_of_a_file_that_does_not_fit_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_source: object, sink: BinaryIO) -> None:
        sink.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with tempfile.TemporaryFile() as sent, pytest.raises(OSError, match="No space left"):
        Uploads().keep(sent, "screen.csv", known=(".csv",), owner="ann")
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []


def test_files_of_one_person_do_not_displace_those_of_another(site: Site) -> None:
    def sent(owner: str) -> Upload:
        with tempfile.TemporaryFile() as stream:
            return site.uploads.keep(stream, "a.csv", known=(".csv",), owner=owner)

    kept, (first, *_, last) = sent("ann"), [sent("tom") for _ in range(25)]
    assert [site.uploads.get(each.number, each.owner) for each in (kept, first, last)] == [kept, None, last]
    assert (kept.path.exists(), first.path.exists()) == (True, False)


def test_users_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "users.toml"
    file.write_text(f'["Ann B."]\ntoken_sha256 = "{hashed("secret")}"\nrole = "owner"\n')
    assert read_users(file)["Ann B."].role == "owner"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no user"),
        ("[ann", "cannot be read"),
        ('[ann]\ntoken_sha256 = "secret"', "ann.token_sha256"),
        (f'[ann]\ntoken_sha256 = "{"0" * 64}"\nrole = "king"', "reader"),
        (f'[ann]\ntoken_sha256 = "{"0" * 64}"\ncolour = "red"', "colour"),
        (f'["a\\u202eb"]\ntoken_sha256 = "{"0" * 64}"', "printable"),
    ],
)
def test_a_wrong_file_of_users_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "users.toml"
    file.write_text(text)
    with pytest.raises(DataError, match=said):
        read_users(file)
