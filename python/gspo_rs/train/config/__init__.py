"""Configuration of a run: its fields, presets, validation rules and TOML file."""
