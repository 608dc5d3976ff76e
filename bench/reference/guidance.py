"""Guided chains in float64, for test/fixtures: python guidance.py --out ../../test/fixtures

Classifier guidance (Dhariwal & Nichol 2021, algorithms 1 and 2) and classifier-free guidance (Ho & Salimans 2022, eq. 6)
of small networks with formula weights, from keyed noise; checks the classifier against the original's values first.
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import load_file

from diffusion import Diffusion, not_first, x_start_from
from encoder import POOLS, EncoderUNetModel, log_probability_gradient
from formula import fill_by_formula, formula_images, to_signal
from make_fixtures import write_json, write_tensors
from philox import NOISE, START_NOISE, STEP_NOISE, keyed_normals
from schedule import Schedule
from unet import UNetModel

UNET = dict(
    in_channels=3,
    model_channels=16,
    num_res_blocks=1,
    attention_resolutions=[2],
    channel_mult=[1, 2],
    num_heads=2,
    norm_groups=8,
    use_scale_shift_norm=True,
)
CLASSIFIER = dict(UNET, image_size=8, out_channels=4, num_heads=1, num_head_channels=16, pool='attention')
SHAPE, CLASSES, SEED, Y = (3, 3, 8, 8), 4, 5, [0, 3, 1]
SPEC, ETA = '6', 0.5


def check_golden(folder):
    for pool in POOLS:
        description = json.loads((folder / f'classifier-{pool}.json').read_text())
        tensors = load_file(folder / f'classifier-{pool}.safetensors')
        model = EncoderUNetModel(**description['config'])
        shapes = [[name, list(tensor.shape)] for name, tensor in model.state_dict().items()]
        assert shapes == description['parameters'], f'{pool}: parameters differ'
        fill_by_formula(model)
        x = tensors['x'].clone().requires_grad_()
        out = model(x, tensors['t'])
        (out * tensors['probe']).mean().backward()
        for name, ours, theirs in (('out', out.detach(), tensors['out']), ('grad_x', x.grad, tensors['grad_x'])):
            print(f'{pool:11} {name:7} max |a-b| / max |b| = {(ours - theirs).abs().max() / theirs.abs().max():.1e}')


def chain(diffusion, predict, gradient, x, eta=None):
    """Every reverse step, guided; `predict` gives the network's output, `gradient` that of scale * log p."""
    s = diffusion.schedule
    for k in reversed(range(len(s))):
        t = torch.full((x.shape[0],), k)
        told = torch.from_numpy(s.timestep_map)[t]
        noise = keyed_normals(x.shape, SEED, STEP_NOISE, int(s.timestep_map[k])).double()
        output, g = predict(x, told), gradient(x, told)
        p = diffusion.p_mean_variance(output, x, t, clip=True)
        if eta is None:
            x = p['mean'] + p['variance'] * g + not_first(t, x) * torch.exp(0.5 * p['log_variance']) * noise
            continue
        ab, prev = s.gather(s.alphas_cumprod, t, x), s.gather(s.alphas_cumprod_prev, t, x)
        eps = (x - torch.sqrt(ab) * p['pred_xstart']) / torch.sqrt(1 - ab) - torch.sqrt(1 - ab) * g
        x_start = x_start_from('eps', eps, x, s, t)
        sigma = eta * torch.sqrt((1 - prev) / (1 - ab)) * torch.sqrt(1 - ab / prev)
        x = torch.sqrt(prev) * x_start + torch.sqrt(1 - prev - sigma**2) * eps + not_first(t, x) * sigma * noise
    return x


