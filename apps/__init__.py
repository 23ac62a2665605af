"""What runs on an aircraft: one package a service, all of one shape."""
