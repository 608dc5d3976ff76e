"""The Gaussian process of guided-diffusion: predictions, reverse steps, variational bound, losses.

mean_type: EPSILON, START_X or PREVIOUS_X. variance_type: FIXED_SMALL, FIXED_LARGE, LEARNED, LEARNED_RANGE.
model(x, t) is called with the timesteps of the original process.
"""

import math

import numpy as np
import torch


def mean_flat(x):
    return x.flatten(1).mean(dim=1)


def target_of(head, x_start, noise, schedule, t):
    """What a head should predict; v = sqrt(alphaBar) eps - sqrt(1 - alphaBar) x_start."""
    if head == 'xStart':
        return x_start
    if head == 'eps':
        return noise
    signal = schedule.gather(schedule.sqrt_alphas_cumprod, t, x_start)
    return signal * noise - schedule.gather(schedule.sqrt_one_minus_alphas_cumprod, t, x_start) * x_start


def x_start_from(head, prediction, x_t, schedule, t):
    if head == 'xStart':
        return prediction
    if head == 'eps':
        recip = schedule.gather(schedule.sqrt_recip_alphas_cumprod, t, x_t)
        return recip * x_t - schedule.gather(schedule.sqrt_recipm1_alphas_cumprod, t, x_t) * prediction
    signal = schedule.gather(schedule.sqrt_alphas_cumprod, t, x_t)
    return signal * x_t - schedule.gather(schedule.sqrt_one_minus_alphas_cumprod, t, x_t) * prediction


def eps_from_x_start(x_start, x_t, schedule, t):
    recip = schedule.gather(schedule.sqrt_recip_alphas_cumprod, t, x_t)
    return (recip * x_t - x_start) / schedule.gather(schedule.sqrt_recipm1_alphas_cumprod, t, x_t)


def normal_kl(mean1, log_variance1, mean2, log_variance2):
    return 0.5 * (
        -1
        + log_variance2
        - log_variance1
        + torch.exp(log_variance1 - log_variance2)
        + (mean1 - mean2) ** 2 * torch.exp(-log_variance2)
    )


def discretized_log_likelihood(x, mean, log_scale):
    """Of 8-bit pixels in [-1, 1], with a tanh approximation of the normal distribution function."""

    def distribution(z):
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    centred, inverse = x - mean, torch.exp(-log_scale)
    upper = distribution(inverse * (centred + 1 / 255))
    lower = distribution(inverse * (centred - 1 / 255))
    inside = torch.log((upper - lower).clamp(min=1e-12))
    darkest, brightest = torch.log(upper.clamp(min=1e-12)), torch.log((1 - lower).clamp(min=1e-12))
    return torch.where(x < -0.999, darkest, torch.where(x > 0.999, brightest, inside))


