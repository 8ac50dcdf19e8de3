"""One invocation of the command line."""

import shlex
from dataclasses import dataclass, field
from datetime import UTC, datetime

from inverse_design.campaign.password import masked

PROGRAM = "inverse-design"


def examples(*lines: str) -> str:
    """Write the examples of a verb's help.

    Args:
        lines: Command lines without the program.

    Returns:
        Markdown.
    """
    return "Examples:\n\n" + "\n".join(f"- `{PROGRAM} {line}`" for line in lines)


@dataclass(frozen=True)
class Run:
    """What was typed, and when.

    Attributes:
        arguments: The words behind the name of the program.
        started: When the work began.
    """

    arguments: tuple[str, ...] = ()
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def command(self) -> str:
        """The command line, quoted so that a shell reads it back; passwords are masked."""
        return shlex.join((PROGRAM, *map(masked, self.arguments)))
