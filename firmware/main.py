"""Entry of the node: safe-mode gate, then the application."""

import sys

# A stray file at the root of the flash must not stand in for a module of the image.
if "" in sys.path:
    sys.path.remove("")

from gridnode import app

app.main()
