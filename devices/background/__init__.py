"""What server processes do behind the requests: jobs, calls of other hosts, deleting old rows."""