def classifier_steps(weight_decay, lr, clip_norm=1.0):
    """Losses and gradient norms of four training steps of the classifier, and how it ranks the classes after them."""
    model = fill_by_formula(EncoderUNetModel(**CLASSIFIER)).double()
    schedule = Schedule.named('linear', 1000)
    x_start = to_signal(formula_images(4, 3, 8, 8)).double()
    y, t = torch.tensor([0, 3, 1, 2]), torch.tensor([0, 250, 600, 999])
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [dict(params=decayed, weight_decay=weight_decay), dict(params=others, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    losses, norms = [], []
    for step in range(5):
        noise = keyed_normals(x_start.shape, SEED, NOISE, step).double()
        logits = model(schedule.q_sample(x_start, noise, t), t)
        loss = torch.nn.functional.cross_entropy(logits, y, reduction='none')
        losses.append(loss.tolist())
        if step == 4:  # only looked at
            break
        optimizer.zero_grad()
        loss.mean().backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)))
        optimizer.step()
    rank = (logits > logits.gather(1, y[:, None])).sum(dim=1)
    return dict(y=y.tolist(), t=t.tolist(), weightDecay=weight_decay, lr=lr, losses=losses, gradNorms=norms, rank=rank.tolist())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=pathlib.Path, required=True)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    torch.set_grad_enabled(True)
    check_golden(out)

    y = torch.tensor(Y)
    diffusion = Diffusion(Schedule.named('linear', 1000).respaced(SPEC))
    x_T = keyed_normals(SHAPE, SEED, START_NOISE, 0).double()
    classifier = fill_by_formula(EncoderUNetModel(**CLASSIFIER)).double()
    free = fill_by_formula(UNetModel(**UNET, heads=['eps'], learns_variance=True)).double()
    conditional = fill_by_formula(UNetModel(**UNET, heads=['eps'], learns_variance=True, num_classes=CLASSES + 1)).double()
    null = torch.full_like(y, CLASSES)

    def classifier_gradient(scale):
        return lambda x, t: scale * log_probability_gradient(classifier, x, t, y)

    def classifier_free(scale, interval=(0, 1000)):
        def predict(x, t):
            here = scale if interval[0] <= int(t[0]) < interval[1] else 1
            with_classes, without = conditional(x, t, y), conditional(x, t, null)
            mean, values = with_classes.chunk(2, dim=1)
            mean = without.chunk(2, dim=1)[0] * (1 - here) + here * mean
            return torch.cat([mean, values], dim=1)

        return predict

    def none(x, t):
        return torch.zeros_like(x)

    last = torch.full((len(Y),), 999)
    with torch.no_grad():
        tensors = dict(
            gradient=log_probability_gradient(classifier, x_T, last, y),
            logits=classifier(x_T, last),
            unguided=chain(diffusion, free, none, x_T),
            classifierAncestral=chain(diffusion, free, classifier_gradient(20.0), x_T),
            classifierDdim=chain(diffusion, free, classifier_gradient(4.0), x_T, eta=0.0),
            classifierDdimEta=chain(diffusion, free, classifier_gradient(4.0), x_T, eta=ETA),
            freeAncestral=chain(diffusion, classifier_free(3.0), none, x_T),
            freeDdim=chain(diffusion, classifier_free(3.0), none, x_T, eta=0.0),
            freeZero=chain(diffusion, classifier_free(0.0), none, x_T, eta=0.0),
            freeInterval=chain(diffusion, classifier_free(3.0, (200, 700)), none, x_T, eta=0.0),
            both=chain(diffusion, classifier_free(2.0), classifier_gradient(4.0), x_T, eta=0.0),
        )
    for name, value in tensors.items():
        print(f'{name:20} max |x| {value.abs().max():.3f}', f'{(value - tensors["unguided"]).abs().max():.3f}' if value.shape == SHAPE else '')
    write_json(
        out / 'guidance.json',
        dict(
            unet=UNET,
            classifier=CLASSIFIER,
            classCount=CLASSES,
            shape=SHAPE,
            seed=SEED,
            y=Y,
            respacing=SPEC,
            eta=ETA,
            scales=dict(classifierAncestral=20, classifierDdim=4, free=3, freeBoth=2),
            interval=[200, 700],
            training=classifier_steps(weight_decay=0.05, lr=1e-3),
        ),
    )
    write_tensors(out / 'guidance.safetensors', {k: v.float() for k, v in tensors.items()}, computedIn='float64')


if __name__ == '__main__':
    main()
