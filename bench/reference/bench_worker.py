"""PyTorch's side of the bench: builds and steps what it is asked to. The protocol is described in bench/protocol.ts.

Usage: python bench_worker.py [--threads N] [--device cpu]

The network is unet.py, which check_golden.py compares with guided-diffusion's own values. Without any variant it is run as
guided-diffusion runs it: eager, float32, NCHW, group norm in float32, attention by einsum, torch.optim.AdamW and a plain
loop for the moving average. Each variant is one thing that a user may do to make PyTorch faster:

    channelsLast   weights and images in channels_last
    fusedAdamW     AdamW(fused=True), and torch._foreach for clipping and the moving average
    sdpa           torch.nn.functional.scaled_dot_product_attention
    mixedNorm      bf16: group norm on bf16 inputs with float32 weights, without casts (its sums are float32 all the same)
    bf16Weights    sampling in bf16: convolutions hold bf16 weights, instead of autocast
    compile        torch.compile of network and loss
"""

import argparse
import contextlib
import gc
import json
import sys
import time

import torch
import torch.nn.functional as F

from schedule import Schedule
from unet import AttentionBlock, GroupNorm, UNetModel

TIMESTEPS = 1000
SAMPLING_STEPS = 50


class FusedAttention(AttentionBlock):
    """The same attention through scaled_dot_product_attention, whose scale 1 / sqrt(d) is the product of both factors."""

    def forward(self, x):
        batch, channels, *spatial = x.shape
        x = x.reshape(batch, channels, -1)
        qkv = self.qkv(self.norm(x))
        d = channels // self.heads
        if self.new_order:
            q, k, v = qkv.reshape(batch, 3, self.heads, d, -1).unbind(1)
        else:
            q, k, v = qkv.reshape(batch, self.heads, 3, d, -1).unbind(2)
        a = F.scaled_dot_product_attention(q.transpose(-1, -2), k.transpose(-1, -2), v.transpose(-1, -2))
        return (x + self.proj_out(a.transpose(-1, -2).reshape(batch, channels, -1))).reshape(batch, channels, *spatial)


def mixed_norm(self, x):
    return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def make_model(network, size):
    return UNetModel(
        image_size=size,
        in_channels=network['imageChannels'],
        heads=network['heads'],
        learns_variance=network['learnsVariance'],
        model_channels=network['modelChannels'],
        num_res_blocks=network['resBlockCount'],
        attention_resolutions=network['attentionResolutions'],
        dropout=network['dropout'],
        channel_mult=network['channelMult'],
        conv_resample=network['convResample'],
        use_checkpoint=network['recompute'],
        num_heads=network['attentionHeads'],
        num_head_channels=network['headChannels'],
        num_heads_upsample=network['attentionHeadsUp'],
        use_scale_shift_norm=network['scaleShiftNorm'],
        resblock_updown=network['resBlockUpDown'],
        use_new_attention_order=network['newAttentionOrder'],
        norm_groups=network['normGroups'],
    )


class Stepper:
    def __init__(self, job, device):
        network, variant = job['network'], job['variant']
        self.fused = variant.get('fusedAdamW', False)
        self.device, self.heads, self.batch = device, network['heads'], job['batch']
        torch.manual_seed(0)
        self.model = make_model(network, job['size'])
        if variant.get('sdpa'):
            for module in self.model.modules():
                if isinstance(module, AttentionBlock):
                    module.__class__ = FusedAttention
        if variant.get('mixedNorm'):
            for module in self.model.modules():
                if isinstance(module, GroupNorm):
                    module.forward = mixed_norm.__get__(module)
        self.model = self.model.to(device)
        self.memory_format = torch.channels_last if variant.get('channelsLast') else torch.contiguous_format
        self.model = self.model.to(memory_format=self.memory_format)
        self.parameter_count = sum(p.numel() for p in self.model.parameters())
        self.dtype = {'fp32': torch.float32, 'bf16': torch.bfloat16}[job['precision']]
        self.autocasts = self.dtype != torch.float32 and not variant.get('bf16Weights')
        if variant.get('bf16Weights'):
            self.model.convert_torso(self.dtype)
        schedule = Schedule.named('linear', TIMESTEPS)
        if job['work'] == 'ddim':
            schedule = schedule.respaced(str(SAMPLING_STEPS))
        self.timestep_map = torch.from_numpy(schedule.timestep_map).to(device)
        self.signal = torch.from_numpy(schedule.sqrt_alphas_cumprod).float().to(device)
        self.spread = torch.from_numpy(schedule.sqrt_one_minus_alphas_cumprod).float().to(device)
        self.shape = (job['batch'], network['imageChannels'], job['size'], job['size'])
        count = self.shape[0] * self.shape[1] * self.shape[2] * self.shape[3]
        self.images = (torch.arange(count) * 37 % 256).to(torch.uint8).reshape(self.shape)
        self.compiled = variant.get('compile', False)

    def autocast(self):
        if not self.autocasts:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def columns(self, table, t):
        return table[t].reshape(-1, 1, 1, 1)


