"""Writes test/fixtures/f-head.json: python f_head.py --out ../../test/fixtures

A network whose only output is EDM's F (Karras et al. 2022, arXiv 2206.00364, table 1 and eq. 7, sigma_data = 0.5), by
EDM's own formulas for x = x_start + sigma * noise: D = c_skip x + c_out F, so that the error of F is that of D over
c_out^2. Network, images, timesteps and weights are those of three-head.*; its output is read as F.
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import load_file

from diffusion import mean_flat
from formula import fill_by_formula
from loss import SPACES, from_x_start
from make_fixtures import write_json
from schedule import Schedule
from unet import UNetModel

SIGMA_DATA = 0.5
LOSS_SIGMA_DATA = 0.4  # of the space of the loss, which the head does not follow


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=pathlib.Path, required=True)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    given = json.loads((out / 'three-head.json').read_text())
    tensors = load_file(out / 'three-head.safetensors')
    model = fill_by_formula(UNetModel(**given['config'], heads=['v']))
    ab = torch.from_numpy(Schedule.named('linear', 1000).alphas_cumprod)[tensors['t']]
    output = model(tensors['x_t'], tensors['t'])

    sigma = torch.sqrt((1 - ab) / ab).reshape(-1, 1, 1, 1)
    x = tensors['x_start'].double() + sigma * tensors['noise'].double()
    c_skip = SIGMA_DATA**2 / (sigma**2 + SIGMA_DATA**2)
    c_out = sigma * SIGMA_DATA / torch.sqrt(sigma**2 + SIGMA_DATA**2)
    predicted = c_skip * x + c_out * output.double()
    in_x_start = mean_flat((predicted - tensors['x_start'].double()) ** 2)
    own = in_x_start / c_out.reshape(-1) ** 2
    parameters = list(model.parameters())
    cases = []
    for space in SPACES:
        loss = own if space == 'own' else in_x_start * from_x_start(space, ab, LOSS_SIGMA_DATA)
        total = (tensors['weight'] * loss).mean()
        gradients = torch.autograd.grad(total, parameters, retain_graph=True)
        norm = float(torch.stack([g.norm() for g in gradients]).norm())
        cases.append(dict(space=space, total=total.item(), loss=loss.tolist(), gradNorm=norm))
    write_json(
        out / 'f-head.json',
        dict(
            sigmaData=LOSS_SIGMA_DATA,
            perHead=own.tolist(),
            cases=cases,
            xStart=predicted[:, :, 3, 5].detach().tolist(),
        ),
    )


if __name__ == '__main__':
    main()
