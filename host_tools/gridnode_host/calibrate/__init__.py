"""`gridnode calibrate`: reference instruments, the session with a node, and the certificate."""