class TrainStepper(Stepper):
    def __init__(self, job, device):
        super().__init__(job, device)
        self.parameters = list(self.model.parameters())
        self.averages = [p.detach().clone() for p in self.parameters]
        fused = dict(fused=True) if self.fused else {}
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, weight_decay=0.0, **fused)
        self.loss_of = torch.compile(self.three_head_loss) if self.compiled else self.three_head_loss
        self.model.train()
        self.step_count = 0

    def three_head_loss(self, x_start, noise, t):
        """Mean over the heads, each with its own squared error."""
        signal, spread = self.columns(self.signal, t), self.columns(self.spread, t)
        x_t = signal * x_start + spread * noise
        with self.autocast():
            output = self.model(x_t, t)
        targets = {'xStart': x_start, 'v': signal * noise - spread * x_start, 'eps': noise}
        predictions = output.float().chunk(len(self.heads), dim=1)
        errors = [(p - targets[h]).square().flatten(1).mean(dim=1) for h, p in zip(self.heads, predictions)]
        return torch.stack(errors, dim=1).mean(dim=1).mean()

    def step(self):
        x_start = self.images.to(self.device).float().div_(127.5).sub_(1).to(memory_format=self.memory_format)
        noise = torch.randn_like(x_start)
        t = torch.randint(TIMESTEPS, (self.batch,), device=self.device)
        self.optimizer.zero_grad()
        loss = self.loss_of(x_start, noise, t)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True if self.fused else None)
        self.optimizer.step()
        self.average()
        norm.item()
        return loss.item()

    @torch.no_grad()
    def average(self):
        n = self.step_count
        rate = min(0.9999, (1 + n) / (10 + n))
        if self.fused:
            torch._foreach_lerp_(self.averages, self.parameters, 1 - rate)
        else:
            for mean, parameter in zip(self.averages, self.parameters):
                mean.mul_(rate).add_(parameter.detach(), alpha=1 - rate)
        self.step_count += 1


class DdimStepper(Stepper):
    """DDIM with eta 0 and the v head alone, over and over from the same noise."""

    def __init__(self, job, device):
        super().__init__(job, device)
        self.model.eval().requires_grad_(False)
        self.run = torch.compile(self.reverse_step) if self.compiled else self.reverse_step
        self.start = torch.randn(self.shape, device=device).to(memory_format=self.memory_format)
        self.x_t, self.k = self.start, SAMPLING_STEPS - 1

    def reverse_step(self, x_t, k):
        t = self.timestep_map[k]
        with self.autocast():
            output = self.model(x_t, t)
        v = output.float().chunk(len(self.heads), dim=1)[self.heads.index('v')]
        signal, spread = self.columns(self.signal, k), self.columns(self.spread, k)
        x_start = (signal * x_t - spread * v).clamp(-1, 1)
        eps = (x_t - signal * x_start) / spread
        before = torch.where(k > 0, k - 1, 0)
        is_last = (k == 0).reshape(-1, 1, 1, 1)
        signal_before = torch.where(is_last, 1.0, self.columns(self.signal, before))
        spread_before = torch.where(is_last, 0.0, self.columns(self.spread, before))
        return signal_before * x_start + spread_before * eps

    def step(self):
        with torch.inference_mode():
            k = torch.full((self.batch,), self.k, device=self.device)
            self.x_t = self.run(self.x_t, k)
        self.k -= 1
        if self.k < 0:
            self.x_t, self.k = self.start, SAMPLING_STEPS - 1
        return None


