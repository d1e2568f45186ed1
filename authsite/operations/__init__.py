"""What whoever runs the registry needs of it: health, metrics, logs, and an orderly stop."""

RUNTIME = "AUTHSITE_RUNTIME"  # a folder that the processes of a server share, told to each of them
