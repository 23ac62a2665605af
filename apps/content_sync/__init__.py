"""Content: brought on board by crew disks and at the gate, checked, and switched as a whole."""
