"""What this kind of software gets wrong: one short file a fault, held by tests."""
