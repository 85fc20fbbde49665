"""The command with a toy workshop: `python -m tests.dovetail.toy DELAY_S ARGUMENT...`."""

import sys

from dovetail.cli import main
from dovetail.testing import ToyWorkshop

if __name__ == "__main__":
    main(sys.argv[2:], ToyWorkshop(delay_s=float(sys.argv[1])))
