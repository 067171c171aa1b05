"""``python -m jaxpose.cli``: run the command if its script is not on the path."""

import sys

from jaxpose.cli import main

sys.exit(main())
