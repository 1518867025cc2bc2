"""``fastbp completion``: a script with which a shell completes the command's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .options import Parser

__all__ = ["SHELLS", "script"]

SHELLS = ["bash", "zsh", "tcsh"]


def script(shell: str, parser: Parser, subcommands: Sequence[Parser]) -> str:
    """The script for a shell.

    Parameters
    ----------
    shell : {"bash", "zsh", "tcsh"}
    parser : Parser
        Of the command.
    subcommands : sequence of Parser
        The last words of their `prog` are their names.

    Returns
    -------
    str

    Raises
    ------
    ImportError
        If shtab is not installed.

    Examples
    --------
    >>> from fastbp.cli.options import build_parser
    >>> "--target" in script("bash", build_parser(), [])
    True
    """
    try:
        import shtab
    except ImportError:
        raise ImportError('completion: needs shtab: pip install '
                          '"fastbp[completion]"') from None
    parsers = [parser]
    if subcommands:
        added = parser.add_subparsers()
        for each in subcommands:
            text = str(each.description).split("\n")[0]
            parsers.append(added.add_parser(each.prog.split()[-1], parents=[each], add_help=False,
                                            help=text))
    for each in parsers:
        for argument in each.arguments:
            # What an argument is shows in how the help writes its value.
            kind = {"FOLDER": shtab.DIRECTORY, "FILE": shtab.FILE, "MODEL": shtab.FILE,
                    "ROWS": shtab.FILE}.get(str(argument.metavar))
            if kind is not None:
                vars(argument)["complete"] = kind
    script: str = shtab.complete(parser, shell)
    return script
