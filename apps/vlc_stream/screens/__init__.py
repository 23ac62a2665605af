"""The overhead screens: drivers for their buses, and what they are to be."""
