"""Writes test/fixtures: python make_fixtures.py --golden FOLDER --out ../../test/fixtures

FOLDER holds values of the original implementation, of which small ones are copied or cut; all else is computed by the
reference beside this file, which check_golden.py has compared with those values. test/fixtures/README.md describes
every file.
"""

import argparse
import json
import pathlib
import pickle
import shutil
import zipfile
from collections import OrderedDict

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from check_golden import forward, network
from formula import fill_by_formula, formula_images, formula_tensors, to_signal
from loss import CHOICES, SPACES, three_head_loss
from original_train import OriginalTrainer
from philox import NOISE, START_NOISE, STEP_NOISE, keyed_dropout, keyed_normal, keyed_normals
from schedule import Schedule, named_betas, rescale_to_zero_terminal_snr
from train import TrainerReference
from unet import HEADS, UNetModel, split_output

VERSIONS = {'script': 'bench/reference/make_fixtures.py', 'torch': torch.__version__, 'numpy': np.__version__}
GOLDEN_NETWORKS = (
    'unet-updown-scaleshift',
    'unet-plain-classcond-legacyheads',
    'unet-newattention-noconvresample',
    'superres-16-to-32',
    *(f'classifier-{pool}' for pool in ('adaptive', 'attention', 'spatial', 'spatial_v2')),
)


def write_tensors(path, tensors, **metadata):
    # One entry, because safetensors writes several in an order that changes from run to run.
    metadata = {'madeBy': json.dumps({**VERSIONS, **metadata})}
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata=metadata)
    path.chmod(0o644)


def write_json(path, value):
    """Like JSON with an indent, but lists of numbers stay on one line."""
    path.write_text(layout({'madeBy': VERSIONS, **value}) + '\n')


def layout(value, indent=''):
    if isinstance(value, dict) and value:
        inner = indent + '  '
        rows = [f'{inner}{json.dumps(str(k))}: {layout(v, inner)}' for k, v in value.items()]
        text = '{\n' + ',\n'.join(rows) + '\n' + indent + '}'
        flat = json.dumps(value)
        return flat if len(flat) < 100 else text
    if isinstance(value, list) and value and isinstance(value[0], dict):
        inner = indent + '  '
        return '[\n' + ',\n'.join(inner + layout(v, inner) for v in value) + '\n' + indent + ']'
    return json.dumps(value)


def copy_golden(golden, out):
    origin = dict(origin='the original guided-diffusion implementation, PyTorch 2.15, CPU, float32')
    for name in GOLDEN_NETWORKS:
        for suffix in ('json', 'safetensors'):
            shutil.copyfile(golden / f'{name}.{suffix}', out / f'{name}.{suffix}')
            (out / f'{name}.{suffix}').chmod(0o644)

    # All tables of the short schedules; of the long ones those from which the others follow.
    kept = ('betas', 'alphas_cumprod', 'posterior_variance', 'posterior_log_variance_clipped')
    kept += ('posterior_mean_coef1', 'posterior_mean_coef2')
    tables = load_file(golden / 'schedules.safetensors')
    tables = {k: v for k, v in tables.items() if len(v) <= 100 or k.split('.')[1] in kept}
    write_tensors(out / 'schedules.safetensors', tables, **origin)

    respacing = json.loads((golden / 'respacing.json').read_text())
    respacing.pop('1000')  # the same as ''
    text = ',\n'.join(f'{json.dumps(spec)}: {json.dumps(value)}' for spec, value in respacing.items())
    (out / 'respacing.json').write_text('{\n' + text + '\n}\n')

    chains = load_file(golden / 'chains.safetensors')
    write_tensors(out / 'chains.safetensors', chains, **origin)

    # Results that are images keep only their upper left 4x4; inputs are whole.
    steps = {}
    for key, value in load_file(golden / 'diffusion-steps.safetensors').items():
        parts = key.split('.')
        if len(parts) < 3:
            if key != 'near_eps3':
                steps[key] = value
        else:
            steps[key] = value[..., :4, :4] if value.dim() == 4 else value
    write_tensors(out / 'diffusion-steps.safetensors', steps, cut='results of 4 dimensions: [..., :4, :4]', **origin)


