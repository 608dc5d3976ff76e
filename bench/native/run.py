"""The bench where there is no Node: builds bench_worker from these sources and times it against PyTorch, turn and turn about.

Needs CMake, a C++20 compiler and a Python with PyTorch >= 2.11, whose own LibTorch both sides use. On a machine with a GPU:

    python bench/native/run.py --device cuda --json FILE

The rows are those of `npm run bench`. On the CPU it is the same bench without peak memory in fresh processes.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TURN_MS = 250


class Worker:
    """A process that speaks the protocol of bench/protocol.ts."""

    def __init__(self, name, command, environment):
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )

    def ask(self, **question):
        self.process.stdin.write(json.dumps(question) + '\n')
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f'bench: expected {self.name} to answer, got exit {self.process.wait()}')
        answer = json.loads(line)
        if 'error' in answer:
            raise SystemExit(f'bench: {self.name}: {answer["error"]}')
        return answer

    def time(self, steps):
        return self.ask(command='time', steps=steps)['ms']

    def close(self):
        self.ask(command='close')
        self.process.wait()


def build(folder):
    import torch

    libtorch = torch.__path__[0]
    subprocess.run(
        ['cmake', '-S', ROOT, '-B', folder, '-DTRISLOT_BENCH=ON', f'-DTRISLOT_LIBTORCH={libtorch}'], check=True
    )
    subprocess.run(['cmake', '--build', folder, '--target', 'bench_worker', '--parallel', '2'], check=True)
    return folder / 'bench_worker'


def candidates(work, precision):
    """As bench/rivals.ts: the plausible best, and it with one choice taken back."""
    best = dict(channelsLast=True, sdpa=True)
    if work == 'train':
        best['fusedAdamW'] = True
    if precision == 'bf16':
        best['mixedNorm'] = True
        if work == 'ddim':
            best['bf16Weights'] = True
    return [best] + [{**best, name: False} for name in best]


def interleave(workers, rounds):
    steps = []
    for worker in workers:
        steps.append(max(1, min(50, round(TURN_MS / worker.time(3)[2]))))
    results = [[] for _ in workers]
    for _ in range(rounds):
        for worker, count, result in zip(workers, steps, results):
            result.append(statistics.median(worker.time(count)))
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--networks', default='28x28,32x32,64x64,256x256')
    parser.add_argument('--batches', help="instead of each network's own")
    parser.add_argument('--precisions', default='fp32,bf16')
    parser.add_argument('--works', default='train,ddim')
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--compile', action='store_true', help='torch.compile too; its warm-up takes minutes')
    parser.add_argument('--build', type=pathlib.Path, default=ROOT / 'build' / 'bench')
    parser.add_argument('--json', type=pathlib.Path)
    arguments = parser.parse_args()

    common = ['--threads', str(arguments.threads), '--device', arguments.device]
    environment = {name: str(arguments.threads) for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')}
    python = [sys.executable, str(ROOT / 'bench' / 'reference' / 'bench_worker.py'), *common]
    ours = Worker('trislot', [build(arguments.build), *common], environment)
    names = ['reference', 'best'] + (['compile'] if arguments.compile else [])
    rivals = {name: Worker(f'PyTorch, {name}', python, environment) for name in names}
    versions = dict(ours=ours.ask(command='info'), theirs=rivals['reference'].ask(command='info'))
    print(json.dumps(versions))

    rows, ceiling = [], {}
    for precision in arguments.precisions.split(','):
        answer = rivals['reference'].ask(command='ceiling', precision=precision)
        ceiling[precision] = max(answer['convolution'], answer['matrix'])
        print(f'ceiling {precision}: {ceiling[precision]:.0f} GFLOP/s')

    listed = json.loads((ROOT / 'bench' / 'networks.json').read_text())
    for network in listed['networks']:
        if network['name'] not in arguments.networks.split(','):
            continue
        config = {**listed['common'], **network['options']}
        batches = [int(b) for b in arguments.batches.split(',')] if arguments.batches else network['batches']
        for work in arguments.works.split(','):
            for batch in batches:
                for precision in arguments.precisions.split(','):
                    rows += case(arguments, network, config, work, batch, precision, ours, rivals)

    for worker in (ours, *rivals.values()):
        worker.close()
    if arguments.json:
        result = dict(
            command=' '.join(['python', 'bench/native/run.py', *sys.argv[1:]]),
            date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
            machine=dict(cpu=platform.processor() or platform.machine(), cores=os.cpu_count()),
            device=arguments.device,
            threads=arguments.threads,
            versions=versions,
            ceilingGflops=ceiling,
            rows=rows,
        )
        arguments.json.write_text(json.dumps(result, indent=1) + '\n')


def case(arguments, network, config, work, batch, precision, ours, rivals):
    """Rows of one network at one batch in one precision."""
    title = f'{work} {network["name"]} batch {batch}'
    job = dict(command='build', work=work, network=config, size=network['size'], batch=batch)
    tried = []
    for variant in candidates(work, precision):
        rivals['best'].ask(**job, precision=precision, variant=variant)
        tried.append((min(rivals['best'].time(4)[1:]), variant))
    variant = min(tried, key=lambda pair: pair[0])[1]
    count = ours.ask(**job, precision=precision, variant={})['parameterCount']
    details = {}
    for name, worker in rivals.items():
        chosen = {} if name == 'reference' else {**variant, 'compile': name == 'compile'}
        dtype = 'fp32' if name == 'reference' else precision
        found = worker.ask(**job, precision=dtype, variant=chosen)['parameterCount']
        if found != count:
            raise SystemExit(f'bench: expected {count} weights on both sides, got {found}')
        details[name] = dict(variant='+'.join(key for key, on in chosen.items() if on) or 'fp32, as guided-diffusion')
        if name == 'compile':
            details[name]['warmUpSeconds'] = round(sum(worker.time(2)) / 1000, 1)
    results = interleave([ours, *rivals.values()], arguments.rounds)
    rows = []
    for (name, worker), theirs in zip(rivals.items(), results[1:]):
        ratios = sorted(b / a for a, b in zip(results[0], theirs))
        quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
        row = dict(work=title, precision=precision, metric='step-ms', rival=name)
        row.update(ours=statistics.median(results[0]), theirs=statistics.median(theirs), ratio=statistics.median(ratios))
        row.update(spread=[quartiles[0], quartiles[2]], rounds=len(ratios), **details[name])
        rows.append(row)
        print(f'{title} {precision} against {name}: {row["ours"]:.1f} : {row["theirs"]:.1f} ms = {row["ratio"]:.2f}x')
    if work == 'train':
        ours_peak, their_peak = (worker.ask(command='memory')['peakBytes'] for worker in (ours, rivals['best']))
        memory = dict(work=title, precision=precision, metric='peak-memory', rival='best')
        rows.append(dict(**memory, ours=ours_peak, theirs=their_peak, ratio=their_peak / max(1, ours_peak)))
    return rows


if __name__ == '__main__':
    main()
