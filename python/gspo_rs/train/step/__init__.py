"""One optimizer step: its groups, their objective and the update."""