def schedules_extra(out):
    tensors = {}
    for T in (50, 1000):
        betas = {
            'scaledLinear': named_betas('scaledLinear', T),
            'sigmoid': named_betas('sigmoid', T),
            'linearZeroTerminal': rescale_to_zero_terminal_snr(named_betas('linear', T)),
        }
        for name, values in betas.items():
            tensors[f'{name}{T}.betas'] = torch.from_numpy(values)
            tensors[f'{name}{T}.alphas_cumprod'] = torch.from_numpy(np.cumprod(1 - values))
    write_tensors(out / 'schedules-extra.safetensors', tensors)


def three_head(out):
    config = dict(
        image_size=16,
        in_channels=3,
        model_channels=32,
        num_res_blocks=1,
        attention_resolutions=[2],
        channel_mult=[1, 2],
        num_head_channels=16,
        use_scale_shift_norm=True,
        resblock_updown=True,
    )
    seed, step, heads = 7, 3, list(HEADS)
    model = fill_by_formula(UNetModel(**config, heads=heads))
    schedule = Schedule.named('linear', 1000)
    contrast = torch.tensor([-50.0, -50.0, -1.0, 50.0]).reshape(4, 1, 1, 1)  # so that different heads are best
    x_start = (to_signal(formula_images(4, 3, 16, 16)) * contrast).clamp(-1, 1)
    t, weight = torch.tensor([0, 120, 500, 999]), torch.tensor([1, 0.5, 2, 1])
    noise = keyed_normals(x_start.shape, seed, NOISE, step)
    x_t = schedule.q_sample(x_start, noise, t)
    output = model(x_t, t)
    predictions, _ = split_output(output, heads)
    names = [name for name, _ in model.named_parameters()]
    parameters = list(model.parameters())

    detailed = {('own', 'min', 'own'), ('xStart', 'min', 'F'), ('own', 'mean', 'v')}
    cases = []
    for compare in ('own', 'xStart'):
        for choose in CHOICES:
            for space in SPACES:
                loss, per_head, chosen, compared = three_head_loss(
                    predictions, x_start, noise, t, schedule, compare, choose, space
                )
                require_margin(compared, f'three-head {compare}', choose)
                total = (weight * loss).mean()
                gradients = torch.autograd.grad(total, parameters, retain_graph=True)
                case = dict(
                    compare=compare,
                    choose=choose,
                    space=space,
                    total=total.item(),
                    loss=loss.tolist(),
                    chosen=chosen.tolist(),
                    gradNorm=float(torch.stack([g.norm() for g in gradients]).norm()),
                )
                if (compare, choose, space) in detailed:
                    case['gradNorms'] = {n: float(g.norm()) for n, g in zip(names, gradients)}
                cases.append(case)
    write_json(
        out / 'three-head.json',
        dict(
            config=config,
            heads=heads,
            learnsVariance=False,
            parameters=[[n, list(p.shape)] for n, p in zip(names, parameters)],
            schedule='linear',
            timestepCount=1000,
            sigmaData=0.5,
            noiseKey=dict(seed=seed, purpose=NOISE, step=step, firstSample=0),
            t=t.tolist(),
            weight=weight.tolist(),
            perHead=per_head.tolist(),
            cases=cases,
        ),
    )
    tensors = dict(x_start=x_start, t=t, weight=weight, noise=noise, x_t=x_t, out=output.detach())
    write_tensors(out / 'three-head.safetensors', tensors, seed=seed)


def require_margin(compared, where, choose):
    """A choice that hangs on the last bits cannot be compared between implementations."""
    rows = compared.mean(dim=0, keepdim=True) if choose == 'minBatch' else compared
    lowest = rows.sort(dim=1).values
    margin = float(((lowest[:, 1] - lowest[:, 0]) / lowest[:, 0]).min())
    if choose in ('min', 'minBatch') and margin < 1e-3:
        raise AssertionError(f'{where}: the two best heads differ by only {margin}')


def bf16(golden, out):
    name = 'unet-updown-scaleshift'
    description = json.loads((golden / f'{name}.json').read_text())
    tensors = load_file(golden / f'{name}.safetensors')
    with torch.no_grad():
        result = forward(network(description).convert_torso(torch.bfloat16), tensors, tensors['x'])
    difference, exact = (result - tensors['out']).double(), tensors['out'].double()
    write_json(
        out / 'bf16.json',
        dict(
            network=name,
            maxAbsDifference=float(difference.abs().max()),
            relativeRms=float(difference.norm() / exact.norm()),
            maxAbsOut=float(exact.abs().max()),
        ),
    )
    write_tensors(out / 'bf16.safetensors', dict(out=result), network=name)


