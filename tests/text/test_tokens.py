"""Tokens as a pipeline hands them to its encoder."""

import pytest

from snce.errors import SnceError
from snce.text.tokens import tokens_of_pipeline
from snce.text.towers import TextTower
from tests.examples import same_bits


def test_a_hook_that_is_taken_off_between_the_hooks_of_a_call_reads_nothing_and_lets_the_call_go_on(pipe, monkeypatch):
    """A call of another thread may find it so: PyTorch lists the hooks of a call before it calls the first of them."""
    encoder, outputs, handles = pipe.text_encoder, [], []
    expected = TextTower.from_pipeline(pipe).encode(["a cat"])
    encoder.register_forward_pre_hook(lambda *_: handles[-1].remove())
    encoder.register_forward_hook(lambda _module, _args, output: outputs.append(output.last_hidden_state))
    register = encoder.register_forward_pre_hook

    def noted(*args, **kwargs):
        handles.append(register(*args, **kwargs))
        return handles[-1]

    monkeypatch.setattr(encoder, "register_forward_pre_hook", noted)
    with pytest.raises(SnceError, match="without the encoder that was to be read"):  # in this thread, nothing was seen
        tokens_of_pipeline(pipe, encoder, ["a cat"], {})
    (output,) = outputs
    assert same_bits(output, expected)
