"""Choices among heads, mixtures and the stable target field by their definitions, in float64 on a given output of a network;
writes test/fixtures/strategies.*.

    python strategies.py --out ../../test/fixtures

Everything goes through predictions of x_start, which native/loss never forms.
"""

import argparse
import pathlib

import numpy as np
import torch

from formula import hashed
from make_fixtures import VERSIONS, write_json, write_tensors
from schedule import Schedule

HEADS = ('xStart', 'v', 'eps')
SIGMA_DATA = 0.5
N, C, SIZE, REFERENCES = 5, 2, 4, 6
T = [0, 40, 260, 700, 999]


def formula(offset, *shape):
    return torch.from_numpy(hashed(offset + np.arange(int(np.prod(shape)))).reshape(shape))


def factor(space, snr):
    """Squared error in `space` for a squared error of 1 of x_start."""
    return {'xStart': snr**0, 'v': 1 + snr, 'eps': snr, 'F': snr + 1 / SIGMA_DATA**2}[space]


def stable_pair(x_start, eps, x_t, reference, alpha, sigma):
    """x_start and eps of the stable target field, from |x_t - alpha y| itself."""
    x_starts = []
    for i in range(N):
        images = torch.cat([x_start[i : i + 1], reference])
        distance = ((x_t[i] - alpha[i] * images) ** 2).flatten(1).sum(dim=1)
        p = torch.softmax(-distance / (2 * sigma[i] ** 2), dim=0)
        x_starts.append((p[:, None, None, None] * images).sum(dim=0))
    mean = torch.stack(x_starts)
    return mean, (x_t - alpha[:, None, None, None] * mean) / sigma[:, None, None, None]


def share_of(case, compared, inputs):
    """[N, H] (by pixel [N, H, h, w]) from errors in the space of the comparison."""
    choose, heads = case['choose'], torch.arange(len(HEADS))
    winner = compared.argmin(dim=1, keepdim=True)
    wins = (heads.view(1, -1, *[1] * (compared.dim() - 2)) == winner).double()
    if choose in ('min', 'minPixel'):
        return wins
    if choose == 'minBatch':
        return (heads == compared.mean(dim=0).argmin()).double().expand(N, -1)
    if choose == 'mean':
        return torch.full_like(compared, 1 / len(HEADS))
    if choose == 'relaxed':
        return wins * (1 - case['floor']) + (1 - wins) * case['floor'] / (len(HEADS) - 1)
    if choose == 'softmin':
        return torch.softmax(-compared / (case['temperature'] * compared.min(dim=1, keepdim=True).values), dim=1)
    if choose == 'given':
        return inputs['share'].clone()
    return (heads == HEADS.index(choose)).double().expand(N, -1)


def chosen_of(share):
    total = share.flatten(2).sum(dim=2) if share.dim() > 2 else share
    best = total == total.max(dim=1, keepdim=True).values
    return torch.where(best.sum(dim=1) == 1, best.double().argmax(dim=1), -1)


def run(case, inputs):
    schedule = Schedule.named('linear', 1000)
    ab = torch.from_numpy(schedule.alphas_cumprod)[T]
    alpha, sigma, snr = ab.sqrt(), (1 - ab).sqrt(), ab / (1 - ab)
    wide = [v[:, None, None, None] for v in (alpha, sigma)]
    x_start, eps = inputs['x_start'], inputs['noise']
    x_t = wide[0] * x_start + wide[1] * eps
    if case.get('reference'):
        x_start, eps = stable_pair(x_start, eps, x_t, inputs['reference'], alpha, sigma)

    output = torch.cat([inputs['output'], inputs['gate']], dim=1) if case.get('gate') else inputs['output'].clone()
    output.requires_grad_(True)
    direct, v, a = output[:, : 3 * C].split(C, dim=1)
    predicted = [direct, wide[0] * x_t - wide[1] * v, (x_t - wide[1] * a) / wide[0]]  # of x_start
    error = torch.stack([p - x_start for p in predicted], dim=1)  # [N, H, C, h, w]
    squared = (error**2).mean(dim=2) if case['choose'] == 'minPixel' else (error**2).flatten(2).mean(dim=2)

    def seen_in(space):
        columns = [factor(head if space == 'own' else space, snr) for head in HEADS]
        return torch.stack(columns, dim=1).view(N, len(HEADS), *[1] * (squared.dim() - 2))

    share = share_of(case, (squared * seen_in(case['compare'])).detach(), inputs)
    weighted = squared * seen_in(case['space'])
    if case.get('headWeight'):
        weighted = weighted * inputs['head_weight'].view(N, len(HEADS), *[1] * (squared.dim() - 2))
    loss = (share * weighted).sum(dim=1)
    loss = loss.flatten(1).mean(dim=1) if loss.dim() > 1 else loss
    if 'factor' in case:
        mixed = sum(inputs['mixture'][:, h, None, None, None] * p for h, p in enumerate(predicted)) - x_start
        loss = loss + case['factor'] * (mixed**2).flatten(1).mean(dim=1) * factor(case['space'], snr)
    if 'direction' in case:
        target = wide[0] * eps - wide[1] * x_start
        dot, own, other = ((a * b).flatten(1).mean(dim=1) for a, b in ((v, target), (v, v), (target, target)))
        loss = loss + case['direction'] * (1 - dot / torch.sqrt((own + 1e-4) * (other + 1e-4)))
    if case.get('gate'):
        prior = torch.stack([1 - ab, torch.ones_like(ab), ab], dim=1)[:, :, None, None] / 2
        p = prior * output[:, 3 * C :].exp()
        p = p / p.sum(dim=1, keepdim=True)
        mixed = sum(p[:, h : h + 1] * predicted[h].detach() for h in range(len(HEADS))) - x_start
        loss = loss + (mixed**2).flatten(1).mean(dim=1) / (1 - ab)
    loss.sum().backward()

    flat = error.detach().flatten(2)
    own = torch.stack([factor(head, snr) for head in HEADS], dim=1)
    result = dict(
        loss=loss.detach(),
        chosen=chosen_of(share),
        perHead=(flat**2).mean(dim=2) * own,
        errorProducts=torch.einsum('nad,nbd->nab', flat, flat) / flat.shape[2] / (1 - ab)[:, None, None],
        meanError=flat.mean(dim=2),
        gradient=output.grad,
    )
    if case['choose'] == 'softmin':
        result |= dict(share=share)
    return result | dict(output=output.detach()) if case.get('gate') else result


