"""`ife-status`: how this server is, what is wrong with it, and what to do, for a field engineer."""
