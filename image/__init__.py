"""The aircraft's Debian image: built from locked packages, the same to the bit each time."""
