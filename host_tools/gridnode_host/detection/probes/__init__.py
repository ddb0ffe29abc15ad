"""Programs that run inside a bare VM, with the compiled application on its path."""
