"""One rule for every name, held against all kinds of characters that Unicode knows."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surrogates.data.names import LONGEST_NAME, name_of
from surrogates.data.perturbation import Intervention
from surrogates.errors import DataError

_BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def test_no_character_of_a_forbidden_category_is_in_a_name() -> None:
    forbidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
    for code in range(sys.maxunicode + 1):
        sign = chr(code)
        if sign == " ":
            continue
        expected = unicodedata.category(sign) not in forbidden and unicodedata.bidirectional(sign) not in _BIDI
        assert sign.isprintable() == expected, hex(code)


def _is_seen(sign: str) -> bool:
    """Tell by the name that Unicode gives it."""
    called = unicodedata.name(sign, "")
    marks = ("GRAPHEME JOINER", "VARIATION SELECTOR", "VOWEL INHERENT", "VOWEL SEPARATOR", "PATTERN BLANK")
    unseen = any(mark in called for mark in marks) or ("HANGUL" in called and "FILLER" in called)
    return sign.isprintable() and not unseen


def test_no_sign_that_nobody_sees_is_in_a_name() -> None:
    for code in range(128, sys.maxunicode + 1):
        sign = chr(code)
        if not sign.isprintable() or _is_seen(sign):
            continue
        with pytest.raises(DataError, match=f"it holds U\\+{code:04X}"):
            name_of(f"a{sign}b", "name")


@given(
    st.text(max_size=250)
    | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "L", "Mn", "So"]), max_size=6)
)
def test_a_name_is_trimmed_composed_and_printable_or_refused(text: str) -> None:
    composed = unicodedata.normalize("NFC", text.strip())
    try:
        name = name_of(text, "name")
    except DataError:
        assert not composed or not all(map(_is_seen, composed)) or len(composed) > LONGEST_NAME
        return
    assert all(map(_is_seen, name))
    assert name == composed
    assert name_of(name, "name") == name
    assert len(name.splitlines()) == 1
    assert 0 < len(name) <= LONGEST_NAME


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  ", "not '  ': it is empty"),
        ("a\nb", r"it holds U\+000A \(a control character\)"),
        ("a\u202eb", r"it holds U\+202E \(RIGHT-TO-LEFT OVERRIDE\)"),
        ("a\ud800", r"it holds U\+D800"),
        ("x" * 300, r"x{80}'\.\.\.: it has 300 characters, and 200 are the most"),
    ],
)
def test_what_is_no_name_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        name_of(text, "name")


def test_two_spellings_of_one_name_are_one() -> None:
    assert Intervention("caf\u0065\u0301") == Intervention(" café ")
