import { argumentError, checkInteger, checkNumber, checkTimesteps } from '../check.ts'
import { ALL_HEADS, type Head } from '../prediction/heads.ts'
import type { JsonValue, StepLosses } from '../timesteps/sampler.ts'
import { type BlueOptions, blueWeights, mixtureSquare } from './blue.ts'
import { binOfLogSnr, binOfTimestep, type LogSnrBins, logSnrBins } from './log-snr-bins.ts'

/** Options of `HeadStatistics`. */
export interface HeadStatisticsOptions {
  readonly heads: readonly Head[]
  /** [T] log snr of each timestep of the trained process, descending; see `logSnrOf`. */
  readonly logSnr: Float64Array
  /** Greatest number of bins; 20 by default. */
  readonly binCount?: number
  /**
   * Images of a bin after which an observation counts half: a quarter of those that the bin has seen, at least 20 and at most this; 500 by
   * default, Infinity keeps all equally.
   */
  readonly halfLife?: number
  /** Standard errors by which another head must be better to become the best one; 2 by default. */
  readonly hysteresis?: number
}

/** @internal Images that a noise level must have seen before its best head or mixture is told. */
export const LEAST_COUNT = 20

const FIELDS = [
  'count', 'weight', 'weightSquares', 'products', 'differenceSquares', 'wins', 'minimum', 'brightness', 'best', 'flips',
] as const // biome-ignore format: one list
type Sums = Record<(typeof FIELDS)[number], Float64Array>

/**
 * What is known about the errors of a network's heads at each noise level: moving averages, over images, of the products of
 * their errors in v space, of who wins, and of their errors of brightness (math.md, eq. 70 and 71). A training run keeps them,
 * `measureHeadStatistics` takes them from held-out images, and everything that chooses or mixes heads reads them.
 */
export class HeadStatistics {
  readonly heads: readonly Head[]
  readonly bins: LogSnrBins
  /** Most images of a bin after which an observation counts half. */
  readonly halfLife: number
  /** Standard errors by which another head must be better to become the best one. */
  readonly hysteresis: number
  #sums: Sums

  constructor(
    options:
      | HeadStatisticsOptions
      | (Omit<HeadStatisticsOptions, 'logSnr' | 'binCount'> & { readonly bins: LogSnrBins }),
  ) {
    const { heads, halfLife = 500, hysteresis = 2 } = options
    checkHeads('HeadStatistics', heads)
    if (!(halfLife > 0)) throw argumentError('HeadStatistics', 'halfLife', 'a number > 0', halfLife)
    checkNumber('HeadStatistics', 'hysteresis', hysteresis, 0)
    this.heads = heads
    this.bins = 'bins' in options ? options.bins : logSnrBins(options.logSnr, options.binCount)
    this.halfLife = halfLife
    this.hysteresis = hysteresis
    this.#sums = emptySums(this.bins.centres.length, heads.length)
  }

  /** Bins of log snr. */
  get binCount(): number {
    return this.bins.centres.length
  }

  /** Adds the errors of a batch; examples whose errors are not finite, and networks of one head, add nothing. */
  observe({ t, errorProducts, meanError }: Pick<StepLosses, 't' | 'errorProducts' | 'meanError'>): void {
    if (!errorProducts || !meanError) return
    const call = 'statistics.observe'
    const size = this.heads.length
    checkTimesteps(call, t, this.bins.edges.at(-1) as number)
    checkInteger(
      call,
      'errorProducts.length',
      errorProducts.length,
      t.length * size * size,
      t.length * size * size,
    )
    const touched = new Set<number>()
    for (let i = 0; i < t.length; i++) {
      const products = errorProducts.subarray(i * size * size, (i + 1) * size * size)
      const means = meanError.subarray(i * size, (i + 1) * size)
      if (!products.every(Number.isFinite) || !means.every(Number.isFinite)) continue
      const bin = binOfTimestep(this.bins, t[i] as number)
      this.#add(bin, products, means)
      touched.add(bin)
    }
    for (const bin of touched) this.#choose(bin)
  }

