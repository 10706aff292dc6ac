"""Just enough ComfyUI to run a workflow: the folders of models, the executor of API-format JSON, and the nodes of a
text-to-image workflow on a diffusers pipeline. Rules as in ComfyUI's `folder_paths.py` and `execution.py`."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from tests.examples import encode

PACK = Path(__file__).parents[2] / "integrations" / "comfyui"
WIDGETS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


def folder_paths(models: Path) -> Any:
    """ComfyUI's module of this name, with its models in the folder `models`."""
    module: Any = ModuleType("folder_paths")
    module.models_dir = str(models)
    known = module.folder_names_and_paths = {}

    def add_model_folder_path(name, folder):
        folders, _ = known.setdefault(name, ([], set()))
        if folder not in folders:
            folders.append(folder)

    def get_filename_list(name):
        folders, extensions = known[name]
        found = [(file, file.relative_to(folder)) for folder in folders for file in Path(folder).rglob("*")]
        return sorted(str(name) for file, name in found if file.is_file() and file.suffix in extensions)

    def get_full_path(name, file):
        return next((str(p) for p in (Path(folder, file) for folder in known[name][0]) if p.is_file()), None)

    vars(module).update({f.__name__: f for f in (add_model_folder_path, get_filename_list, get_full_path)})
    return module


def load_pack(folder: Path = PACK) -> ModuleType:
    """Import a folder of custom nodes under a name that is no package's, as ComfyUI does."""
    name = str(folder).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


def is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def declared(node: type) -> dict[str, tuple]:
    """Every input of a node class, required or optional."""
    kinds = node.INPUT_TYPES()
    return kinds["required"] | kinds.get("optional", {})


def problems(workflow: dict[str, Any], classes: dict[str, type]) -> list[str]:
    """What ComfyUI would refuse a workflow for before it runs."""
    found = []
    for key, step in workflow.items():
        node, inputs = classes[step["class_type"]], step["inputs"]
        found += [f"{key}: {name} is missing" for name in node.INPUT_TYPES()["required"] if name not in inputs]
        validate = getattr(node, "VALIDATE_INPUTS", None)
        judged = inspect.getfullargspec(validate).args if validate else []
        for name, value in inputs.items():
            kind, options = (*declared(node)[name], {})[:2]
            if is_link(value):
                source = classes[workflow[value[0]]["class_type"]]
                if source.RETURN_TYPES[value[1]] != kind:
                    found.append(f"{key}: {name} is not {kind}")
            elif name not in judged:
                if isinstance(kind, list) and value not in kind:
                    found.append(f"{key}: {name} is not in {kind}")
                if not options.get("min", value) <= value <= options.get("max", value):
                    found.append(f"{key}: {name} is out of range")
        if validate:
            verdict = validate(**{n: None if is_link(v) else v for n, v in inputs.items() if n in judged})
            found += [] if verdict is True else [f"{key}: {verdict}"]
    return found


class Executor:
    """Runs workflows, one after the other; a node runs again only if it, its constants, or what it is linked to have
    changed, or its IS_CHANGED gives something else than before."""

    def __init__(self, classes: dict[str, type]) -> None:
        self.classes = classes
        self.cache: dict[str, tuple[Any, tuple]] = {}
        self.ui: dict[str, dict] = {}
        self.ran: list[str] = []

    @torch.inference_mode()
    def run(self, workflow: dict[str, Any]) -> dict[str, tuple]:
        """What each node has returned, by its number."""
        assert problems(workflow, self.classes) == []
        self.ran = []
        for key, step in workflow.items():
            if getattr(self.classes[step["class_type"]], "OUTPUT_NODE", False):
                self._run(workflow, key)
        return {key: self.cache[key][1] for key in workflow}

    def _run(self, workflow: dict[str, Any], key: str) -> tuple:
        step = workflow[key]
        node, inputs = self.classes[step["class_type"]], step["inputs"]
        sources = {name: (self._run(workflow, v[0]), v[1]) for name, v in inputs.items() if is_link(v)}
        constants = {name: v for name, v in inputs.items() if name not in sources}
        unknown = dict.fromkeys(sources)
        stamp = node.IS_CHANGED(**constants, **unknown) if hasattr(node, "IS_CHANGED") else None
        signature = (node, constants, {name: (id(result), i) for name, (result, i) in sources.items()}, stamp)
        if key not in self.cache or self.cache[key][0] != signature:
            arguments = constants | {name: result[i] for name, (result, i) in sources.items()}
            returned = getattr(node(), node.FUNCTION)(**arguments)
            if isinstance(returned, dict):
                self.ui[key] = returned["ui"]
                returned = returned.get("result", ())
            assert len(returned) == len(node.RETURN_TYPES)
            self.cache[key] = signature, returned
            self.ran.append(step["class_type"])
        return self.cache[key][1]


def nodes_on(pipe: Any) -> dict[str, type]:
    """ComfyUI's nodes of a text-to-image workflow, drawing with a diffusers pipeline: 2 steps, its own scheduler."""

    def node(function, inputs, returns, output=False):
        members = {
            "INPUT_TYPES": classmethod(lambda _cls: {"required": {name: (kind,) for name, kind in inputs.items()}}),
            "RETURN_TYPES": returns,
            "FUNCTION": "run",
            "OUTPUT_NODE": output,
            "run": lambda _self, **arguments: function(**arguments),
        }
        return type(function.__name__, (), members)

    def load(ckpt_name):
        return pipe, pipe, pipe

    def text(clip, text):
        embeddings, _ = encode(clip, text)
        return ([[embeddings, {"pooled_output": None}]],)

    def latent(**size):
        return (size,)

    def sample(model, positive, negative, cfg, seed, **_):
        drawn = model(
            prompt_embeds=positive[0][0], negative_prompt_embeds=negative[0][0], guidance_scale=cfg,
            generator=torch.Generator().manual_seed(seed), num_inference_steps=2, output_type="latent",
        )  # fmt: skip
        return (drawn.images,)

    def decode(samples, vae):
        images = vae.vae.decode(samples / vae.vae.config.scaling_factor).sample
        return (vae.image_processor.postprocess(images, output_type="np"),)

    def save(images, filename_prefix):
        return {"ui": {"images": [filename_prefix]}}

    sampler = {"model": "MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING", "latent_image": "LATENT",
               "seed": "INT", "steps": "INT", "cfg": "FLOAT", "sampler_name": "STRING", "scheduler": "STRING",
               "denoise": "FLOAT"}  # fmt: skip
    return {
        "CheckpointLoaderSimple": node(load, {"ckpt_name": "STRING"}, ("MODEL", "CLIP", "VAE")),
        "CLIPTextEncode": node(text, {"clip": "CLIP", "text": "STRING"}, ("CONDITIONING",)),
        "EmptyLatentImage": node(latent, dict.fromkeys(("width", "height", "batch_size"), "INT"), ("LATENT",)),
        "KSampler": node(sample, sampler, ("LATENT",)),
        "VAEDecode": node(decode, {"samples": "LATENT", "vae": "VAE"}, ("IMAGE",)),
        "SaveImage": node(save, {"images": "IMAGE", "filename_prefix": "STRING"}, (), output=True),
    }
