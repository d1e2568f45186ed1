"""The tables of what devices show: keys, certificates, and who vouches for them."""
