"""Simulators: line sensors as files or as virtual nodes, streams with faults, this computer."""