class Diffusion:
    def __init__(self, schedule, mean_type='EPSILON', variance_type='LEARNED_RANGE'):
        self.schedule = schedule
        self.mean_type, self.variance_type = mean_type, variance_type
        self.learns_variance = variance_type.startswith('LEARNED')

    def call(self, model, x, t):
        return model(x, torch.from_numpy(self.schedule.timestep_map)[t])

    def posterior(self, x_start, x_t, t):
        """Mean and clipped log-variance of q(x_prev | x_t, x_start)."""
        s = self.schedule
        mean = s.gather(s.posterior_mean_coef1, t, x_t) * x_start + s.gather(s.posterior_mean_coef2, t, x_t) * x_t
        return mean, s.gather(s.posterior_log_variance_clipped, t, x_t).expand_as(x_t)

    def p_mean_variance(self, output, x, t, clip):
        """From a network output: mean, variance, log_variance, pred_xstart, all shaped like x."""
        s = self.schedule
        if self.learns_variance:
            output, values = output.chunk(2, dim=1)
            if self.variance_type == 'LEARNED':
                log_variance = values
            else:
                smallest = s.gather(s.posterior_log_variance_clipped, t, x)
                fraction = (values + 1) / 2
                log_variance = fraction * s.gather(np.log(s.betas), t, x) + (1 - fraction) * smallest
            variance = torch.exp(log_variance)
        else:
            small = self.variance_type == 'FIXED_SMALL'
            table = s.posterior_variance if small else s.large_variance
            log_table = s.posterior_log_variance_clipped if small else np.log(s.large_variance)
            variance = s.gather(table, t, x).expand_as(x)
            log_variance = s.gather(log_table, t, x).expand_as(x)
        if self.mean_type == 'PREVIOUS_X':
            inverse, ratio = 1 / s.posterior_mean_coef1, s.posterior_mean_coef2 / s.posterior_mean_coef1
            pred_xstart = s.gather(inverse, t, x) * output - s.gather(ratio, t, x) * x
        else:
            head = 'eps' if self.mean_type == 'EPSILON' else 'xStart'
            pred_xstart = x_start_from(head, output, x, s, t)
        if clip:
            pred_xstart = pred_xstart.clamp(-1, 1)
        mean = output if self.mean_type == 'PREVIOUS_X' else self.posterior(pred_xstart, x, t)[0]
        return dict(mean=mean, variance=variance, log_variance=log_variance, pred_xstart=pred_xstart)

    def p_sample(self, output, x, t, noise, clip=True):
        """One ancestral step."""
        p = self.p_mean_variance(output, x, t, clip)
        return p['mean'] + not_first(t, x) * torch.exp(0.5 * p['log_variance']) * noise

    def ddim_sample(self, output, x, t, noise, eta=0.0, clip=True):
        s = self.schedule
        pred_xstart = self.p_mean_variance(output, x, t, clip)['pred_xstart']
        eps = eps_from_x_start(pred_xstart, x, s, t)
        ab, prev = s.gather(s.alphas_cumprod, t, x), s.gather(s.alphas_cumprod_prev, t, x)
        sigma = eta * torch.sqrt((1 - prev) / (1 - ab)) * torch.sqrt(1 - ab / prev)
        mean = torch.sqrt(prev) * pred_xstart + torch.sqrt(1 - prev - sigma**2) * eps
        return mean + not_first(t, x) * sigma * noise

    def ddim_reverse(self, output, x, t, clip=True):
        """One step towards noise."""
        s = self.schedule
        pred_xstart = self.p_mean_variance(output, x, t, clip)['pred_xstart']
        eps = eps_from_x_start(pred_xstart, x, s, t)
        following = s.gather(s.alphas_cumprod_next, t, x)
        return torch.sqrt(following) * pred_xstart + torch.sqrt(1 - following) * eps

    def chain(self, model, x, noises=None, eta=None):
        """All reverse steps: DDIM if eta is given, ancestral otherwise; noises in the order of use."""
        with torch.no_grad():
            for i, k in enumerate(reversed(range(len(self.schedule)))):
                t = torch.full((x.shape[0],), k)
                output = self.call(model, x, t)
                noise = torch.zeros_like(x) if noises is None else noises[i]
                x = self.p_sample(output, x, t, noise) if eta is None else self.ddim_sample(output, x, t, noise, eta)
        return x

    def variational_bound(self, output, x_start, x_t, t, clip=False):
        """One term of the bound in bits per dimension [N]: KL, or the decoder's likelihood at t = 0."""
        true_mean, true_log_variance = self.posterior(x_start, x_t, t)
        p = self.p_mean_variance(output, x_t, t, clip)
        kl = mean_flat(normal_kl(true_mean, true_log_variance, p['mean'], p['log_variance'])) / math.log(2)
        likelihood = discretized_log_likelihood(x_start, p['mean'], 0.5 * p['log_variance'])
        return torch.where(t == 0, -mean_flat(likelihood) / math.log(2), kl)

    def prior_bound(self, x_start):
        """KL of q(x_{T-1} | x_start) from the standard normal distribution, in bits per dimension [N]."""
        s = self.schedule
        t = torch.full((x_start.shape[0],), len(s) - 1)
        mean = s.gather(s.sqrt_alphas_cumprod, t, x_start) * x_start
        log_variance = s.gather(s.log_one_minus_alphas_cumprod, t, x_start)
        zero = torch.zeros(())
        return mean_flat(normal_kl(mean, log_variance, zero, zero)) / math.log(2)

    def bits_per_dim(self, model, x_start, noise, clip=True):
        """noise: [N, C, H, W] for every step -> total [N], prior [N]; vb, xstart_mse, mse [N, T], the noisiest step first."""
        s, terms = self.schedule, dict(vb=[], xstart_mse=[], mse=[])
        with torch.no_grad():
            for k in reversed(range(len(s))):
                t = torch.full((x_start.shape[0],), k)
                x_t = s.q_sample(x_start, noise, t)
                output = self.call(model, x_t, t)
                pred_xstart = self.p_mean_variance(output, x_t, t, clip)['pred_xstart']
                terms['vb'].append(self.variational_bound(output, x_start, x_t, t, clip))
                terms['xstart_mse'].append(mean_flat((pred_xstart - x_start) ** 2))
                terms['mse'].append(mean_flat((eps_from_x_start(pred_xstart, x_t, s, t) - noise) ** 2))
        terms = {name: torch.stack(values, dim=1) for name, values in terms.items()}
        prior = self.prior_bound(x_start)
        return dict(total_bpd=terms['vb'].sum(dim=1) + prior, prior_bpd=prior, **terms)

    def losses(self, output, x_start, noise, t, kind):
        """kind: KL, RESCALED_KL, MSE, RESCALED_MSE -> {loss, mse?, vb?}, each [N]."""
        x_t = self.schedule.q_sample(x_start, noise, t)
        count = len(self.schedule)
        if kind.endswith('KL'):
            bound = self.variational_bound(output, x_start, x_t, t)
            return dict(loss=bound * count if kind == 'RESCALED_KL' else bound)
        terms, mean_output = {}, output
        if self.learns_variance:
            mean_output, values = output.chunk(2, dim=1)
            frozen = torch.cat([mean_output.detach(), values], dim=1)
            terms['vb'] = self.variational_bound(frozen, x_start, x_t, t)
            if kind == 'RESCALED_MSE':
                terms['vb'] = terms['vb'] * count / 1000
        previous, _ = self.posterior(x_start, x_t, t)
        target = dict(EPSILON=noise, START_X=x_start, PREVIOUS_X=previous)[self.mean_type]
        terms['mse'] = mean_flat((target - mean_output) ** 2)
        terms['loss'] = terms['mse'] + terms.get('vb', 0)
        return terms


def not_first(t, x):
    return (t != 0).to(x.dtype).reshape(-1, *[1] * (x.dim() - 1))
