"""`python -m anyref`: the same as the `anyref` command."""

from __future__ import annotations

import sys

from anyref.cli import main

if __name__ == "__main__":
    sys.exit(main())
