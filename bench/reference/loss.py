"""The three-head loss: errors of each head, a comparison in a common space, a choice, the number to differentiate."""

import torch

from diffusion import mean_flat, target_of

SPACES = ('own', 'xStart', 'v', 'eps', 'F')
CHOICES = ('min', 'minBatch', 'mean', 'xStart', 'v', 'eps')


def to_x_start(head, ab):
    """Squared error of x_start for a squared error of 1 of the head (ab: alphaBar)."""
    return {'xStart': torch.ones_like(ab), 'v': 1 - ab, 'eps': (1 - ab) / ab}[head]


def from_x_start(space, ab, sigma_data):
    """Squared error in `space` for a squared error of 1 of x_start."""
    snr = ab / (1 - ab)
    return {'xStart': torch.ones_like(ab), 'v': 1 / (1 - ab), 'eps': snr, 'F': snr + 1 / sigma_data**2}[space]


def factors(schedule, t, heads, space, sigma_data=0.5):
    """[N, heads] float64: what a head's own squared error is multiplied by to be expressed in `space`."""
    ab = torch.from_numpy(schedule.alphas_cumprod)[t]
    if space == 'own':
        return torch.ones(len(t), len(heads), dtype=torch.float64)
    return torch.stack([to_x_start(h, ab) * from_x_start(space, ab, sigma_data) for h in heads], dim=1)


def three_head_loss(predictions, x_start, noise, t, schedule, compare, choose, space, sigma_data=0.5):
    """predictions: {head: [N, C, H, W]} -> loss [N], per_head [N, heads], chosen [N] (-1: all), compared [N, heads].

    compare: own or xStart (any of SPACES); choose: one of CHOICES; space: of the error that is differentiated.
    """
    heads = list(predictions)
    per_head = torch.stack(
        [mean_flat((predictions[h] - target_of(h, x_start, noise, schedule, t)) ** 2) for h in heads], dim=1
    )
    compared = per_head.detach() * factors(schedule, t, heads, compare, sigma_data).to(per_head.dtype)
    weighted = per_head * factors(schedule, t, heads, space, sigma_data).to(per_head.dtype)
    if choose == 'mean':
        return weighted.mean(dim=1), per_head, torch.full_like(t, -1), compared
    if choose == 'min':
        chosen = compared.argmin(dim=1)
    elif choose == 'minBatch':
        chosen = compared.mean(dim=0).argmin().expand(len(t))
    else:
        chosen = torch.full_like(t, heads.index(choose))
    return weighted.gather(1, chosen[:, None])[:, 0], per_head, chosen, compared
