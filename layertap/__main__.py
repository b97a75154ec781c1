"""``python -m layertap``, which is the command ``layertap``."""

import sys

from cli import main

if __name__ == "__main__":
    sys.exit(main())