def ten_steps(out):
    config = dict(
        image_size=8,
        in_channels=1,
        model_channels=8,
        num_res_blocks=1,
        attention_resolutions=[],
        channel_mult=[1],
        use_scale_shift_norm=True,
        norm_groups=4,
    )
    training = dict(
        seed=11,
        compare='xStart',
        space='v',
        lr=1e-3,
        weight_decay=0.01,
        decay_all=False,
        clip_norm=1.0,
        ema_rates=[0.9, 0.999],
        ema_warms_up=True,
        micro_batch=2,
    )
    batch, steps = 4, 10
    images = formula_images(batch * steps, 1, 8, 8)
    t = [[(s * 311 + n * 257 + 40) % 1000 for n in range(batch)] for s in range(steps)]
    weight = [[1.0, 0.5, 1.5, 1.0] if s % 2 else [1.0] * batch for s in range(steps)]

    def run(choose, dtype):
        model = fill_by_formula(UNetModel(**config, heads=HEADS))
        model = model.double() if dtype == torch.float64 else model
        trainer = TrainerReference(model, Schedule.named('linear', 1000), list(HEADS), choose=choose, **training)
        reports = []
        for s in range(steps):
            x_start = to_signal(images[s * batch : (s + 1) * batch]).to(dtype)
            report = trainer.step(x_start, torch.tensor(t[s]), torch.tensor(weight[s]).to(dtype))
            require_margin(report.pop('compared'), f'ten-steps {s}', choose)
            reports.append(report)
        return reports, trainer.state()

    # The bias of the keys in attention has gradient zero (softmax), so Adam moves it by rounding noise: left out.
    width = config['model_channels']
    excluded = {'middle_block.1.qkv.bias': [width, 2 * width]}

    def difference(name, a, b):
        a, b = a.double().clone(), b.double().clone()
        begin, end = excluded.get(name, (0, 0))
        a[begin:end] = b[begin:end]
        return float((a - b).abs().max())

    runs, tensors = {}, {'images': images}
    for choose in ('min', 'mean'):
        reports, (weights, averages) = run(choose, torch.float32)
        exact_reports, (exact_weights, exact_averages) = run(choose, torch.float64)
        if [r['chosen'] for r in reports] != [r['chosen'] for r in exact_reports]:
            raise AssertionError('float32 and float64 choose different heads')
        groups = {'weights': (weights, exact_weights)}
        for rate, average, exact in zip(training['ema_rates'], averages, exact_averages):
            groups[f'ema{rate}'] = (average, exact)
        distance = {}
        for group, (values, exact) in groups.items():
            tensors |= {f'{choose}.{group}.{n}': v for n, v in values.items()}
            distance[group] = max(difference(n, values[n], exact[n]) for n in values)
        loss_distance = [abs(a['loss'] - b['loss']) / b['loss'] for a, b in zip(reports, exact_reports)]
        norm_distance = [abs(a['gradNorm'] - b['gradNorm']) / b['gradNorm'] for a, b in zip(reports, exact_reports)]
        distance |= dict(lossRelative=max(loss_distance), gradNormRelative=max(norm_distance))
        runs[choose] = dict(distanceToFloat64=distance, steps=reports)
    names = {'weight_decay': 'weightDecay', 'decay_all': 'decayAll', 'clip_norm': 'clipNorm', 'ema_rates': 'emaRates'}
    names |= {'ema_warms_up': 'emaWarmsUp', 'micro_batch': 'microBatch'}
    write_json(
        out / 'ten-steps.json',
        dict(
            config=config,
            heads=list(HEADS),
            learnsVariance=False,
            schedule='linear',
            timestepCount=1000,
            training={names.get(k, k): v for k, v in training.items()},
            batch=batch,
            parameters=[[n, list(v.shape)] for n, v in weights.items()],
            excluded=excluded,
            t=t,
            weight=weight,
            runs=runs,
        ),
    )
    write_tensors(out / 'ten-steps.safetensors', tensors, seed=training['seed'])


