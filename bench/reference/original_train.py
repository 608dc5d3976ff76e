"""guided-diffusion's own training loop, step after step, written for reading.

What differs from train.py: hybrid losses, importance-weighted timesteps that follow their losses, micro-batches whose mean
losses are added up, a learning rate that is annealed after each step, weight decay on every parameter, averages without
warm-up, nothing clipped. Timesteps are drawn once for a batch, not for each of its micro-batches.
"""

import torch

from diffusion import Diffusion
from loss_second_moment import LossSecondMoment
from philox import NOISE, keyed_normals


class OriginalTrainer:
    """kind: MSE, RESCALED_MSE, KL, RESCALED_KL; schedule: as respaced; time_scale: factor on what the network is told."""

    def __init__(self, model, schedule, kind, seed, lr, weight_decay, ema_rates, micro_batch, anneal_steps, time_scale=1.0):
        self.model, self.kind, self.seed, self.time_scale = model, kind, seed, time_scale
        self.diffusion = Diffusion(schedule, 'EPSILON', 'LEARNED_RANGE')
        self.lr, self.micro_batch, self.anneal_steps = lr, micro_batch, anneal_steps
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=lr, weight_decay=weight_decay)
        self.sampler = LossSecondMoment(len(schedule))
        self.ema_rates = ema_rates
        self.averages = [[p.detach().clone() for p in self.parameters] for _ in ema_rates]
        self.step_count = 0

    def step(self, x_start):
        """x_start [N, C, H, W] -> what the step drew, its losses and its gradient norm."""
        schedule, count = self.diffusion.schedule, len(x_start)
        t, weight = (torch.from_numpy(a) for a in self.sampler.draw(count, self.seed, self.step_count))
        weight = weight.to(x_start.dtype)
        noise = keyed_normals(x_start.shape, self.seed, NOISE, self.step_count).to(x_start.dtype)
        lr = self.optimizer.param_groups[0]['lr']
        self.optimizer.zero_grad()
        parts = []
        for begin in range(0, count, self.micro_batch):
            part = slice(begin, begin + self.micro_batch)
            x_t = schedule.q_sample(x_start[part], noise[part], t[part])
            told = torch.from_numpy(schedule.timestep_map)[t[part]].to(x_start.dtype) * self.time_scale
            terms = self.diffusion.losses(self.model(x_t, told), x_start[part], noise[part], t[part], self.kind)
            (terms['loss'] * weight[part]).mean().backward()
            parts.append({name: value.detach() for name, value in terms.items()})
        terms = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        norm = torch.stack([p.grad.norm() for p in self.parameters]).norm()
        self.optimizer.step()
        for rate, average in zip(self.ema_rates, self.averages):
            for mean, parameter in zip(average, self.parameters):
                mean.mul_(rate).add_(parameter.detach(), alpha=1 - rate)
        self.optimizer.param_groups[0]['lr'] = self.lr * (1 - self.step_count / self.anneal_steps)
        self.sampler.update(t.numpy(), terms['loss'].double().numpy())
        self.step_count += 1
        return dict(
            t=t.tolist(),
            weight=weight.tolist(),
            lr=lr,
            loss=float((terms['loss'] * weight).mean()),
            gradNorm=float(norm),
            **{name: value.tolist() for name, value in terms.items() if name != 'loss'},
            exampleLoss=terms['loss'].tolist(),
        )

    def state(self):
        """{name: tensor} of the weights and, for each rate, of the averages."""
        names = [name for name, _ in self.model.named_parameters()]
        weights = dict(zip(names, [p.detach().clone() for p in self.parameters]))
        return weights, [dict(zip(names, average)) for average in self.averages]
