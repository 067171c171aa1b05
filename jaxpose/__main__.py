"""``python -m jaxpose``: the ``jaxpose`` command, also if its script is not on the path."""

import sys

from jaxpose.cli import main

sys.exit(main())
