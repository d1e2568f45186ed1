"""What staff see of credentials: keys, certificates, trust anchors, and when they end."""
