"""What RTIO asks of a backend besides verifying: routes, tokens for apps, and ended sessions."""
