"""A Hangar and aircraft on one machine, for benchmarks and tests of the gate."""
