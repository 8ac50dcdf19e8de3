"""Passwords are masked wherever a URL may stand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inverse_design.campaign.store.database import Database
from inverse_design.errors import StoreError, masked

_WORDS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
_SECRETS = st.text(st.sampled_from("abc123%:/@!$"), min_size=6, max_size=12).map(lambda text: f"q{text}q")


@given(_WORDS, _SECRETS, st.sampled_from(["postgresql", "postgres", "postgresql+psycopg"]))
def test_no_password_is_left_and_the_rest_is(user: str, secret: str, driver: str) -> None:
    url = f"{driver}://{user}:{secret}@server:5432/screens"
    assert (
        masked(f"the store '{url}' is empty") == f"the store '{driver}://{user}:***@server:5432/screens' is empty"
    )


def test_passwords_of_a_query_are_masked_and_what_has_none_stays() -> None:
    assert (
        masked("--store=postgresql://h/db?user=u&password=s3&x=1")
        == "--store=postgresql://h/db?user=u&password=***&x=1"
    )
    assert masked("postgresql://h/db?sslPassword=s3'") == "postgresql://h/db?sslPassword=***'"
    for plain in ("postgresql://ann@server/screens", "campaigns.db", "https://server:80/a", "mail a@b: c"):
        assert masked(plain) == plain


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://ann:s3cret@server:port/screens", "is not the URL of a database"),
        ("postgresql://ann:s3cr@et@server/screens", "more than one '@'.* as %40"),
        ("mysql://ann:s3cret@server/screens", "neither an SQLite file nor a PostgreSQL database"),
        ("://ann:s3cret@server", "is not the URL of a database"),
    ],
)
def test_urls_that_cannot_be_used_keep_the_secret(url: str, words: str) -> None:
    with pytest.raises(StoreError, match=words) as found:
        Database.at(url, timeout=0.1)
    assert not any(part in str(found.value) for part in ("s3cr", "et@"))


def test_a_database_is_shown_without_the_passwords_of_its_url() -> None:
    database = Database.at("postgresql://ann:s3cret@127.0.0.1:1/screens?sslpassword=hidden", timeout=0.1)
    assert database.shown == "postgresql+psycopg://ann:***@127.0.0.1:1/screens?sslpassword=***"
    with pytest.raises(StoreError, match="cannot be used") as found, database.reading():
        pass
    assert not any(secret in str(found.value) for secret in ("s3cret", "hidden"))
