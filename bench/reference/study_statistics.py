"""Statistics of studies by scipy: python study_statistics.py --out ../../test/fixtures"""
import argparse
import json
import pathlib

import numpy as np
import scipy
from scipy import stats


def holm(values):
    order = np.argsort(values)
    corrected = np.empty(len(values))
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[i]))
        corrected[i] = largest
    return corrected.tolist()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out / "statistics.json"
    random = np.random.default_rng(7)
    pairs = []
    for n in (2, 3, 5, 10, 40):
        control = 1 + 0.1 * random.standard_normal(n)
        arm = control * (1 - 0.02 + 0.015 * random.standard_normal(n))
        test = stats.ttest_rel(arm, control)
        interval = test.confidence_interval(0.95)
        relative = stats.ttest_1samp(arm / control - 1, 0)
        bounds = relative.confidence_interval(0.95)
        pairs.append(
            {
                "arm": arm.tolist(),
                "control": control.tolist(),
                "t": float(test.statistic),
                "p": float(test.pvalue),
                "interval": [float(interval.low), float(interval.high)],
                "relativeInterval": [float(bounds.low), float(bounds.high)],
            }
        )
    quantiles = [
        [probability, degrees, float(stats.t.ppf(probability, degrees))]
        for probability in (0.6, 0.8, 0.95, 0.975, 0.995, 0.9999)
        for degrees in (1, 2, 4, 9, 30, 200)
    ]
    tails = [[t, degrees, float(2 * stats.t.sf(t, degrees))] for t in (0, 0.5, 2, 6, 40) for degrees in (1, 4, 9, 99)]
    betas = [
        [x, a, b, float(stats.beta.cdf(x, a, b))]
        for x in (0.001, 0.2, 0.5, 0.97)
        for a, b in ((0.5, 0.5), (2, 0.5), (4.5, 0.5), (30, 12))
    ]
    series = np.abs(random.standard_normal(50)) + 0.05
    values = [0.01, 0.04, 0.03, 0.005, 0.6]
    fixture = {
        "madeBy": f"scipy {scipy.__version__}, numpy {np.__version__}",
        "pairs": pairs,
        "studentQuantile": quantiles,
        "studentTail": tails,
        "incompleteBeta": betas,
        "holm": {"values": values, "corrected": holm(np.array(values))},
        "alternation": {
            "losses": series.tolist(),
            "coefficientOfVariation": float(series.std(ddof=1) / series.mean()),
            "autocorrelation": float(
                ((series[1:] - series.mean()) * (series[:-1] - series.mean())).sum() / ((series - series.mean()) ** 2).sum()
            ),
            "consecutiveRatio": float(np.exp(np.abs(np.diff(np.log(series))).mean())),
            "turningPoints": float((np.diff(np.sign(np.diff(series))) != 0).mean()),
        },
    }
    out.write_text(json.dumps(fixture, indent=1) + "\n")


main()
