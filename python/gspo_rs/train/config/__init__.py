"""Configuration: the fields of a run, their presets and rules, and the TOML that has them."""
