"""Content in, usage out: the aircraft's end of the crew disk and of the gate."""
