"""``python -m inverse_design``."""

import sys

from inverse_design.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
