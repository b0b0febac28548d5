"""XCiT."""
