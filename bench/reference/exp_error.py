"""The polynomial of exp for results in bfloat16: python exp_error.py

native/kernels/simd.h takes 2^x as a polynomial of the part of x above the integer below, times a power of two. This fits,
for each degree, the polynomial of 2^f on [0, 1] with the smallest largest relative error (Lawson's iteration) and value 1
at 0, and prints what its float32 evaluation is off there, and SiLU in float32 with it. Rounding to bfloat16 takes 2^-9.
"""

import numpy as np

POINTS, ITERATIONS = 20001, 2000


def fitted(degree):
    f = np.linspace(0, 1, POINTS)
    powers = np.stack([f**k for k in range(1, degree + 1)], 1) / 2.0 ** f[:, None]
    target = 1 - 2.0**-f
    weight, best = np.ones(POINTS), (np.inf, None)
    for _ in range(ITERATIONS):
        root = np.sqrt(weight)
        found = np.linalg.lstsq(powers * root[:, None], target * root, rcond=None)[0]
        error = np.abs(powers @ found - target)
        best = min(best, (error.max(), tuple(found)))
        weight = weight * error
        weight /= weight.sum()
    return [1.0, *best[1]]


def exp2(x, coefficients):
    f = x - np.floor(x)
    value = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * f + np.float32(coefficient)
    return np.ldexp(value, np.floor(x).astype(int))


def main():
    z = np.linspace(-20, 20, 400001, dtype=np.float32)
    exact = z / (1 + np.exp(-z.astype(np.float64)))
    for degree in (3, 4, 5):
        coefficients = fitted(degree)
        x = np.linspace(-8, 8, 400001, dtype=np.float32)
        off = np.abs(exp2(x, coefficients) / 2.0 ** x.astype(np.float64) - 1).max()
        silu = z / (1 + exp2(z * np.float32(-1.44269504088896341), coefficients))
        print(f'degree {degree}: 2^x {off:.1e}, SiLU {np.abs(silu[z != 0] / exact[z != 0] - 1).max():.1e}')
        print('  ' + ', '.join(f'{c:.8e}' for c in coefficients))


if __name__ == '__main__':
    main()
