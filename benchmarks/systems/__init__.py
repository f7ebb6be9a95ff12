"""The systems that are measured side by side, one per file."""
