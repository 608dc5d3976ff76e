"""One training step after another, written for reading: what native/train does, in PyTorch."""

import torch

from loss import three_head_loss
from philox import NOISE, keyed_normals
from unet import split_output


class TrainerReference:
    """Owns the optimiser and the averages of one network.

    decay_all: whether weight decay also acts on tensors of fewer than two dimensions (norms, biases).
    micro_batch: examples a forward pass; noise is keyed by (seed, step, position in the batch), so it does not
    depend on the split.
    """

    def __init__(
        self,
        model,
        schedule,
        heads,
        compare,
        choose,
        space,
        seed,
        lr=1e-4,
        weight_decay=0.0,
        decay_all=False,
        clip_norm=0.0,
        ema_rates=(),
        ema_warms_up=True,
        micro_batch=0,
    ):
        self.model, self.schedule, self.heads = model, schedule, heads
        self.loss_options = dict(compare=compare, choose=choose, space=space)
        self.seed, self.clip_norm, self.micro_batch = seed, clip_norm, micro_batch
        self.parameters = list(model.parameters())
        decaying = [p for p in self.parameters if decay_all or p.dim() >= 2]
        others = [p for p in self.parameters if not (decay_all or p.dim() >= 2)]
        groups = [dict(params=decaying, weight_decay=weight_decay), dict(params=others, weight_decay=0.0)]
        self.optimizer = torch.optim.AdamW([g for g in groups if g['params']], lr=lr, betas=(0.9, 0.999), eps=1e-8)
        self.ema_rates, self.ema_warms_up = ema_rates, ema_warms_up
        self.averages = [[p.detach().clone() for p in self.parameters] for _ in ema_rates]
        self.step_count = 0

    def step(self, x_start, t, weight):
        """x_start [N, C, H, W] in [-1, 1], t [N], weight [N] -> dict of loss, gradNorm, perHead, chosen, compared."""
        count = len(t)
        size = self.micro_batch or count
        noise = keyed_normals(x_start.shape, self.seed, NOISE, self.step_count).to(x_start.dtype)
        self.optimizer.zero_grad()
        parts = []
        for begin in range(0, count, size):
            part = slice(begin, begin + size)
            x_t = self.schedule.q_sample(x_start[part], noise[part], t[part])
            told = torch.from_numpy(self.schedule.timestep_map)[t[part]]
            predictions, _ = split_output(self.model(x_t, told), self.heads)
            loss, per_head, chosen, compared = three_head_loss(
                predictions, x_start[part], noise[part], t[part], self.schedule, **self.loss_options
            )
            ((weight[part] * loss).sum() / count).backward()
            parts.append((loss.detach(), per_head.detach(), chosen, compared))
        loss, per_head, chosen, compared = (torch.cat(column) for column in zip(*parts))

        gradients = [p.grad for p in self.parameters]
        norm = torch.stack([g.norm() for g in gradients]).norm()
        if self.clip_norm > 0:
            factor = min(1.0, self.clip_norm / (float(norm) + 1e-6))
            for gradient in gradients:
                gradient.mul_(factor)
        self.optimizer.step()
        self.average()
        self.step_count += 1
        return dict(
            loss=float((weight * loss).mean()),
            gradNorm=float(norm),
            exampleLoss=loss.tolist(),
            perHead=per_head.tolist(),
            chosen=chosen.tolist(),
            compared=compared,
        )

    def average(self):
        n = self.step_count
        for rate, average in zip(self.ema_rates, self.averages):
            r = min(rate, (1 + n) / (10 + n)) if self.ema_warms_up else rate
            for mean, parameter in zip(average, self.parameters):
                mean.mul_(r).add_(parameter.detach(), alpha=1 - r)

    def state(self):
        """{name: tensor} of the weights and, for each rate, of the averages."""
        names = [name for name, _ in self.model.named_parameters()]
        weights = dict(zip(names, [p.detach().clone() for p in self.parameters]))
        return weights, [dict(zip(names, average)) for average in self.averages]
