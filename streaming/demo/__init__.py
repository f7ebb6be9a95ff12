"""Everything on one machine, with generated events."""
