"""`snce push`: an eraser or an SAE to the Hugging Face hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from snce.commands.console import status, stdout
from snce.errors import SnceError

if TYPE_CHECKING:
    from snce.hub.mixin import HubMixin

DESCRIPTION = """\
Put an eraser or an SAE on the Hugging Face hub, with a model card. Log in first: `hf auth login`.

Examples:
  snce push cigarette.safetensors alice/erasers --license apache-2.0
  snce push runs/emblem alice/emblem-sae --private

The repository is made if it is not there. It may hold several erasers; what else it holds stays as it is."""


@dataclass(frozen=True)
class PushOptions:
    """Put an eraser or an SAE on the Hugging Face hub."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE.safetensors|DIR")]
    """An eraser, an SAE, or the folder of an SAE."""
    repo: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OWNER/NAME")]
    """The repository."""
    name: Annotated[str | None, tyro.conf.arg(metavar="FILE.safetensors")] = None
    """Name of the file there; the one that it has here where left out."""
    private: bool = False
    """Make the repository a private one. One that is public already is refused."""
    license: str | None = None
    """For the model card, as the hub writes it: apache-2.0, mit, openrail and so on. Left out: unknown."""
    base_model: Annotated[str | None, tyro.conf.arg(metavar="OWNER/NAME")] = None
    """For the model card: the model that it is for, on the hub. Left out: what the file says."""
    message: str | None = None
    """Of the commit."""
    branch: str | None = None
    """Commit to this branch, which must be there, in place of the main one."""
    pull_request: bool = False
    """Open a pull request, and leave the branch alone."""


def run_push(options: PushOptions) -> None:
    """Upload a file and its card, and say how to get it from there.

    Raises:
        SnceError: a file that is none of ours, no access, or whatever else the hub does not take.
    """
    from snce.commands.hub_files import quiet
    from snce.hub.names import HubFile, check_filename, check_repo

    path, thing = read(options.file)
    repo_id, name = check_repo(options.repo), check_filename(options.name or path.name)
    given = {"license": options.license, "base_model": options.base_model}
    quiet()
    with status(f"pushing {name} to {repo_id}"):
        url = thing.push_to_hub(
            repo_id,
            filename=name,
            private=options.private or None,
            commit_message=options.message,
            branch=options.branch,
            create_pr=options.pull_request,
            model_card_kwargs={key: value for key, value in given.items() if value is not None},
        )
    place = HubFile(repo_id, name, options.branch)
    use = f'snce generate MODEL --eraser {place} --prompt "..." --out picture.png'
    if thing.hub_file == "sae.safetensors":
        use = f"snce find MODEL --sae {place} --concept CONCEPT.yaml --out FILE.safetensors"
    stdout().print(f"{name} pushed: {url} Next: {use}", soft_wrap=True, markup=False)


def read(file: Path) -> "tuple[Path, HubMixin]":
    """(where it lies, the eraser or SAE of a file).

    Raises:
        SnceError: no such file, a damaged one, or one of another kind.
    """
    from snce.erase.eraser import ConceptEraser
    from snce.sae.formats import FORMAT as SAE
    from snce.sae.formats import sae_file
    from snce.sae.model import SparseAutoencoder
    from snce.storage import read_metadata

    path = sae_file(file) if file.is_dir() else file
    if path.suffix != ".safetensors":
        raise SnceError(f"{path} is no safetensors file; push an eraser or an SAE of this library")
    kind = SparseAutoencoder if read_metadata(path).get("format") == SAE else ConceptEraser
    return path, kind.from_pretrained(path)
