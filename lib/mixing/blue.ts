import { argumentError, checkInteger, checkNumber } from '../check.ts'

/** Options of `blueWeights`. */
export interface BlueOptions {
  /** Regularisation, relative to each head's squared distance from the nearest other head; 1e-3 by default. */
  readonly ridge?: number
  /** Least and greatest weight; [-0.2, 1.2] by default. */
  readonly limits?: readonly [least: number, greatest: number]
}

/**
 * The weights, adding up to 1, with which a mixture of predictions has the smallest mean squared error: the best linear unbiased
 * estimate (math.md, eq. 72). A part of the error that all heads share, such as what no network can know, changes nothing.
 *
 * The ridge pulls towards equal weights where heads hardly differ. It is relative to each head's own distance from the others,
 * so that one that is useless at a noise level does not blur the choice among the rest.
 *
 * @param products - [heads, heads] mean products of the heads' errors, row-major; of at most 8 heads
 * @returns [heads]; NaN where a product is not finite
 */
export function blueWeights(products: ArrayLike<number>, options: BlueOptions = {}): number[] {
  const call = 'blueWeights'
  const { ridge = 1e-3, limits = [-0.2, 1.2] } = options
  const size = Math.sqrt(products.length)
  if (!Number.isInteger(size) || size < 1) {
    throw argumentError(call, 'products', 'a square matrix', products)
  }
  checkInteger(call, 'heads', size, 1, 8)
  checkNumber(call, 'ridge', ridge, 0)
  const [least, greatest] = limits
  checkNumber(call, 'limits[0]', least, Number.NEGATIVE_INFINITY, 1 / size)
  checkNumber(call, 'limits[1]', greatest, 1 / size)
  const all = Array.from({ length: size }, (_, h) => h)
  if (!Array.from(products).every(Number.isFinite)) return all.map(() => Number.NaN)
  const c = (h: number, g: number): number => products[h * size + g] as number
  const distance = (h: number, g: number): number => c(h, h) + c(g, g) - c(h, g) - c(g, h)
  const scale = Math.min(...all.map((h) => c(h, h)))
  const ridges = all.map((h) => {
    const nearest = Math.min(...all.filter((g) => g !== h).map((g) => Math.max(0, distance(h, g))))
    return ridge * (size > 1 ? nearest : 0) + 1e-9 * scale // heads that are the same share their weight
  })
  const m = (h: number, g: number): number => c(h, g) + (h === g ? (ridges[h] as number) : 0)

  const free = constrained(m, all, new Map())
  const isWithin = (weights: readonly number[]): boolean =>
    weights.every((w) => w >= least - 1e-12 && w <= greatest + 1e-12)
  if (isWithin(free)) return free
  // The constrained optimum is the free one of some set of heads, the others being at a limit.
  const candidates = limitedSets(all, limits)
    .map((fixed) => constrained(m, all, fixed))
    .filter(isWithin)
  const excess = candidates.map((weights) => distanceSquare(m, weights, free))
  return candidates[excess.indexOf(Math.min(...excess))] as number[]
}

/** Every way to put some heads, but not all, at a limit. */
function limitedSets(
  all: readonly number[],
  limits: readonly [number, number],
): ReadonlyMap<number, number>[] {
  const sets = all.reduce<[number, number][][]>(
    (some, h) =>
      some.flatMap((set) => [set, ...limits.map((limit) => [...set, [h, limit] as [number, number]])]),
    [[]],
  )
  return sets.filter((set) => set.length > 0 && set.length < all.length).map((set) => new Map(set))
}

/** (a - b)ᵀ M (a - b) of weights with the same sum, in which what all heads share cancels before it is added up. */
function distanceSquare(
  m: (h: number, g: number) => number,
  a: readonly number[],
  b: readonly number[],
): number {
  const moved = a.map((w, h) => w - (b[h] as number)).slice(1)
  const pair = (h: number, g: number): number => m(h, g) - m(h, 0) - m(0, g) + m(0, 0)
  return moved.reduce(
    (sum, x, h) => sum + moved.reduce((part, y, g) => part + x * y * pair(h + 1, g + 1), 0),
    0,
  )
}

/** The smallest wᵀ M w with some weights fixed and a sum of 1, in differences from the best free head. */
function constrained(
  m: (h: number, g: number) => number,
  all: readonly number[],
  fixed: ReadonlyMap<number, number>,
): number[] {
  const free = all.filter((h) => !fixed.has(h))
  const base = free.reduce((best, h) => (m(h, h) < m(best, best) ? h : best))
  const weights = all.map((h) => fixed.get(h) ?? 0)
  weights[base] = 1 - weights.reduce((sum, w) => sum + w, 0)
  const others = free.filter((h) => h !== base)
  const error = (h: number): number => all.reduce((sum, g) => sum + m(h, g) * (weights[g] as number), 0)
  const matrix = others.map((h) => others.map((g) => m(h, g) - m(h, base) - m(base, g) + m(base, base)))
  const moved = solve(
    matrix,
    others.map((h) => error(base) - error(h)),
  )
  for (const [i, h] of others.entries()) {
    weights[h] = moved[i] as number
    weights[base]! -= moved[i] as number
  }
  return weights
}

/** Gaussian elimination with pivots; an unknown that no equation determines is 0. */
function solve(matrix: readonly (readonly number[])[], right: readonly number[]): number[] {
  const rows = matrix.map((row, i) => [...row, right[i] as number])
  const size = rows.length
  for (let k = 0; k < size; k++) {
    let pivot = k
    for (let i = k + 1; i < size; i++) if (Math.abs(rows[i]![k]!) > Math.abs(rows[pivot]![k]!)) pivot = i
    ;[rows[k], rows[pivot]] = [rows[pivot]!, rows[k]!]
    if (rows[k]![k] === 0) continue
    for (let i = 0; i < size; i++) {
      if (i === k) continue
      const factor = rows[i]![k]! / rows[k]![k]!
      for (let j = k; j <= size; j++) rows[i]![j]! -= factor * rows[k]![j]!
    }
  }
  return rows.map((row, k) => (row[k] === 0 ? 0 : row[size]! / row[k]!))
}

/** Mean square w' P w of a mixture, from the [size, size] mean products of its parts' errors, row-major. */
export function mixtureSquare(weights: readonly number[], products: ArrayLike<number>): number {
  const size = weights.length
  let sum = 0
  for (let h = 0; h < size; h++)
    for (let g = 0; g < size; g++)
      sum += (weights[h] as number) * (weights[g] as number) * (products[h * size + g] as number)
  return sum
}
