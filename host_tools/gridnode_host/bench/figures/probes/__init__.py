"""Programs that the VM runs to measure the firmware from within; each prints one line of JSON."""
