"""What is measured, side by side with named peers: `make bench-seats`."""
