"""`optimum-cli export scanscribe CHECKPOINT OUT`: the exporter as a subcommand of optimum's.

optimum finds this file because it lies in its namespace package `optimum.commands.register`; that
is why there is no `__init__.py` on the way. Only argparse is imported until the command runs.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand


class ScanscribeExportCommand(BaseOptimumCLICommand):  # type: ignore[misc]  # untyped
    """Parses and calls `export.export_bundle`."""

    COMMAND = CommandInfo(
        name="scanscribe", help="Export a Gemma 4 unified checkpoint to a scanscribe bundle."
    )

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        parser.add_argument("checkpoint", type=Path, help="model directory or safetensors file")
        parser.add_argument("out", type=Path, help="the new bundle directory")
        parser.add_argument("--recipe", default="int4", help="fp32, int4, int4-b128 or int8")
        parser.add_argument("--device", default="cpu", help="cpu or cuda")
        parser.add_argument(
            "--int8-prefill", action="store_true", help="8-bit matrices for prompts"
        )
        parser.add_argument("--activation-type", help="cuda only: float16 (default) or bfloat16")

    def run(self) -> None:
        from export import export_bundle
        from model_onnx.errors import ScanscribeError

        arguments = self.args
        try:
            bundle = export_bundle(
                arguments.checkpoint,
                arguments.out,
                recipe=arguments.recipe,
                device=arguments.device,
                activation_type=arguments.activation_type,
                int8_prefill=arguments.int8_prefill,
                progress=_show if sys.stderr.isatty() else None,
            )
        except ScanscribeError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        print(f"wrote {bundle.directory}")


def _show(done: int, total: int, name: str) -> None:
    end = "\n" if done == total else ""
    print(f"\r{done / total:6.1%}  {name[-60:]:<60}", end=end, file=sys.stderr)


REGISTER_COMMANDS = [(ScanscribeExportCommand, ExportCommand)]
