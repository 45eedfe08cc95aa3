"""``segue completion``: what a shell needs to complete command lines of segue."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from segue.cli.shared.telling import tell_lines

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print what SHELL reads to complete command lines.

    bash: eval "$(segue completion bash)" in ~/.bashrc.  zsh: the same in ~/.zshrc, after compinit.
    fish: segue completion fish > ~/.config/fish/completions/segue.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # it is one of the shells that click knows
    tell_lines(kind(ctx.find_root().command, {}, "segue", "_SEGUE_COMPLETE").source())
    return 0
