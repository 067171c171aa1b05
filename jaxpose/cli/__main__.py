"""``python -m jaxpose.cli``, where the command's script is not on the path."""

import sys

from jaxpose.cli import main

sys.exit(main())
