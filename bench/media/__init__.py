"""What is measured of the PA and of streaming, side by side with named peers."""
