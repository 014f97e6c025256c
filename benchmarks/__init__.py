"""Speed and memory, measured side by side in one run, with a command that anyone can repeat."""
