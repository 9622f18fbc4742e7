"""The commands, and their exit codes.

0 done, 1 a gate failed, 2 bad usage or input, 70 an error of labelfix itself, 130 interrupted.
"""

import typer

import labelfix
from labelfix_cli.audit import audit
from labelfix_cli.bench import bench
from labelfix_cli.check import check
from labelfix_cli.clean import clean
from labelfix_cli.demo import demo
from labelfix_cli.export import export
from labelfix_cli.next import next_rows
from labelfix_cli.report import report
from labelfix_cli.sample import sample

__all__ = ["app", "main"]

app = typer.Typer(
    name="labelfix",
    help="Repairs the labels of image-classification datasets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"labelfix {labelfix.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Repairs the labels of image-classification datasets.

    Start with: labelfix demo
    """


app.command()(clean)
app.command()(demo)
app.command()(sample)
app.command()(export)
app.command()(report)
app.command()(audit)
app.command()(check)
app.command("next")(next_rows)
app.add_typer(bench, name="bench")


def main() -> None:
    """Run the command line."""
    app()
