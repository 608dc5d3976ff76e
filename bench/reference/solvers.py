"""Step spacings and ODE solvers in float64, from the papers: python solvers.py --out ../../test/fixtures

Written apart from the library, in the papers' own variables: DPM-Solver++(2M) in lambda (arXiv 2211.01095, algorithm 2),
Heun and Euler in x / sqrt(alphaBar) and sigma (arXiv 2206.00364, algorithm 1 without churn). The model is a formula, so that a test
can repeat it.
"""

import argparse
import pathlib

import numpy as np

from make_fixtures import VERSIONS, write_json
from schedule import named_betas


def model(x, t):
    """What predicts x_start; t may be fractional."""
    return 0.8 * np.sin(1.3 * x + 0.002 * t)


class Noise:
    """alpha and sigma of x_t = alpha x_start + sigma eps, at any t in [0, T - 1]: log-SNR is linear between timesteps."""

    def __init__(self, name, timestep_count):
        self.alpha_bar = np.cumprod(1 - named_betas(name, timestep_count))
        self.log_snr = np.log(self.alpha_bar / (1 - self.alpha_bar))
        self.last = timestep_count - 1

    def lamda(self, t):
        return 0.5 * np.interp(t, np.arange(self.last + 1), self.log_snr)

    def alpha(self, t):
        return np.sqrt(1 / (1 + np.exp(-2 * self.lamda(t))))

    def sigma(self, t):
        return np.sqrt(1 / (1 + np.exp(2 * self.lamda(t))))

    def t_of_lamda(self, lamda):
        return np.interp(-2 * lamda, -self.log_snr, np.arange(self.last + 1))


def spacing(noise, name, steps):
    """Timesteps, descending: the order in which they are visited."""
    i = np.arange(steps)
    T = noise.last + 1
    if name == 'uniform':
        return np.round(np.linspace(0, T - 1, steps))[::-1]
    if name == 'trailing':
        return np.round(np.arange(T, 0, -T / steps)) - 1
    if name == 'quadratic':
        return ((T - 1) * (i / (steps - 1)) ** 2)[::-1]
    if name == 'logSnr':
        return noise.t_of_lamda(np.linspace(noise.lamda(T - 1), noise.lamda(0), steps))
    if name == 'karras':
        rho, high, low = 7, np.exp(-noise.lamda(T - 1)), np.exp(-noise.lamda(0))
        sigmas = (high ** (1 / rho) + i / (steps - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho
        return noise.t_of_lamda(-np.log(sigmas))
    raise ValueError(name)


def edm(noise, ts, x, heun):
    """To the clean image; x is x_T of the variance-preserving process."""
    sigma = np.append(noise.sigma(ts) / noise.alpha(ts), 0)
    xhat = x / noise.alpha(ts[0])

    def denoise(xhat, t):
        return model(xhat * noise.alpha(t), t)

    for i, t in enumerate(ts):
        d = (xhat - denoise(xhat, t)) / sigma[i]
        after = xhat + (sigma[i + 1] - sigma[i]) * d
        if heun and sigma[i + 1] != 0:
            d_after = (after - denoise(after, ts[i + 1])) / sigma[i + 1]
            after = xhat + (sigma[i + 1] - sigma[i]) * (d / 2 + d_after / 2)
        xhat = after
    return xhat


def dpmpp_2m(noise, ts, x, lower_order_final):
    """Algorithm 2 down to the last timestep, then the prediction itself."""
    lamda, alpha, sigma = noise.lamda(ts), noise.alpha(ts), noise.sigma(ts)
    predictions = [model(x, ts[0])]
    for i in range(1, len(ts)):
        h = lamda[i] - lamda[i - 1]
        D = predictions[-1]
        if i > 1 and not (lower_order_final and i == len(ts) - 1):
            r = (lamda[i - 1] - lamda[i - 2]) / h
            D = (1 + 1 / (2 * r)) * predictions[-1] - 1 / (2 * r) * predictions[-2]
        x = sigma[i] / sigma[i - 1] * x - alpha[i] * (np.exp(-h) - 1) * D
        predictions.append(model(x, ts[i]))
    return predictions[-1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--out', type=pathlib.Path, required=True)
    out = parser.parse_args().out
    start = np.random.default_rng(0).standard_normal(24)
    cases = []
    for schedule, timestep_count in (('linear', 1000), ('cosine', 1000)):
        noise = Noise(schedule, timestep_count)
        for name, steps in (('uniform', 10), ('trailing', 8), ('quadratic', 9), ('logSnr', 12), ('karras', 20)):
            ts = spacing(noise, name, steps)
            cases.append({
                'schedule': schedule,
                'timestepCount': timestep_count,
                'spacing': name,
                'steps': steps,
                't': ts[::-1].tolist(),
                'alphaBar': (noise.alpha(ts) ** 2)[::-1].tolist(),
                'euler': edm(noise, ts, start, heun=False).tolist(),
                'heun': edm(noise, ts, start, heun=True).tolist(),
                'dpmpp2m': dpmpp_2m(noise, ts, start, lower_order_final=False).tolist(),
                'dpmpp2mLowerOrderFinal': dpmpp_2m(noise, ts, start, lower_order_final=True).tolist(),
            })
    made_by = {**VERSIONS, 'script': 'bench/reference/solvers.py'}
    write_json(out / 'solvers.json', {'madeBy': made_by, 'start': start.tolist(), 'cases': cases})


if __name__ == '__main__':
    main()
