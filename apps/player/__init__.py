"""The seat's own agent: it does what the crew command, and reports each second."""
