"""The Hangar: the ground's end of the gate. Heartbeats, usage, and the fleet on a page."""
