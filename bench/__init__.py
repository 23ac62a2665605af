"""The aircraft on a workstation: its own services, a simulated cabin, and ways to break them."""
