"""Makes room in the VM's table of names, which grows in steps of some KB: no step then falls into what is measured."""
# mypy: ignore-errors

import gc
import sys


def widen(most):
    """Add names until the table has just grown by `most` bytes or more at once."""
    k = step = 0
    while step < most:
        before = gc.mem_alloc()
        getattr(sys, "unused_name_" + str(k), None)
        step = gc.mem_alloc() - before
        k += 1
    gc.collect()
