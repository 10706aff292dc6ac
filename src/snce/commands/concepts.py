"""`snce concepts`: the concepts that come with Emblem."""

from dataclasses import dataclass

from snce.commands.console import stdout

DESCRIPTION = """\
List the bundled concepts, which `snce find --concept NAME` and `snce demo --concept NAME` take.

Examples:
  snce concepts
  snce concepts --harmful"""


@dataclass(frozen=True)
class ConceptsOptions:
    """List the concepts that come with Emblem."""

    harmful: bool = False
    """Only those that stand in for a harm."""


def run_concepts(options: ConceptsOptions) -> None:
    """Print objects by group, then styles."""
    from rich.markup import escape
    from rich.table import Table

    from snce.emblem.vocabulary import vocabulary

    words = vocabulary()
    groups: dict[str, list[str]] = {}
    for name, item in words.objects.items():
        if item.harmful or not options.harmful:
            groups.setdefault(item.harmful if options.harmful and item.harmful else item.group, []).append(name)
    if not options.harmful:
        groups["style"] = list(words.styles)
    table = Table(title="bundled concepts", show_header=False, show_lines=True)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for group, names in groups.items():
        table.add_row(escape(f"{group} ({len(names)})"), escape(", ".join(names)))
    stdout().print(table)
