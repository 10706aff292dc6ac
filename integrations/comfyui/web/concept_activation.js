// Shows what the node "Concept Activation" has read, in the node itself.
import { app } from "../../scripts/app.js";

app.registerExtension({
  name: "snce.ConceptActivation",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== "SnceConceptActivation") return;
    const { onNodeCreated, onExecuted } = nodeType.prototype;

    nodeType.prototype.onNodeCreated = function (...args) {
      const result = onNodeCreated?.apply(this, args);
      const element = document.createElement("textarea");
      element.readOnly = true;
      element.placeholder = "Run the workflow to see the activation.";
      element.className = "comfy-multiline-input";
      const widget = this.addDOMWidget("activation_report", "text", element, {
        getValue: () => element.value,
        setValue: (text) => (element.value = text),
        serialize: false, // not an input of the node: it must not be sent with the prompt
      });
      widget.serialize = false; // nor saved with the workflow
      return result;
    };

    nodeType.prototype.onExecuted = function (output, ...rest) {
      onExecuted?.call(this, output, ...rest);
      const widget = this.widgets?.find(({ name }) => name === "activation_report");
      if (widget) widget.value = (output?.text ?? []).join("\n\n");
    };
  },
});
