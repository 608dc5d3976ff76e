"""Compares the reference with the values of the original implementation: python check_golden.py FOLDER

FOLDER holds all of them, or is test/fixtures, which has the small ones.
Prints the worst error of each group as a multiple of its tolerance and exits with 1 if any is above 1.
"""

import argparse
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import load_file

from diffusion import Diffusion
from formula import fill_by_formula
from schedule import Schedule, space_timesteps
from unet import SuperResModel, UNetModel

VARIANCE_TYPES = ('FIXED_SMALL', 'FIXED_LARGE', 'LEARNED', 'LEARNED_RANGE')


def network(description):
    model = (SuperResModel if description['constructor'] == 'SuperResModel' else UNetModel)(**description['config'])
    shapes = [[name, list(tensor.shape)] for name, tensor in model.state_dict().items()]
    if shapes != description['parameters']:
        raise AssertionError('parameters differ in name, shape or order')
    return fill_by_formula(model)


def forward(model, tensors, x):
    inputs = {name: tensors[name] for name in ('y', 'low_res') if name in tensors}
    return model(x, tensors['t'], **inputs)


def output_error(a, b):
    return float((a - b).abs().max() / (1e-4 * b.abs().max()))


def close_error(a, b):
    return float(((a - b).abs() / (1e-5 + 1e-5 * b.abs())).max())


def relative_error(a, b, tolerance):
    a, b = np.asarray(a), np.asarray(b)
    scale = np.where(b == 0, 1, np.abs(b))
    return float(np.max(np.where(a == b, 0, np.abs(a - b)) / scale / tolerance))


def cut_like(a, b):
    """The upper left part of the images a that is as large as b."""
    return a if a.dim() < 4 else a[..., : b.shape[2], : b.shape[3]]


def check_network(folder, name):
    description = json.loads((folder / f'{name}.json').read_text())
    tensors = load_file(folder / f'{name}.safetensors')
    model = network(description)
    x = tensors['x'].clone().requires_grad_()
    out = forward(model, tensors, x)
    (out * tensors['probe']).mean().backward()
    expected = description['gradNorm']
    # A bias just before a norm with one channel a group has gradient zero; what is left is the order of summation, which
    # changes with the number of threads. Such norms must only be small on both sides.
    floor = 1e-6 * max(expected.values())
    norms = {n: float(p.grad.norm()) for n, p in model.named_parameters()}
    zeros = [n for n in norms if expected[n] < floor]
    gradients = [relative_error(norms[n], expected[n], 1e-3) for n in norms if n not in zeros]
    gradients += [norms[n] / floor for n in zeros]
    yield f'{name} out', output_error(out.detach(), tensors['out'])
    yield f'{name} grad_x', output_error(x.grad, tensors['grad_x'])
    yield f'{name} gradNorm ({len(norms)}, {len(zeros)} of them zero but for rounding)', max(gradients)


def check_schedules(folder):
    worst = {}
    for key, table in load_file(folder / 'schedules.safetensors').items():
        name, buffer = key.split('.')
        schedule = Schedule.named(name.rstrip('0123456789'), int(name.lstrip('abcdefghijklmnopqrstuvwxyz')))
        error = relative_error(getattr(schedule, buffer), table.numpy(), 1e-12)
        worst[name] = max(worst.get(name, 0), error)
    for name, error in worst.items():
        yield f'schedules {name}', error


def check_respacing(folder):
    linear = Schedule.named('linear', 1000)
    for spec, expected in json.loads((folder / 'respacing.json').read_text()).items():
        if space_timesteps(1000, spec) != expected['timesteps']:
            raise AssertionError(f'respacing {spec} keeps other timesteps')
        yield f'respacing "{spec}"', relative_error(linear.respaced(spec).betas, expected['betas'], 1e-12)


def check_diffusion(folder):
    g = load_file(folder / 'diffusion-steps.safetensors')
    t, x_start, noise, step_noise = g['t'], g['x_start'], g['noise'], g['step_noise']
    for name in ('linear', 'cosine'):
        schedule = Schedule.named(name, 1000)
        x = g[f'{name}.x_t']
        prior = Diffusion(schedule).prior_bound(x_start)
        yield f'diffusion-steps {name}.prior_bpd', close_error(prior, g[f'{name}.prior_bpd'])
        for mean_type in ('EPSILON', 'START_X', 'PREVIOUS_X'):
            for variance_type in VARIANCE_TYPES:
                prefix = f'{name}.{mean_type}.{variance_type}.'
                expected = {k[len(prefix) :]: v for k, v in g.items() if k.startswith(prefix)}
                if not expected:
                    continue
                d = Diffusion(schedule, mean_type, variance_type)
                output = g['model_output6' if d.learns_variance else 'model_output3']
                made = {
                    'p_sample': d.p_sample(output, x, t, step_noise),
                    'vb': d.variational_bound(output, x_start, x, t, clip=True),
                }
                if mean_type != 'PREVIOUS_X':  # of which the values hold no DDIM
                    made['ddim_reverse'] = d.ddim_reverse(output, x, t)
                    for eta in ('0.0', '0.5', '1.0'):
                        made[f'ddim_eta{eta}'] = d.ddim_sample(output, x, t, step_noise, float(eta))
                for clip in (0, 1):
                    for part, value in d.p_mean_variance(output, x, t, bool(clip)).items():
                        made[f'clip{clip}.{part}'] = value
                for kind in ('KL', 'RESCALED_KL', 'MSE', 'RESCALED_MSE'):
                    for part, value in d.losses(output, x_start, noise, t, kind).items():
                        made[f'{kind}.{part}'] = value
                if made.keys() != expected.keys():
                    raise AssertionError(f'{prefix}: {sorted(made.keys() ^ expected.keys())}')
                errors = {k: close_error(cut_like(made[k], expected[k]), expected[k]) for k in made}
                worst = max(errors, key=errors.get)
                yield f'diffusion-steps {prefix}* ({worst})', errors[worst]


def check_chains(folder):
    g = load_file(folder / 'chains.safetensors')
    model = network(json.loads((folder / 'unet-updown-scaleshift.json').read_text()))
    linear = Schedule.named('linear', 1000)
    ddim = Diffusion(linear.respaced('ddim10')).chain(model, g['x_T'], eta=0.0)
    yield 'chains ddim10', output_error(ddim, g['ddim10'])
    ddpm = Diffusion(linear.respaced('8')).chain(model, g['x_T'], noises=g['noises8'])
    yield 'chains ddpm8', output_error(ddpm, g['ddpm8'])
    bits = Diffusion(linear.respaced('5')).bits_per_dim(model, g['bpd_x'], g['bpd_noise'])
    for part, value in bits.items():
        yield f'chains bpd5.{part}', output_error(value, g[f'bpd5.{part}'])


def checks(folder):
    for path in sorted([*folder.glob('unet-*.json'), *folder.glob('superres-*.json')]):
        yield from check_network(folder, path.stem)
    yield from check_schedules(folder)
    yield from check_respacing(folder)
    yield from check_diffusion(folder)
    yield from check_chains(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=pathlib.Path)
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    failed = False
    print(f'{"worst error / tolerance":>24}  what')
    for what, error in checks(folder):
        failed |= not error <= 1
        print(f'{error:24.2e}  {what}{"" if error <= 1 else "  FAILED"}')
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