def original_steps(out):
    """Ten steps as guided-diffusion trains, on a respaced process whose network is told rescaled timesteps."""
    config = dict(
        image_size=8,
        in_channels=1,
        model_channels=8,
        num_res_blocks=1,
        attention_resolutions=[],
        channel_mult=[1],
        use_scale_shift_norm=True,
        norm_groups=4,
    )
    training = dict(
        kind='RESCALED_MSE',
        seed=11,
        lr=1e-3,
        weight_decay=0.05,
        ema_rates=[0.9, 0.9999],
        micro_batch=3,
        anneal_steps=12,
    )
    timestep_count, respacing, batch, steps = 4000, '4', 8, 10
    images = formula_images(batch * steps, 1, 8, 8)

    def run(dtype):
        model = fill_by_formula(UNetModel(**config, heads=['eps'], learns_variance=True))
        model = model.double() if dtype == torch.float64 else model
        schedule = Schedule.named('linear', timestep_count).respaced(respacing)
        trainer = OriginalTrainer(model, schedule, time_scale=1000 / timestep_count, **training)
        reports = [trainer.step(to_signal(images[s * batch : (s + 1) * batch]).to(dtype)) for s in range(steps)]
        return reports, trainer.state()

    reports, (weights, averages) = run(torch.float32)
    exact_reports, (exact, _) = run(torch.float64)
    if [r['t'] for r in reports] != [r['t'] for r in exact_reports]:
        raise AssertionError('float32 and float64 draw different timesteps')
    if all(w == 1 for w in reports[-1]['weight']):
        raise AssertionError('the timestep sampler has not left its warm-up')
    width = config['model_channels']
    excluded = {'middle_block.1.qkv.bias': [width, 2 * width]}  # as in ten_steps
    distance = {n: (weights[n].double() - exact[n]).abs() for n in weights}
    for name, (begin, end) in excluded.items():
        distance[name][begin:end] = 0
    tensors = {'images': images} | {f'weights.{n}': v for n, v in weights.items()}
    for rate, average in zip(training['ema_rates'], averages):
        tensors |= {f'ema{rate}.{n}': v for n, v in average.items()}
    write_json(
        out / 'original-steps.json',
        dict(
            config=config,
            schedule='linear',
            timestepCount=timestep_count,
            respacing=respacing,
            training=training,
            excluded=excluded,
            distanceToFloat64=max(float(d.max()) for d in distance.values()),
            steps=reports,
        ),
    )
    write_tensors(out / 'original-steps.safetensors', tensors, seed=training['seed'])


def noise(out):
    normals = [
        dict(name='small', shape=[3, 4, 4], seed=0, purpose=NOISE, step=0, sample=0),
        dict(name='image', shape=[3, 8, 8], seed=7, purpose=NOISE, step=3, sample=2),
        dict(name='odd', shape=[1, 5, 7], seed=12345, purpose=NOISE, step=1, sample=65537),
        dict(name='one', shape=[1, 1, 1], seed=12345, purpose=START_NOISE, step=0, sample=1),
        dict(name='bigSeed', shape=[3, 6, 5], seed=2**52 + 2**33 + 99, purpose=STEP_NOISE, step=999, sample=4),
        dict(name='lateStep', shape=[3, 6, 5], seed=2**32 + 1, purpose=NOISE, step=1_234_567, sample=63),
        dict(name='many', shape=[3, 32, 32], seed=1, purpose=NOISE, step=70_000, sample=5),
    ]
    masks = [
        dict(name='tenth', shape=[4, 5, 7], p=0.1, layer=0, seed=7, step=3, sample=1),
        dict(name='deep', shape=[8, 6, 6], p=0.3, layer=21, seed=2**40 + 3, step=70_001, sample=2),
    ]
    tensors = {}
    for key in normals:
        arguments = {k: v for k, v in key.items() if k != 'name'}
        tensors[f'normal.{key["name"]}'] = keyed_normal(**arguments)
    for key in masks:
        arguments = {k: v for k, v in key.items() if k != 'name'}
        tensors[f'dropout.{key["name"]}'] = keyed_dropout(**arguments)
    write_json(out / 'noise.json', dict(normals=normals, dropout=masks))
    write_tensors(out / 'noise.safetensors', tensors)


