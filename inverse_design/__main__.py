"""``python -m inverse_design``."""

import sys

from inverse_design.interface.cli import main

if __name__ == "__main__":
    sys.exit(main())
