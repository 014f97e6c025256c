"""What the house promises, tried in earnest: break things, and count what stayed broken."""