def torch_files(out):
    """Files as torch.save writes them, and what is in each."""
    folder = out / 'torch-files'
    folder.mkdir(exist_ok=True)
    shapes = [('stem.weight', (4, 2, 3, 3)), ('stem.bias', (4,)), ('norm.weight', (4,)), ('head.weight', (3, 4))]
    plain = OrderedDict(formula_tensors(shapes))

    flat = torch.arange(40, dtype=torch.float32).sin().half()
    shared = OrderedDict(
        first=flat[2:8].view(2, 3),
        second=flat[8:20].view(3, 4),
        overlapping=flat[6:14].view(2, 4),
        transposed=flat[20:32].view(3, 4).t(),
        strided=flat[1:40:5],
    )
    parameters = OrderedDict((name, torch.nn.Parameter(value.clone())) for name, value in plain.items())
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.GroupNorm(1, 3))
    for name, value in module.state_dict().items():
        value.copy_(formula_tensors([(name, tuple(value.shape))])[name])
    metadata = torch.nn.Module.state_dict(module)  # an OrderedDict with a _metadata attribute
    master = torch.cat([value.flatten() for value in plain.values()])
    views, start = OrderedDict(), 0
    for name, value in plain.items():
        views[name] = master[start : start + value.numel()].view(value.shape).requires_grad_()
        start += value.numel()
    views._metadata = OrderedDict()
    dtypes = OrderedDict(
        double=torch.tensor([0.1, -2.5], dtype=torch.float64),
        bfloat16=torch.tensor([1.5, -0.25, 3.0], dtype=torch.bfloat16),
        half=torch.tensor([[0.5, 65504.0]], dtype=torch.float16),
        int64=torch.tensor([-(2**40), 7]),
        int32=torch.tensor([-5, 6], dtype=torch.int32),
        uint8=torch.tensor([0, 255], dtype=torch.uint8),
        bool=torch.tensor([True, False, True]),
        scalar=torch.tensor(2.5),
        empty=torch.zeros(0, 3),
    )
    small = OrderedDict((k, plain[k]) for k in ('stem.bias', 'head.weight'))
    nested = {'model': small, 'step': 5, 'ema': OrderedDict((k, v * 0.5) for k, v in small.items())}
    nested |= {'lr': 1e-4, 'name': 'tiny', 'done': False, 'missing': None, 'betas': (0.9, 0.999), 'list': [1, 2**40]}
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    (module(torch.ones(1, 2)) * torch.tensor([1.0, 2.0, 4.0])).sum().backward()
    optimizer.step()
    adam = {f'state.{i}.{k}': v for i, s in optimizer.state_dict()['state'].items() for k, v in s.items()}

    dotted = {f'{part}.{k}': v for part in ('model', 'ema') for k, v in nested[part].items()}
    cases = [
        ('plain', plain, plain),
        ('half-shared', shared, shared),
        ('parameters', parameters, parameters),
        ('module', metadata, metadata),
        ('master-views', views, views),
        ('dtypes', dtypes, dtypes),
        ('nested', nested, dotted),
        ('optimizer', optimizer.state_dict(), adam),
    ]
    expected = {}
    for name, value, tensors in cases:
        for suffix, zipped in (('', True), ('-legacy', False)):
            if suffix and name in ('module', 'optimizer'):
                continue
            torch.save(value, folder / f'{name}{suffix}.pt', _use_new_zipfile_serialization=zipped)
            expected[f'{name}{suffix}.pt'] = dict(tensors={k: described(v) for k, v in tensors.items()})
    for name in ('nested.pt', 'nested-legacy.pt'):
        expected[name]['other'] = {k: v for k, v in nested.items() if k not in ('model', 'ema')}

    # A pickle that would call a function when read: must be refused by name, and nothing may be called.
    hostile = pickle.dumps({'weight': Hostile()}, protocol=2)
    with zipfile.ZipFile(folder / 'hostile.pt', 'w', zipfile.ZIP_STORED) as archive:
        for entry, content in (('hostile/data.pkl', hostile), ('hostile/version', b'3\n')):
            archive.writestr(zipfile.ZipInfo(entry, date_time=(1980, 1, 1, 0, 0, 0)), content)
    expected['hostile.pt'] = dict(refuses='posix.getcwd')
    write_json(folder / 'expected.json', dict(files=expected))


class Hostile:
    def __reduce__(self):
        import posix

        return posix.getcwd, ()


def described(tensor):
    tensor = tensor.detach()
    exact = tensor.to(torch.float64) if tensor.is_floating_point() else tensor
    dtype = str(tensor.dtype).removeprefix('torch.')
    return dict(dtype=dtype, shape=list(tensor.shape), values=exact.flatten().tolist())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--golden', type=pathlib.Path, help='folder of values of the original implementation')
    parser.add_argument('--out', type=pathlib.Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.golden:
        copy_golden(options.golden, options.out)
    schedules_extra(options.out)
    three_head(options.out)
    bf16(options.golden or options.out, options.out)
    ten_steps(options.out)
    original_steps(options.out)
    noise(options.out)
    torch_files(options.out)
    print(f'{sum(p.stat().st_size for p in options.out.rglob("*.*") if p.is_file()) / 1e6:.2f} MB')


if __name__ == '__main__':
    main()