def status_bytes(field):
    """VmRSS (now) or VmHWM (most since the last reset) of this process."""
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field + ':'))


class Clock:
    """Wall time on the CPU, events on CUDA."""

    def __init__(self, device):
        self.on_cuda = device.type == 'cuda'

    def measure(self, work):
        if not self.on_cuda:
            begin = time.perf_counter()
            result = work()
            return (time.perf_counter() - begin) * 1000, result
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        result = work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end), result


class Bench:
    def __init__(self, device):
        self.device, self.clock = device, Clock(device)
        self.stepper, self.resident_before = None, 0

    def info(self, _):
        versions = dict(python=sys.version.split()[0], torch=torch.__version__, cpuCapability=torch.backends.cpu.get_cpu_capability())
        return dict(name='PyTorch', versions=versions, threads=torch.get_num_threads(), device=str(self.device))

    def build(self, job):
        self.stepper = None
        torch._dynamo.reset()
        gc.collect()
        if self.device.type == 'cuda':
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        with open('/proc/self/clear_refs', 'w') as file:
            file.write('5')  # the peak counts from here
        self.resident_before = status_bytes('VmRSS')
        self.stepper = (TrainStepper if job['work'] == 'train' else DdimStepper)(job, self.device)
        return dict(parameterCount=self.stepper.parameter_count)

    def time(self, question):
        ms, loss = [], None
        for _ in range(question['steps']):
            elapsed, loss = self.clock.measure(self.stepper.step)
            ms.append(elapsed)
        return dict(ms=ms, loss=loss)

    warm = time

    def memory(self, _):
        if self.device.type == 'cuda':
            return dict(peakBytes=torch.cuda.max_memory_allocated())
        return dict(peakBytes=status_bytes('VmHWM') - self.resident_before)

    def ceiling(self, question):
        """GFLOP/s of the best of several convolutions (3x3, channels_last) and matrix products, each its median."""
        dtype = {'fp32': torch.float32, 'bf16': torch.bfloat16}[question['precision']]
        make = lambda *shape: torch.randn(shape, device=self.device).to(dtype)
        convolutions, matrices = {}, {}
        with torch.inference_mode():
            for n, channels, size in ((8, 64, 32), (8, 128, 16), (8, 128, 32), (4, 192, 32), (4, 256, 32), (4, 256, 16)):
                x = make(n, channels, size, size).to(memory_format=torch.channels_last)
                w = make(channels, channels, 3, 3).to(memory_format=torch.channels_last)
                flops = 2 * n * channels * channels * 9 * size * size
                convolutions[f'{n}x{channels}x{size}x{size}'] = self.rate(lambda: F.conv2d(x, w, padding=1), flops)
            for n in (512, 1024, 2048):
                a, b = make(n, n), make(n, n)
                matrices[f'{n}x{n}x{n}'] = self.rate(lambda: a @ b, 2 * n**3)
        return dict(convolution=max(convolutions.values()), matrix=max(matrices.values()), shapes={**convolutions, **matrices})

    def rate(self, work, flops):
        """GFLOP/s: the median of 5 to 30 calls after three; of one call where it takes half a second (bf16 without instructions for it)."""
        first = self.clock.measure(work)[0]
        if first > 500:
            return flops / first / 1e6
        for _ in range(2):
            work()
        repeats = max(5, min(30, int(4e10 / flops)))
        times = sorted(self.clock.measure(work)[0] for _ in range(repeats))
        return flops / times[len(times) // 2] / 1e6

    def close(self, _):
        return {}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--threads', type=int)
    parser.add_argument('--device', default='cpu')
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.backends.cudnn.benchmark = True
    bench = Bench(torch.device(arguments.device))
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = getattr(bench, question['command'])(question)
        except Exception as error:  # the other side decides what a failure means
            answer = dict(error=f'{type(error).__name__}: {error}')
        print(json.dumps(answer), file=answers, flush=True)
        if question['command'] == 'close':
            break


if __name__ == '__main__':
    main()
