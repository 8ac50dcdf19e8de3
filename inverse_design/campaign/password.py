"""Passwords in the URLs of databases: never shown, and never written down."""

import re

# Up to the last "@" of a word: a password that holds one by mistake is masked whole.
_IN_URL = re.compile(r"(\w[\w+.-]*://[^:/@\s]*:)\S*(?=@)")
_IN_QUERY = re.compile(r"(password=)[^&\s'\"]*", re.IGNORECASE)


def masked(text: str) -> str:
    """Mask what may be a password.

    Example:
        >>> masked("postgresql://ann:secret@server/screens?sslpassword=other")
        'postgresql://ann:***@server/screens?sslpassword=***'

    Args:
        text: A URL, or a sentence that holds some.

    Returns:
        The same with ``***`` in the place of passwords.
    """
    return _IN_QUERY.sub(r"\1***", _IN_URL.sub(r"\1***", text))
