"""Files that a command names: here, or on the hub."""

from pathlib import Path

from snce.commands.console import status


def local_file(name: str, default: str) -> Path:
    """Where the file `name` lies: hf://OWNER/NAME[@REVISION][/FILE.safetensors] is fetched to the hub's cache first.

    Args:
        default: the file that a name of a repository alone stands for.

    Raises:
        SnceError: it is not to be had from the hub.
    """
    from snce.hub.names import is_hub_uri, parse_hub_uri

    if not is_hub_uri(name):
        return Path(name)
    from snce.hub.transfer import download

    quiet()
    with status(f"fetching {name}"):
        return download(parse_hub_uri(name, default))


def quiet() -> None:
    """No progress bars and no chatter of the hub's client: what matters of it is in the error."""
    from huggingface_hub.utils import disable_progress_bars, logging

    disable_progress_bars()
    logging.set_verbosity_error()
