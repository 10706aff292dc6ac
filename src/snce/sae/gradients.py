"""The loss of a TopK code of single positions, and its gradients in closed form.

Of the five dense products that automatic differentiation takes (encode, decode, and the gradients of the activations,
of the decoder and of the encoder) TopK makes all but the first sparse. With c = (x - b_dec) / scale and the residual
r = x - x_hat of a row, of weight w in the loss:

    loss = sum of w |r|^2 / scale^2        z_j = relu(c . W_enc[j] + b_enc[j])      for the k chosen latents j
    G = -2 w r / scale                     dz_j = G . W_dec[j]                      where z_j > 0
    dW_dec[j] = sum of z_j G               dW_enc[j] = sum of dz_j c                db_enc[j] = sum of dz_j
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from snce.sae.pairs import Pairs
from snce.sae.select import strongest
from snce.text.positions import BEGIN, KINDS

if TYPE_CHECKING:
    from snce.sae.model import SparseAutoencoder

AUX_ROWS = 4
"""AuxK is taken on every fourth row: enough to show dead latents where to go, at a fourth of the cost."""


class Term(NamedTuple):
    """A reconstruction of some target by k latents per row, with the gradients of the latents."""

    residual: Tensor
    """Target less what the latents write, [n, d]."""
    outer: Tensor
    """G, [n, d]."""
    loss: Tensor
    fired: Tensor
    """Latents with an activation above zero, bool [m]."""
    b_enc: Tensor
    """Gradient, [m]."""
    along: Tensor
    """dW_dec[j] . W_dec[j], [m]."""


def reconstruct(
    centred: Tensor, target: Tensor, weight: Tensor, scale: float, k: int,
    parameters: tuple[Tensor, Tensor, Tensor], gradients: tuple[Tensor, Tensor],
) -> Term:  # fmt: skip
    """`target` by the k strongest latents of each row of `centred`, both [n, d].

    Args:
        weight: of the rows in the loss, [n].
        parameters: W_enc [m, d], b_enc [m] and W_dec [m, d].
        gradients: where those of W_enc and W_dec are written, [m, d] each.
    """
    w_enc, b_enc, w_dec = parameters
    m = len(w_enc)
    candidates = Pairs.of(strongest(centred, w_enc, b_enc, min(m, k + k // 2 + 1)), m)
    pairs, z = candidates.strongest(candidates.dots(w_enc, centred) + b_enc[candidates.latent], k)
    z.relu_()
    residual = torch.sub(target, pairs.to_rows(z, w_dec), alpha=scale)
    outer = residual * (-2 / scale * weight)[:, None]
    dz = pairs.dots(w_dec, outer) * (z > 0)
    pairs.to_latents(dz, centred, out=gradients[0])
    pairs.to_latents(z, outer, out=gradients[1])
    loss = torch.dot(outer.flatten(), residual.flatten()) / (-2 * scale)  # outer has the weights and -2 / scale
    fired = torch.zeros(len(w_enc), dtype=torch.bool, device=z.device)
    fired[pairs.latent[z > 0]] = True
    return Term(residual, outer, loss, fired, pairs.sums(dz), pairs.sums(z * dz))


@torch.no_grad()
def backward(
    sae: SparseAutoencoder, x: Tensor, kinds: Tensor, silence: Tensor, aux_k: int, aux_weight: float, dead_after: int
) -> Tensor:
    """The loss. Its gradients are left in the parameters' `grad`, that of the decoder without its part along the rows.

    Args:
        x, kinds: [n, positions, d] and [n, positions].
        silence: steps since each latent was last active, [m]; brought up to date.
        aux_k, aux_weight, dead_after: see `TrainConfig`.
    """
    w_enc, w_dec, b_enc, b_dec = (_gradient(p) for p in (sae.W_enc, sae.W_dec, sae.b_enc, sae.b_dec))
    used = kinds != BEGIN
    x, kinds = x[used], kinds[used]
    scale = sae.scale.item()
    target = x - sae.b_dec
    centred = target / scale
    main = reconstruct(
        centred, target, row_weights(kinds), scale, sae.config.k, (sae.W_enc, sae.b_enc, sae.W_dec), (w_enc, w_dec)
    )
    b_enc.copy_(main.b_enc)
    along, loss = main.along, main.loss
    silence += 1
    silence[main.fired] = 0
    dead = (silence > dead_after).nonzero()[:, 0]
    if aux_k and len(dead):
        few = slice(None, None, AUX_ROWS)
        their = sae.W_enc[dead], sae.b_enc[dead], sae.W_dec[dead]
        # no latent is both active and dead: the gradients of the dead ones are zero so far
        aux_grads = torch.empty_like(their[0]), torch.empty_like(their[2])
        aux = reconstruct(centred[few], main.residual[few], aux_weight * row_weights(kinds[few]), scale,
                          min(aux_k, len(dead)), their, aux_grads)  # fmt: skip
        for grad, more in zip((w_enc, w_dec, b_enc, along), (*aux_grads, aux.b_enc, aux.along), strict=True):
            grad[dead] = more
        loss = loss + aux.loss
    w_dec.addcmul_(sae.W_dec, along[:, None], value=-1)
    b_dec.copy_((main.outer.sum(0) - b_enc @ sae.W_enc) / scale)
    return loss


def _gradient(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def row_weights(kinds: Tensor) -> Tensor:
    """Weights [n] that make a sum over rows of `kinds` [n] what `kind_mean` is."""
    here = [kinds == kind for kind in KINDS]
    shares = [rows / (rows.sum() * sum(bool(other.any()) for other in here)) for rows in here if rows.any()]
    return torch.stack(shares).sum(0)
