"""Files that several versions of PyTorch write, for the tests of the reader: torch-files/torch-VERSION*.pt.

Run once with each version in an environment of its own; what is in the files does not depend on the version:

    python -m venv torch-1.13.1 && torch-1.13.1/bin/pip install torch==1.13.1 'numpy<2'
    torch-1.13.1/bin/python make_version_files.py --out ../../test/fixtures/torch-files
"""

import argparse
import pathlib
from collections import OrderedDict

import torch

SHAPES = [('stem.weight', (4, 2, 3, 3)), ('stem.bias', (4,)), ('head.weight', (3, 4))]


def values(shape, start):
    """start, start + 1/8, start + 2/8, ...: exact in half precision."""
    return (torch.arange(torch.Size(shape).numel(), dtype=torch.float32) / 8 + start).view(shape)


def checkpoint():
    """Weights as mixed-precision training leaves them (views of one master), an average as parameters, in wrappers."""
    master = torch.cat([values(shape, i).flatten() for i, (_, shape) in enumerate(SHAPES)])
    model, start = OrderedDict(), 0
    for name, shape in SHAPES:
        count = torch.Size(shape).numel()
        model['module.' + name] = master[start : start + count].view(shape).requires_grad_()
        start += count
    model._metadata = OrderedDict()
    ema = OrderedDict((name, torch.nn.Parameter(values(shape, -i).half())) for i, (name, shape) in enumerate(SHAPES))
    return {'model': model, 'ema': ema, 'step': 7, 'lr': 0.5, 'name': 'tiny', 'betas': (0.5, 0.75), 'nothing': None}


def optimizer():
    """AdamW after one step, in which every gradient is 1."""
    weight = torch.nn.Parameter(values((2, 3), 0))
    adam = torch.optim.AdamW([weight], lr=0.5, betas=(0.5, 0.75))
    weight.sum().backward()
    adam.step()
    return adam.state_dict()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=pathlib.Path, required=True)
    out = parser.parse_args().out
    name = 'torch-' + torch.__version__.split('+')[0]
    torch.save(checkpoint(), out / f'{name}.pt')
    torch.save(checkpoint(), out / f'{name}-legacy.pt', _use_new_zipfile_serialization=False)
    torch.save(optimizer(), out / f'{name}-optimizer.pt')


if __name__ == '__main__':
    main()
