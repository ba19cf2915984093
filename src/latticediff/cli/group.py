"""The group of all subcommands: usage errors in one line, and help with plain names for what an option takes."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

__all__ = ["PlainGroup"]

#: what an option takes, by a word in what typer would write, such as <path>, <int> or <list[Path]>
WORDS = {"path": "PATH", "int": "N", "float": "X", "str": "TEXT"}


class PlainGroup(TyperGroup):
    """Raises `UserError` in place of usage errors, which would be a usage line, a hint and the error."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        """The context of a call; options of the group itself are read here."""
        try:
            return super().make_context(*args, **options)
        except Exception as exc:
            raise in_one_line(exc) from None

    def invoke(self, ctx: Any) -> Any:
        """Read the options of a subcommand, and run it."""
        try:
            return super().invoke(ctx)
        except Exception as exc:
            if (plain := in_one_line(exc)) is exc:
                raise  # with its traceback as it is
            raise plain from None

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A subcommand, its parameters named plainly."""
        command = super().get_command(ctx, cmd_name)
        for parameter in [] if command is None else command.params:
            name_plainly(parameter, ctx)
        return command


def in_one_line(exc: Exception) -> Exception:
    """A `UserError` of one line for a usage error; any other exception, and a call for help, as it is.

    typer brings its own copy of click along, whose exceptions are told by what they have.
    """
    from ..errors import UserError

    context = getattr(exc, "ctx", None)
    if not hasattr(exc, "format_message") or type(exc).__name__ == "NoArgsIsHelpError":
        return exc
    command = "latticediff" if context is None else context.command_path
    return UserError(f"{exc.format_message().rstrip('.')}; see {command} --help")


def name_plainly(parameter: Any, context: Any) -> None:
    """Give an option a metavar, and an argument its own name without braces and type."""
    if parameter.param_type_name == "argument":
        name = str(parameter.metavar or parameter.name)
        if not parameter.required and not name.startswith("["):
            name = f"[{name}]"
        parameter._usage_display_name = lambda: name
        parameter.display_type_rich = lambda ctx: None
    elif parameter.metavar is None and not parameter.is_flag:
        shown = str(parameter.display_type(context)).lower()
        parameter.metavar = next((word for kind, word in WORDS.items() if kind in shown), None)
