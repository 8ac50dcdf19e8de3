"""The verb ``cache`` of the command line: what is kept of earlier fits."""

from cyclopts import App

from inverse_design.cli.console import MANNER, Manner, examples, reply, say, show_facts
from surrogates.fit_cache import USER_CACHE, VARIABLE

cache = App(
    name="cache", help="Fits that are kept, so that the next question on the same data takes the search alone."
)


@cache.command(help_epilogue=examples("cache info"))
def info(*, manner: Manner = MANNER) -> None:
    """Say where fits are kept, in how many files, and how large they are."""
    count, size = USER_CACHE.size()
    facts = {
        "folder": f"{USER_CACHE.place} ({VARIABLE} names another one)",
        "files": f"{count:,}, of fits and of what was worked out of them",
        "size": f"{size / 1e6:,.1f} MB of at most {USER_CACHE.limit / 1e6:,.0f}; those unused for longest go",
    }
    known = {"folder": USER_CACHE.place, "files": count, "bytes": size, "limit_bytes": USER_CACHE.limit}
    reply(manner, known, lambda console: show_facts(console, facts))


@cache.command(help_epilogue=examples("cache clear"))
def clear(*, manner: Manner = MANNER) -> None:
    """Delete all fits that are kept; they are made anew where they are needed."""
    count, place = USER_CACHE.clear(), USER_CACHE.place
    reply(
        manner,
        {"folder": place, "deleted": count},
        lambda console: say(console, f"deleted {count:,} files of fits in {place}"),
    )
