"""One library trains an SAE, in a process and an environment of its own, as the benchmark tells it on standard input.

Needs PyTorch and the library only. Tensors are raw float32 files, mapped into memory. Commands, each answered by a line
of JSON: `run N` (train N steps), `export FILE` (write the weights so far).

All get the same batches in the same order but snce, whose loop draws rows of the file at random; the same peak rate,
warm-up over 5 % of the steps and decay over the last 30 %. Adam is PyTorch's fused one, with snce's betas, wherever the
library lets one choose: SAELens takes the betas alone, dictionary-learning neither. Two rows show what a library does
by default instead: `snce_default` and `sparsify_signum`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
import types
from pathlib import Path

import torch
from benchmarks.machine import anonymous
from torch.nn.functional import linear

BETAS = (0.9, 0.99)
"""Of Adam, as `snce.sae.train` has them."""


def read(path: str, *shape: int) -> torch.Tensor:
    size = 1
    for n in shape:
        size *= n
    return torch.from_file(path, shared=True, size=size).view(*shape)


def rate(step: int, steps: int) -> float:
    """Of `snce.sae.train`."""
    return min(1.0, (step + 1) / (0.05 * steps), (steps - step) / (0.3 * steps))


def without_its_init(package: str) -> None:
    """Make a package importable whose __init__ pulls in what reads language or vision models (nnsight, torchvision):
    training from tensors needs none of that."""
    spec = importlib.util.find_spec(package)
    assert spec is not None, package
    module = types.ModuleType(package)
    module.__path__ = list(spec.submodule_search_locations or ())
    sys.modules[package] = module


class Job:
    """What is trained: the same for all."""

    def __init__(self, path: str) -> None:
        told = json.loads(Path(path).read_text())
        self.d, self.m, self.k, self.lr = told["width"], told["latents"], told["k"], told["lr"]
        self.batch, self.steps, self.rows = told["batch"], told["steps"], told["rows"]
        self.dead_after = told["dead_after"]
        self.x = read(told["data"], self.rows, self.d)
        self.done = 0

    def begin(self) -> None:
        """To be called after the library is imported and before its SAE is built."""
        torch.manual_seed(0)
        self.held = anonymous()

    def batches(self, n: int):
        for _ in range(n):
            at = self.done * self.batch % (self.rows - self.batch + 1)
            self.done += 1
            yield self.x[at : at + self.batch]

    def adam(self, parameters) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=self.lr, betas=BETAS, fused=True)

    def scheduled(self, optimizer: torch.optim.Optimizer):
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, self.steps))


def snce(job: Job):
    return _snce(job, job.lr)


def snce_default(job: Job):
    """At the rate that `train_sae` has by default."""
    from snce.sae.config import TrainConfig

    return _snce(job, TrainConfig.lr)


def _snce(job: Job, lr: float):
    from snce.sae.config import SAEConfig, TrainConfig
    from snce.sae.train import train_steps
    from snce.text.harvest import Embeddings
    from snce.text.positions import WORD

    job.begin()
    data = Embeddings(job.x[:, None], torch.full((job.rows, 1), WORD, dtype=torch.uint8))
    training = TrainConfig(steps=job.steps, batch=job.batch, lr=lr, dead_after=job.dead_after, held_out=0)
    steps = train_steps(data, SAEConfig.plain(job.d, latents=job.m, k=job.k), training)
    sae = next(steps).sae

    def run(n: int) -> None:
        for _ in range(n):
            next(steps)

    return run, lambda: (sae.W_enc / sae.scale, sae.b_enc, sae.W_dec * sae.scale, sae.b_dec, sae.b_dec)


def plain(job: Job):
    """Plain PyTorch: dense products under bfloat16 autocast, automatic differentiation, Adam; no AuxK."""
    job.begin()
    w = torch.nn.functional.normalize(torch.randn(job.m, job.d), dim=1)
    w_enc, w_dec = torch.nn.Parameter(w.clone()), torch.nn.Parameter(w.clone())
    b_enc, b_dec = torch.nn.Parameter(torch.zeros(job.m)), torch.nn.Parameter(job.x[: job.batch].mean(0))
    optimizer = job.adam([w_enc, b_enc, w_dec, b_dec])
    schedule = job.scheduled(optimizer)

    def run(n: int) -> None:
        for x in job.batches(n):
            with torch.autocast("cpu", torch.bfloat16):
                values, places = linear(x - b_dec, w_enc, b_enc).topk(job.k, sorted=False)
                z = torch.zeros(len(x), job.m, dtype=values.dtype).scatter(1, places, values.relu())
                x_hat = z @ w_dec + b_dec
            (x - x_hat.float()).square().sum(1).mean().backward()
            torch.nn.utils.clip_grad_norm_([w_enc, b_enc, w_dec, b_dec], 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            with torch.no_grad():
                w_dec.div_(w_dec.norm(dim=1, keepdim=True))

    return run, lambda: (w_enc, b_enc, w_dec, b_dec, b_dec)


def sae_lens(job: Job):
    """SAELens: SAETrainer, the class that its LanguageModelSAETrainingRunner runs; `step` is its public seam.

    autocast=True is its documented mixed precision; its sparse activations are "only worthwhile if using float32 and
    not using autocast" (TopKTrainingSAEConfig).
    """
    from sae_lens.config import SAETrainerConfig
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.training.sae_trainer import SAETrainer

    job.begin()
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=job.d, d_sae=job.m, k=job.k, apply_b_dec_to_input=True))
    config = SAETrainerConfig(
        total_training_samples=job.steps * job.batch, train_batch_size_samples=job.batch, lr=job.lr,
        lr_warm_up_steps=round(0.05 * job.steps), lr_decay_steps=round(0.3 * job.steps), lr_end=0.0, autocast=True,
        adam_beta1=BETAS[0], adam_beta2=BETAS[1], dead_feature_window=job.dead_after,
    )  # fmt: skip
    trainer = SAETrainer(config, sae, iter(()))

    def run(n: int) -> None:
        for x in job.batches(n):
            trainer.step(x)
            trainer.n_training_steps += 1

    def weights():
        norm = sae.W_dec.norm(dim=1)  # it chooses by activation times norm (rescale_acts_by_decoder_norm)
        return sae.W_enc.T * norm[:, None], sae.b_enc * norm, sae.W_dec / norm[:, None], sae.b_dec, sae.b_dec

    return run, weights


def dictionary_learning(job: Job):
    """dictionary-learning: TopKTrainer.update, which its trainSAE calls for every batch. trainSAE has a bfloat16
    autocast for CUDA and turns it off on the CPU. A latent is dead there after 10 million tokens of silence."""
    without_its_init("dictionary_learning")
    from dictionary_learning.trainers.top_k import TopKTrainer

    job.begin()
    trainer = TopKTrainer(
        steps=job.steps, activation_dim=job.d, dict_size=job.m, k=job.k, layer=0, lm_name="", lr=job.lr,
        warmup_steps=round(0.05 * job.steps), decay_start=round(0.7 * job.steps), device="cpu", seed=0,
    )  # fmt: skip

    def run(n: int) -> None:
        for x in job.batches(n):
            trainer.update(job.done - 1, x)

    ae = trainer.ae
    return run, lambda: (ae.encoder.weight, ae.encoder.bias, ae.decoder.weight.T, ae.b_dec, ae.b_dec)


def sparsify(job: Job):
    """eai-sparsify: SparseCoder in the order of its Trainer.fit (which wants a language model), with its embedding-bag
    decoder and fused encoder. Its autocast is for CUDA. `optimizer="adam"` of its three, as all others here."""
    sae = _sparse_coder(job)
    optimizer = job.adam(sae.parameters())
    schedule = job.scheduled(optimizer)

    def run(n: int) -> None:
        for x in job.batches(n):
            _sparsify_step(sae, x, optimizer)
            schedule.step()

    return run, lambda: (sae.encoder.weight, sae.encoder.bias, sae.W_dec, sae.b_dec, sae.b_dec)


def sparsify_signum(job: Job):
    """eai-sparsify with the optimiser and the rate that are its defaults: signum, averaged by ScheduleFree, with no
    schedule. What it saves are the averaged weights."""
    from schedulefree import ScheduleFreeWrapper
    from sparsify.sign_sgd import SignSGD

    sae = _sparse_coder(job)
    lr = 5e-3 / (job.m / 2**14) ** 0.5
    optimizer = ScheduleFreeWrapper(SignSGD(sae.parameters(), lr=lr), momentum=0.95)
    optimizer.train()

    def run(n: int) -> None:
        for x in job.batches(n):
            _sparsify_step(sae, x, optimizer)

    def weights():
        optimizer.eval()
        averaged = [part.clone() for part in (sae.encoder.weight, sae.encoder.bias, sae.W_dec, sae.b_dec)]
        optimizer.train()
        return *averaged, averaged[-1]

    return run, weights


def _sparse_coder(job: Job):
    from sparsify import SparseCoder, SparseCoderConfig

    job.begin()
    torch.set_float32_matmul_precision("high")  # as in its Trainer.fit
    sae = SparseCoder(job.d, SparseCoderConfig(num_latents=job.m, k=job.k))
    sae.b_dec.data = job.x[: job.batch].mean(0)
    return sae


def _sparsify_step(sae, x: torch.Tensor, optimizer) -> None:
    sae.set_decoder_norm_to_unit_norm()
    sae(x).fvu.backward()
    sae.remove_gradient_parallel_to_decoder_directions()
    optimizer.step()
    optimizer.zero_grad()


def overcomplete(job: Job):
    """overcomplete: its train_sae, as in its README, on a list of batches. Its train_sae_amp is float16 for CUDA. It
    has no decoder bias."""
    without_its_init("overcomplete")
    from overcomplete.sae import TopKSAE, train_sae

    job.begin()
    sae = TopKSAE(job.d, nb_concepts=job.m, top_k=job.k, device="cpu")
    optimizer = job.adam(sae.parameters())
    schedule = job.scheduled(optimizer)

    def criterion(x, x_hat, pre_codes, codes, dictionary):
        return (x - x_hat).square().mean()

    def run(n: int) -> None:
        train_sae(sae, list(job.batches(n)), criterion, optimizer, schedule, nb_epochs=1, monitoring=0)

    layer, nothing = sae.encoder.final_block[0], torch.zeros(job.d)
    return run, lambda: (layer.weight, layer.bias, sae.get_dictionary(), nothing, nothing)


LIBRARIES = {
    f.__name__: f
    for f in (snce, snce_default, plain, sae_lens, dictionary_learning, sparsify, sparsify_signum, overcomplete)
}


def main() -> None:
    answer = sys.stdout
    sys.stdout = sys.stderr  # what a library prints is no answer
    job = Job(sys.argv[2])
    run, weights = LIBRARIES[sys.argv[1]](job)
    for line in sys.stdin:
        command, argument = line.split(maxsplit=1)
        wall, cpu = time.perf_counter(), time.process_time()
        if command == "run":
            run(int(argument))
        else:
            with torch.no_grad():
                flat = torch.cat([part.float().flatten() for part in weights()])
                torch.from_file(argument.strip(), shared=True, size=len(flat)).copy_(flat)
        spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(spent | {"held": job.held}), file=answer, flush=True)


if __name__ == "__main__":
    main()
