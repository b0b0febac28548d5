"""NAT and DiNAT."""
