"""`gspo-rs --install-completion`: completion of commands and options in bash, zsh and fish."""

from cyclopts.completion.install import create_install_completion_command

from gspo_rs.cli.application import app

__all__ = ["install"]

install = create_install_completion_command(app.install_completion, add_to_startup=True)
