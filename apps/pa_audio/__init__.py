"""The PA's server: who speaks is heard, in which areas, signed and within milliseconds."""
