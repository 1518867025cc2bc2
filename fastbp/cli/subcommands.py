"""``fastbp export``, ``predict``, ``explain`` and ``completion``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import replace_file
from ..messages import counted
from .completion import SHELLS, script
from .explanation import explain_parser, explain_saved
from .options import Parser, build_parser, file_to_write
from .prediction import predictions
from .saved import about_saved, read_saved

if TYPE_CHECKING:
    from ..export.reading import Model

__all__ = ["SUBCOMMANDS", "run_subcommand"]

EXPORT = """\
Write a saved model in another form, by the end of the file's name:

  .h            C99 code, a header that has it all
  .c            C99 code, and a header beside it; with --fortran a module in Fortran too
  .onnx         for ONNX Runtime and others
  .safetensors  the weights under PyTorch's names, for load_state_dict

The model is a file that fastbp has saved, or an ONNX file.  The comment at the beginning of C code
says what it takes and returns.
"""
PREDICT = """\
Predict the rows of a .csv, .parquet or .npz file with a saved model, and print them as CSV.

A model of fastbp --data takes the columns that it has learned, in any order, and others all columns
of the file, which must be numbers.  `fastbp --predict ROWS` does the same with the model that the
last run saved in its folder.
"""
COMPLETION = """\
Print a script with which a shell completes fastbp's arguments.

  bash   fastbp completion bash > ~/.local/share/bash-completion/completions/fastbp
  zsh    fastbp completion zsh > ~/.zfunc/_fastbp, and in .zshrc, before compinit: fpath+=~/.zfunc
  tcsh   fastbp completion tcsh > ~/.fastbp.csh, and in .tcshrc: source ~/.fastbp.csh

It needs pip install "fastbp[completion]"; the script, once it is made, needs nothing.
"""


def run_subcommand(arguments: Sequence[str]) -> None:
    """Run a subcommand.

    Parameters
    ----------
    arguments : sequence of str
        The first is one of `SUBCOMMANDS`.

    Raises
    ------
    OSError, ValueError, ImportError
        If an argument is invalid, a file cannot be read or written, or the model cannot be
        exported.
    SystemExit
        After ``--help`` has been printed.

    Examples
    --------
    >>> from fastbp import mlp
    >>> mlp([4, 8, 3], seed=0).save("net.safetensors")
    >>> run_subcommand(["export", "net.safetensors", "net.h"])
    net.h
    """
    command, *rest = arguments
    build, run = SUBCOMMANDS[command]
    run(build().parse_args(rest))


def _parser(command: str, description: str) -> Parser:
    return Parser(prog=f"fastbp {command}", description=description, allow_abbrev=False,
                  formatter_class=argparse.RawDescriptionHelpFormatter)


def _export_parser() -> Parser:
    parser = _parser("export", EXPORT)
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, help="a saved model")
    add("file", metavar="FILE", type=Path, help="what to write")
    add("--name", metavar="NAME", help="C: what names begin with, default net")
    add("--weights", choices=["decimal", "hex", "bits"], help="C: default decimal")
    add("--fortran", action="store_true", help="C: write a Fortran module too")
    text = "of a network's outputs; default softmax for the classes that fastbp --data learned"
    add("--activation", choices=["softmax", "sigmoid", "exp"], help=text)
    return parser


def _export(options: argparse.Namespace) -> None:
    suffix = options.file.suffix
    if suffix not in (".h", ".c", ".onnx", ".safetensors"):
        raise ValueError(f"FILE: expected a name that ends with .h, .c, .onnx or .safetensors, got "
                         f"{options.file}")
    of_c = {"--name": options.name, "--weights": options.weights, "--fortran": options.fortran}
    given = [name for name, value in of_c.items() if value]
    if suffix not in (".h", ".c") and given:
        raise ValueError(f"{given[0]}: expected a file that ends with .h or .c, got {options.file}")
    if options.file.exists() and options.model.exists() and options.file.samefile(options.model):
        raise ValueError(f"FILE: expected another file than MODEL, got {options.file} for both")
    saved = read_saved(options.model)
    if suffix == ".safetensors":
        if not hasattr(saved, "save_torch") or options.activation is not None:
            raise ValueError(f"FILE: expected a single network without --activation for a file of "
                             f"weights, got a {type(saved).__name__}; choose .h, .c or .onnx")
        saved.save_torch(options.file)
        print(options.file)
        return
    model = _model(saved, about_saved(options.model), options.activation)
    if suffix == ".onnx":
        from ..export.onnx_writing import write_onnx

        write_onnx(options.file, model)
        print(options.file)
        return
    from ..export.c_export import write_c

    for path in write_c(options.file, {options.name or "net": model},
                        weights=options.weights or "decimal", fortran=options.fortran):
        print(path)


def _model(saved: Any, about: dict[str, Any], activation: str | None) -> Model:
    """The model, with the classes that are known of it."""
    from ..export.models import model_of

    classes = None if hasattr(saved, "encoder_") else about.get("classes")
    if classes is None:
        return model_of(saved, activation=activation)
    labels: Any = np.array(classes)
    return replace(model_of(saved, activation=activation or "softmax"), classes=labels)


def _predict_parser() -> Parser:
    parser = _parser("predict", PREDICT)
    parser.add_argument("model", metavar="MODEL", type=Path, help="a saved model")
    text = "a .csv whose first line names the columns, a .parquet, or an .npz with X"
    parser.add_argument("rows", metavar="ROWS", help=text)
    text = "the file to write the predictions to, instead of printing them"
    parser.add_argument("--output", metavar="FILE", type=file_to_write, help=text)
    return parser


def _predict(options: argparse.Namespace) -> None:
    about = about_saved(options.model)
    text, n_rows = predictions(read_saved(options.model), options.rows, about)
    if options.output is None:
        print(text, end="")
    else:
        replace_file(options.output, text.encode())
        print(f"predicted {counted(n_rows, 'row')}: {options.output}")


def _completion_parser() -> Parser:
    parser = _parser("completion", COMPLETION)
    parser.add_argument("shell", choices=SHELLS)
    return parser


def _completion(options: argparse.Namespace) -> None:
    print(script(options.shell, build_parser(), [build() for build, _ in SUBCOMMANDS.values()]))


# What makes the parser of each, and what runs it.
SUBCOMMANDS: dict[str, tuple[Callable[[], Parser], Callable[[argparse.Namespace], None]]] = {
    "export": (_export_parser, _export),
    "predict": (_predict_parser, _predict),
    "explain": (explain_parser, explain_saved),
    "completion": (_completion_parser, _completion),
}
