"""Host tools for Gridnode energy nodes: the package behind the ``gridnode`` command."""

__version__ = "0.1.0"
