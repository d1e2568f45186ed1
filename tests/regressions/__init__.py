"""What this kind of software gets wrong: a short file a fault, with a report of its kind."""
