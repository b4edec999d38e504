"""The commands of `gspo-rs`, one file each; `gspo_rs.cli` loads the one that is called."""
