"""Real servers for tests, each on loopback and a port of its own."""
