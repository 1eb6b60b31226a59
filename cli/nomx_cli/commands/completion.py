"""`nomx completion`: the script that makes a shell complete nomx's commands and options."""

from __future__ import annotations

import click


@click.command
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    r"""Print the completion script for SHELL.

    \b
    bash  nomx completion bash > ~/.local/share/bash-completion/completions/nomx
    zsh   nomx completion zsh > "${fpath[1]}/_nomx"
    fish  nomx completion fish > ~/.config/fish/completions/nomx.fish
    """
    from click.shell_completion import get_completion_class

    completion = get_completion_class(shell)
    assert completion is not None
    click.echo(completion(ctx.find_root().command, {}, "nomx", "_NOMX_COMPLETE").source())
