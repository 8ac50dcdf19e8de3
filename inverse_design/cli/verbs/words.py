"""The verb ``words`` of the command line: what the words of verdicts and tables mean."""

from inverse_design.cli.console import MANNER, Manner, reply, show_facts


def explain_words(*, manner: Manner = MANNER) -> None:
    """Say what the words of verdicts and tables mean."""
    from inverse_design.report.words import GLOSSARY  # noqa: PLC0415 - help needs no report

    reply(manner, GLOSSARY, lambda console: show_facts(console, GLOSSARY))
