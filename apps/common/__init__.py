"""What every app shares: settings, logging, health, the event bus, the cabin protocol."""
