"""What goes over the gate, measured against its peers."""
