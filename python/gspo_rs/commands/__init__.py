"""The commands of `gspo-rs`; `gspo_rs.cli` loads the one that is called."""