  #add(bin: number, products: Float32Array, means: Float32Array): void {
    const sums = this.#sums
    const size = this.heads.length
    sums.count[bin]! += 1
    const keep = this.#keep(sums.count[bin] as number)
    const error = (h: number): number => products[h * size + h] as number
    let winner = 0
    for (let h = 1; h < size; h++) if (error(h) < error(winner)) winner = h
    const put = (name: keyof Sums, at: number, value: number, by = keep): void => {
      sums[name][at] = by * (sums[name][at] as number) + value
    }
    put('weight', bin, 1)
    put('weightSquares', bin, 1, keep * keep)
    put('minimum', bin, error(winner))
    for (let h = 0; h < size; h++) {
      put('wins', bin * size + h, h === winner ? 1 : 0)
      for (let g = 0; g < size; g++) {
        const at = (bin * size + h) * size + g
        put('products', at, products[h * size + g] as number)
        put('differenceSquares', at, (error(h) - error(g)) ** 2)
        put('brightness', at, (means[h] as number) * (means[g] as number))
      }
    }
  }

  /** What averages of a bin keep of themselves at its `count`-th observation: a network is soon another one early in training. */
  #keep(count: number): number {
    if (this.halfLife === Number.POSITIVE_INFINITY) return 1
    return 2 ** (-1 / Math.min(this.halfLife, Math.max(LEAST_COUNT, count / 4)))
  }

  #choose(bin: number): void {
    const { best, flips, count } = this.#sums
    if ((count[bin] as number) < LEAST_COUNT) return
    const errors = this.errors(bin)
    const candidate = errors.indexOf(Math.min(...errors))
    const now = best[bin] as number
    if (now === -1) best[bin] = candidate
    else if (candidate !== now) {
      const { difference, standardError } = this.compare(bin, now, candidate)
      if (!(difference > this.hysteresis * standardError)) return
      best[bin] = candidate
      flips[bin]! += 1
    }
  }

  /** Images that a bin has seen. */
  count(bin: number): number {
    return this.#sums.count[bin] as number
  }

  /** [heads, heads] mean products of two heads' errors in v space, row-major; NaN where nothing was seen. */
  products(bin: number): number[] {
    return this.#means('products', bin, this.heads.length ** 2)
  }

  /** [heads] mean squared error of each head in v space; NaN where nothing was seen. */
  errors(bin: number): number[] {
    const products = this.products(bin)
    return this.heads.map((_, h) => products[h * this.heads.length + h] as number)
  }

  /** [heads] share of the images on which each head has the smallest error; NaN where nothing was seen. */
  winRates(bin: number): number[] {
    return this.#means('wins', bin, this.heads.length)
  }

  /** [heads] share of the images on which each head wins, each timestep counting the same; bins without images are left out. */
  overallWinRates(): number[] {
    const { edges } = this.bins
    const rates = this.heads.map(() => 0)
    let total = 0
    for (let bin = 0; bin < this.binCount; bin++) {
      if (this.count(bin) === 0) continue
      const timesteps = (edges[bin + 1] as number) - (edges[bin] as number)
      total += timesteps
      for (const [h, rate] of this.winRates(bin).entries()) rates[h]! += rate * timesteps
    }
    return rates.map((rate) => rate / total)
  }

  /** Mean over images of the smallest head's error in v space: what the logged minimum shows and no sampler can have. */
  minimum(bin: number): number {
    return this.#means('minimum', bin, 1)[0] as number
  }

  /** [heads, heads] mean products of two heads' errors of brightness in xStart, row-major. */
  brightness(bin: number): number[] {
    return this.#means('brightness', bin, this.heads.length ** 2)
  }

  /** By how much head a's mean error is above head b's, and the standard error of that paired difference. */
  compare(bin: number, a: number, b: number): { difference: number; standardError: number } {
    const { weight, weightSquares } = this.#sums
    const errors = this.errors(bin)
    const difference = (errors[a] as number) - (errors[b] as number)
    const square = this.#means('differenceSquares', bin, this.heads.length ** 2)[
      a * this.heads.length + b
    ] as number
    const effective = (weight[bin] as number) ** 2 / (weightSquares[bin] as number)
    const variance = Math.max(0, square - difference ** 2) / Math.max(1, effective - 1)
    return { difference, standardError: Math.sqrt(variance) }
  }

  /**
   * The best head of a bin; another one becomes it when it is better by `hysteresis` standard errors. Undefined before the
   * bin has seen 20 images.
   */
  bestHead(bin: number): Head | undefined {
    return this.heads[this.#sums.best[bin] as number]
  }

  /** How often the best head of a bin has changed. */
  flips(bin: number): number {
    return this.#sums.flips[bin] as number
  }

  /** [heads] weights of the best linear mixture in a bin (see `blueWeights`); undefined before it has seen 20 images. */
  blue(bin: number, options: BlueOptions = {}): number[] | undefined {
    return this.count(bin) < LEAST_COUNT ? undefined : blueWeights(this.products(bin), options)
  }

  /** Mean squared error in v space, in a bin, of a mixture of the heads. */
  mixtureError(bin: number, weights: readonly number[]): number {
    if (weights.length !== this.heads.length)
      throw argumentError('statistics.mixtureError', 'weights', `${this.heads.length} numbers`, weights)
    return mixtureSquare(weights, this.products(bin))
  }

  /** The best head at any noise level. */
  bestHeadAt(logSnr: number): Head | undefined {
    return this.bestHead(binOfLogSnr(this.bins, logSnr))
  }

  /**
   * [heads] weights of the best linear mixture at any noise level, linear in log snr between the middles of bins; undefined
   * where one of the two bins has seen fewer than 20 images.
   */
  blueAt(logSnr: number): number[] | undefined {
    const { centres } = this.bins
    const above = centres.filter((centre) => centre > logSnr).length
    const [before, after] = [Math.max(0, above - 1), Math.min(above, centres.length - 1)]
    const [a, b] = [this.blue(before), this.blue(after)]
    if (!a || !b || before === after) return a && b
    const share =
      ((centres[before] as number) - logSnr) / ((centres[before] as number) - (centres[after] as number))
    return a.map((weight, h) => (1 - share) * weight + share * (b[h] as number))
  }

  #means(name: keyof Sums, bin: number, size: number): number[] {
    const weight = this.#sums.weight[bin] as number
    return Array.from(this.#sums[name].subarray(bin * size, (bin + 1) * size), (sum) =>
      weight > 0 ? sum / weight : Number.NaN,
    )
  }

  /** Everything, exactly. */
  state(): JsonValue {
    const { edges, borders, centres } = this.bins
    return {
      kind: 'head-statistics',
      heads: [...this.heads],
      halfLife: Number.isFinite(this.halfLife) ? this.halfLife : null,
      hysteresis: this.hysteresis,
      bins: { edges: [...edges], borders: [...borders], centres: [...centres] },
      sums: Object.fromEntries(FIELDS.map((name) => [name, Array.from(this.#sums[name])])),
    }
  }

  /** Puts a state back; throws when it belongs to other heads, bins or options. */
  restore(state: JsonValue): void {
    const other = HeadStatistics.from(state, 'statistics.restore')
    const shape = (s: HeadStatistics): string =>
      JSON.stringify([s.heads, s.bins.edges, s.halfLife, s.hysteresis])
    if (shape(other) !== shape(this)) {
      throw argumentError(
        'statistics.restore',
        'state',
        `of heads, edges, half-life and hysteresis ${shape(this)}`,
        shape(other),
      )
    }
    this.#sums = other.#sums
  }

  /** Statistics from a state, to read or to go on with. */
  static from(state: JsonValue, call = 'HeadStatistics.from'): HeadStatistics {
    const { kind, heads, halfLife, hysteresis, bins, sums } = (state ?? {}) as unknown as {
      kind?: string
      heads: Head[]
      halfLife: number | null
      hysteresis: number
      bins: LogSnrBins
      sums: Record<string, number[]>
    }
    const what = 'the state of head statistics'
    if (kind !== 'head-statistics') throw argumentError(call, 'state', what, state)
    checkState(call, { heads, bins, sums })
    const statistics = new HeadStatistics({
      ...{ heads, bins, hysteresis },
      halfLife: halfLife ?? Number.POSITIVE_INFINITY,
    })
    for (const name of FIELDS) {
      const [values, own] = [sums[name], statistics.#sums[name]]
      if (!Array.isArray(values) || values.length !== own.length || !values.every(Number.isFinite)) {
        throw argumentError(call, `state.sums.${name}`, `${own.length} numbers`, values)
      }
      own.set(values)
    }
    const { best, weight } = statistics.#sums
    if (!best.every((h) => Number.isInteger(h) && h >= -1 && h < heads.length))
      throw argumentError(call, 'state.sums.best', `places among ${heads.length} heads, or -1`, sums.best)
    if (!weight.every((sum) => sum >= 0))
      throw argumentError(call, 'state.sums.weight', 'numbers >= 0', sums.weight)
    if (!weight.every((sum, bin) => sum === 0 || statistics.errors(bin).every((error) => error > 0)))
      throw argumentError(call, 'state.sums.products', 'errors > 0 where images were seen', sums.products)
    return statistics
  }
}

/** Checks what decides the sizes of everything else. */
function checkState(
  call: string,
  { heads, bins, sums }: { heads: unknown; bins: unknown; sums: unknown },
): void {
  checkHeads(call, heads)
  const fail = (name: string, what: string, got: unknown): never => {
    throw argumentError(call, `state.${name}`, what, got)
  }
  const parts = (bins ?? {}) as Record<'edges' | 'borders' | 'centres', unknown>
  const numbers = (name: keyof typeof parts, count: number | undefined, sign: 1 | -1): number => {
    const values = parts[name]
    const isOrdered =
      Array.isArray(values) &&
      values.every((value, i) => Number.isFinite(value) && (i === 0 || sign * (value - values[i - 1]) > 0))
    const what = `${count ?? 'two or more'} ${sign > 0 ? 'ascending' : 'descending'} numbers`
    if (!isOrdered || (count === undefined ? values.length < 2 : values.length !== count))
      fail(`bins.${name}`, what, values)
    return (values as number[]).length
  }
  const count = numbers('edges', undefined, 1) - 1
  numbers('borders', count - 1, -1)
  numbers('centres', count, -1)
  if (typeof sums !== 'object' || sums === null) fail('sums', 'an object', sums)
}

function checkHeads(call: string, heads: unknown): void {
  const isList = Array.isArray(heads) && heads.length > 0 && new Set(heads).size === heads.length
  if (!isList || !heads.every((head) => ALL_HEADS.includes(head)))
    throw argumentError(call, 'heads', `one or more of ${ALL_HEADS.join(', ')}, each once`, heads)
}

function emptySums(bins: number, heads: number): Sums {
  const of = (count: number): Float64Array => new Float64Array(bins * count)
  return {
    count: of(1),
    weight: of(1),
    weightSquares: of(1),
    products: of(heads ** 2),
    differenceSquares: of(heads ** 2),
    wins: of(heads),
    minimum: of(1),
    brightness: of(heads ** 2),
    best: of(1).fill(-1),
    flips: of(1),
  }
}
