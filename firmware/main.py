"""Entry of the node: safe-mode gate, then the application. Ctrl-C at any moment leads to the REPL."""

import sys

# A stray file at the root of the flash must not stand in for a module of the image.
if "" in sys.path:
    sys.path.remove("")

try:
    from gridnode import app

    app.main()
except KeyboardInterrupt:
    print('{"event": "stopped"}')
