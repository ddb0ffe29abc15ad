"""The bench: virtual nodes, mains physics, broker and shadow service (Linux and macOS)."""
