"""What this kind of software gets wrong: one short file a fault, with a public report of its kind."""
