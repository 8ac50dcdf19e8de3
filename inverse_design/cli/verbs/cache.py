"""The verb ``cache`` of the command line: what is kept of earlier fits."""

from json import dumps

from cyclopts import App

from inverse_design.cli.console import examples, output, say, show_facts
from surrogates.fit_cache import USER_CACHE, VARIABLE

cache = App(
    name="cache", help="Fits that are kept, so that the next question on the same data takes the search alone."
)


@cache.command(help_epilogue=examples("cache info"))
def info(*, json: bool = False) -> None:
    """Say where fits are kept, in how many files, and how large they are.

    Args:
        json: Print it as JSON, and nothing else.
    """
    count, size = USER_CACHE.size()
    if json:
        limit = USER_CACHE.limit
        output().out(dumps({"folder": str(USER_CACHE.place), "files": count, "bytes": size, "limit_bytes": limit}))
        return
    facts = {
        "folder": f"{USER_CACHE.place} ({VARIABLE} names another one)",
        "files": f"{count:,}, of fits and of what was worked out of them",
        "size": f"{size / 1e6:,.1f} MB of at most {USER_CACHE.limit / 1e6:,.0f}; those unused for longest go",
    }
    show_facts(output(), facts)


@cache.command(help_epilogue=examples("cache clear"))
def clear() -> None:
    """Delete all fits that are kept; they are made anew where they are needed."""
    say(output(), f"deleted {USER_CACHE.clear():,} files of fits in {USER_CACHE.place}")
