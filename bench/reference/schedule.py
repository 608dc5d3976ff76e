"""Noise schedules in float64: betas, every table, and respacing."""

import math

import numpy as np
import torch


def named_betas(name, timestep_count):
    """[T] float64. linear, scaledLinear, cosine, sigmoid."""
    scale = 1000 / timestep_count
    if name == 'linear':  # Ho et al. 2020
        return np.linspace(scale * 0.0001, scale * 0.02, timestep_count)
    if name == 'scaledLinear':  # Rombach et al. 2022
        return np.linspace(math.sqrt(scale * 0.00085), math.sqrt(scale * 0.012), timestep_count) ** 2
    if name == 'cosine':  # Nichol & Dhariwal 2021
        return betas_of(lambda u: math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2, timestep_count)
    if name == 'sigmoid':  # Jabri et al. 2022
        start, end, tau = -3.0, 3.0, 1.0
        low, high = sigmoid(-end / tau), sigmoid(-start / tau)
        return betas_of(lambda u: (sigmoid(-(u * (end - start) + start) / tau) - low) / (high - low), timestep_count)
    raise ValueError(f'no schedule is named {name}')


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def betas_of(alpha_bar, timestep_count, largest=0.999):
    T = timestep_count
    return np.array([min(1 - alpha_bar((i + 1) / T) / alpha_bar(i / T), largest) for i in range(T)])


def rescale_to_zero_terminal_snr(betas):
    """Lin et al. 2023 (arXiv 2305.08891), algorithm 1: the last beta becomes 1, the first alphaBar stays."""
    root = np.sqrt(np.cumprod(1 - betas))
    root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    alpha_bar = root**2
    alpha = np.concatenate([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
    return 1 - alpha


class Schedule:
    """Tables [T] float64 with guided-diffusion's names; timestep_map is what the network is told."""

    def __init__(self, betas, timestep_map=None):
        self.betas = betas = np.asarray(betas, dtype=np.float64)
        self.timestep_map = np.arange(len(betas)) if timestep_map is None else np.asarray(timestep_map)
        self.alphas_cumprod = ab = np.cumprod(1 - betas)
        self.alphas_cumprod_prev = prev = np.append(1.0, ab[:-1])
        self.alphas_cumprod_next = np.append(ab[1:], 0.0)
        with np.errstate(divide='ignore'):  # alphaBar is 0 at the end of a zero-terminal schedule
            self.sqrt_alphas_cumprod = np.sqrt(ab)
            self.sqrt_one_minus_alphas_cumprod = np.sqrt(1 - ab)
            self.log_one_minus_alphas_cumprod = np.log(1 - ab)
            self.sqrt_recip_alphas_cumprod = np.sqrt(1 / ab)
            self.sqrt_recipm1_alphas_cumprod = np.sqrt(1 / ab - 1)
        self.posterior_variance = betas * (1 - prev) / (1 - ab)
        first = self.posterior_variance[1] if len(betas) > 1 else betas[0]
        self.posterior_log_variance_clipped = np.log(np.append(first, self.posterior_variance[1:]))
        self.posterior_mean_coef1 = betas * np.sqrt(prev) / (1 - ab)
        self.posterior_mean_coef2 = (1 - prev) * np.sqrt(1 - betas) / (1 - ab)
        self.large_variance = np.append(first, betas[1:])

    def __len__(self):
        return len(self.betas)

    @classmethod
    def named(cls, name, timestep_count):
        return cls(named_betas(name, timestep_count))

    def respaced(self, spec):
        """Keeps the timesteps of `spec`; betas are those between kept timesteps."""
        kept, betas, last = space_timesteps(len(self), spec), [], 1.0
        for i in kept:
            betas.append(1 - self.alphas_cumprod[i] / last)
            last = self.alphas_cumprod[i]
        return Schedule(betas, self.timestep_map[kept])

    def gather(self, table, t, like):
        """Table values of each example: taken in float64, cast to float32 (to like's dtype), shaped to broadcast."""
        values = torch.from_numpy(np.asarray(table)[t.numpy()]).to(torch.promote_types(torch.float32, like.dtype))
        return values.reshape(-1, *[1] * (like.dim() - 1))

    def q_sample(self, x_start, noise, t):
        """x_t = sqrt(alphaBar) x_start + sqrt(1 - alphaBar) noise."""
        signal = self.gather(self.sqrt_alphas_cumprod, t, x_start)
        return signal * x_start + self.gather(self.sqrt_one_minus_alphas_cumprod, t, x_start) * noise


def space_timesteps(timestep_count, spec):
    """Ascending kept timesteps for '' (all), 'ddimN' (fixed stride) or counts of equal sections ('10,20,30')."""
    if spec.startswith('ddim'):
        wanted = int(spec[len('ddim') :])
        for stride in range(1, timestep_count):
            if len(range(0, timestep_count, stride)) == wanted:
                return list(range(0, timestep_count, stride))
        raise ValueError(f'no stride keeps {wanted} of {timestep_count} timesteps')
    counts = [int(part) for part in spec.split(',')] if spec else [timestep_count]
    size, extra = divmod(timestep_count, len(counts))
    start, kept = 0, set()
    for i, count in enumerate(counts):
        length = size + (1 if i < extra else 0)
        if length < count:
            raise ValueError(f'cannot keep {count} of a section of {length} timesteps')
        stride = (length - 1) / (count - 1) if count > 1 else 1
        current = 0.0
        for _ in range(count):
            kept.add(start + round(current))  # Python rounds halves to even
            current += stride
        start += length
    return sorted(kept)