CASES = [
    *[
        dict(choose=choose, compare=compare, space=space, floor=0.3, temperature=0.5)
        for choose in ('minPixel', 'relaxed', 'softmin')
        for compare, space in (('xStart', 'F'), ('own', 'own'), ('v', 'eps'))
    ],
    *[dict(choose=choose, compare='xStart', space='v') for choose in ('min', 'minBatch', 'mean', 'eps', 'given')],
    *[dict(choose=choose, compare='xStart', space='F', headWeight=True) for choose in ('mean', 'minPixel', 'given')],
    *[dict(choose='given', compare='own', space=space, factor=0.7) for space in ('F', 'v', 'xStart', 'eps')],
    dict(choose='mean', compare='own', space='own', reference=True),
    dict(choose='min', compare='xStart', space='v', reference=True, headWeight=True, factor=2.0),
    dict(choose='mean', compare='own', space='own', gate=True),
    dict(choose='mean', compare='own', space='own', direction=0.8),
    dict(choose='xStart', compare='own', space='F', direction=1.5, reference=True),
    *[dict(choose=choose, compare='own', space='own') for choose in ('min', 'minBatch')],
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--out', type=pathlib.Path, required=True)
    out = parser.parse_args().out
    x_start = formula(0, N, C, SIZE, SIZE)
    # References from very near to the examples to far from them, so that weights are neither 0 nor 1 at any timestep.
    near = torch.tensor([0.003, 0.03, 0.1, 0.3, 0.6, 1.0]).double().view(REFERENCES, 1, 1, 1)
    share = torch.softmax(3 * formula(900, N, len(HEADS)), dim=1)
    share[1], share[2] = 0, torch.tensor([0.5, 0.5, 0])
    mixture = 1 / 3 + formula(950, N, len(HEADS))
    inputs = dict(
        x_start=x_start,
        noise=1.7 * formula(200, N, C, SIZE, SIZE),
        output=1.3 * formula(400, N, len(HEADS) * C, SIZE, SIZE),
        reference=x_start[torch.arange(REFERENCES) % N] + near * formula(1000, REFERENCES, C, SIZE, SIZE),
        gate=2 * formula(1300, N, len(HEADS), SIZE, SIZE),
        share=share,
        head_weight=1 + formula(970, N, len(HEADS)),
        mixture=mixture + (1 - mixture.sum(dim=1, keepdim=True)) / len(HEADS),
    )
    # What is float32 in a step is exact in float32 here.
    for name in ('share', 'head_weight', 'mixture'):
        inputs[name] = inputs[name].float().double()
    tensors = {**inputs, 't': torch.tensor(T)}
    for i, case in enumerate(CASES):
        tensors |= {f'{i}.{name}': value for name, value in run(case, inputs).items()}
    made_by = {**VERSIONS, 'script': 'bench/reference/strategies.py'}
    write_json(out / 'strategies.json', dict(madeBy=made_by, sigmaData=SIGMA_DATA, cases=CASES))
    write_tensors(out / 'strategies.safetensors', tensors)


if __name__ == '__main__':
    main()
