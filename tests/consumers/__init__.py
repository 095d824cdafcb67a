"""What hangs off the bus: each consumer, proven by what arrives at its other end."""
