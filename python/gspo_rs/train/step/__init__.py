"""Step: the groups of one optimizer step, their objective and the update."""
