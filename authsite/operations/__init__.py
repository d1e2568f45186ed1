"""What whoever runs the registry needs of it: health, metrics, logs, and an orderly stop."""
