"""Run the command line as ``python -m gridnode_host``."""

from gridnode_host.cli import main

if __name__ == "__main__":
    main()
