"""Entry of the node: safe-mode gate, then the application. Ctrl-C at any moment leads to the REPL."""

import sys

# A stray file at the root of the flash must not stand in for a module of the image.
if "" in sys.path:
    sys.path.remove("")


def _held():
    from gridnode.setup import boot

    return boot.held()


def _run():
    from gridnode import storage

    if _held():
        return  # to the prompt
    if storage.exists(storage.REQUEST + ".new") or storage.exists(storage.REQUEST + ".run"):
        from gridnode.calibrating import cloud

        cloud.catch_up()
    from gridnode import app  # no global: once it has ended, the application leaves the heap

    app.main()


try:
    _run()
except KeyboardInterrupt:
    print('{"event": "stopped"}')
