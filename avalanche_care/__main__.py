"""``python -m avalanche_care`` is the command ``avalanche-care``."""

from __future__ import annotations

import sys

from avalanche_care.cli import main

if __name__ == "__main__":
    sys.exit(main())
