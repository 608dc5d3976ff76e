import { argumentError, show } from '../check.ts'
import { HeadStatistics, LEAST_COUNT } from '../mixing/head-statistics.ts'
import { type MeasuredNetwork, readMeasuredHeads } from '../mixing/head-statistics-file.ts'
import { alphaBarOf, logSnrOf } from '../mixing/log-snr-bins.ts'
import { parseMix, SPECIALISING } from '../mixing/strategies.ts'
import type { Choose } from '../native.ts'
import { ALL_HEADS, type Head } from '../prediction/heads.ts'
import { type HeadWeights, signalWeights } from '../prediction/signal-weights.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import type { Combine } from './denoiser.ts'
import { headWeights } from './head-weights.ts'

/** What combinations need to know of the process that the network was trained on. */
type TrainedProcess = Pick<NoiseSchedule, 'alphaBarAt'>

/**
 * `signalWeights` at each timestep.
 *
 * @param schedule - the process that the network was trained on
 */
export function combineBySignal(schedule: TrainedProcess, heads: readonly Head[]): Combine {
  return (t) => signalWeights(schedule.alphaBarAt(t), heads)
}

/**
 * What statistics say at the log snr of a timestep of the trained process, possibly fractional; `signalWeights` where they have seen
 * too few images, or where as good as no signal is left (snr 1e-6) and eps is of no use, though a bin reaches that far.
 */
function byStatistics(
  schedule: TrainedProcess,
  heads: readonly Head[],
  said: (logSnr: number) => HeadWeights | Head | undefined,
): Combine {
  return (t) => {
    const alphaBar = schedule.alphaBarAt(t)
    const logSnr = logSnrOf(Float64Array.of(alphaBar / (1 - alphaBar)))[0] as number
    return (alphaBarOf(logSnr) > 0 && said(logSnr)) || signalWeights(alphaBar, heads)
  }
}

/**
 * The head that is best at each noise level (math.md, eq. 71); `signalWeights` where the statistics have seen too few images.
 *
 * @param schedule - the process that the network was trained on
 */
export function combineByTable(schedule: TrainedProcess, statistics: HeadStatistics): Combine {
  return byStatistics(schedule, statistics.heads, (logSnr) => statistics.bestHeadAt(logSnr))
}

/**
 * The best linear mixture of the heads at each noise level (math.md, eq. 72 and 73); `signalWeights` where the statistics have
 * seen too few images.
 *
 * @param schedule - the process that the network was trained on
 */
export function combineByBlue(schedule: TrainedProcess, statistics: HeadStatistics): Combine {
  return byStatistics(schedule, statistics.heads, (logSnr) => {
    const weights = statistics.blueAt(logSnr)
    return weights && Object.fromEntries(statistics.heads.map((head, h) => [head, weights[h] as number]))
  })
}

/**
 * Words of `openCombine` for a network of which nobody says how it is read: `signal` where all heads were trained alike; the only
 * head that was, where it was one; else `blue`, which leaves out the heads that are behind at a noise level: other mixtures read them.
 *
 * @param choose - what chose among the heads in training
 * @param mix - the strategy that did, as `parseMix` reads it
 */
export function defaultCombine(
  heads: readonly Head[],
  choose: Choose | undefined,
  mix?: string,
): 'signal' | 'blue' | Head {
  if (heads.length === 1) return 'signal'
  if (heads.includes(choose as Head)) return choose as Head
  const specialises = mix === undefined ? SPECIALISING.has(choose) : parseMix(mix).specialises
  return specialises ? 'blue' : 'signal'
}

/** Where `parseCombine` finds what `table` and `blue` need. */
export interface CombineSources {
  /** Of the heads of this network. */
  readonly statistics?: HeadStatistics | undefined
  /** What was searched for them, for messages. */
  readonly path?: string
  /** Told of a file that is read, its statistics, and the network that they were measured on where it says so. */
  readonly onRead?: (
    file: string,
    statistics: HeadStatistics,
    network?: MeasuredNetwork,
  ) => void | Promise<void>
}

/**
 * Reads which head predicts xStart: `signal` (see `combineBySignal`), `table` and `blue` (from statistics of the heads; see
 * `combineByTable` and `combineByBlue`), `mean`, `gate` (the network's own), a head, or weights such as `xStart=0.3,v=0.7`.
 *
 * @throws RangeError for words that are none of these, and for `table` and `blue` without statistics
 */
export function parseCombine(
  text: string,
  schedule: TrainedProcess,
  heads: readonly Head[],
  { statistics, path }: CombineSources = {},
): Combine {
  const call = 'parseCombine'
  if (typeof text !== 'string') throw argumentError(call, 'combine', 'a string', text, { kind: 'type' })
  if (text === 'signal') return combineBySignal(schedule, heads)
  if (text === 'gate') return text
  if (text === 'mean') return Object.fromEntries(heads.map((head) => [head, 1 / heads.length]))
  if (text === 'table' || text === 'blue') {
    if (!statistics) {
      const where = path === undefined ? '' : ` in ${path}`
      const hint =
        heads.length === 1
          ? `a network of one head (${heads[0]}) has nothing to combine`
          : `checkpoints of runs with several heads hold them, or name a file that trislot measure --head-statistics wrote: ${text}=FILE (in a program with openCombine)`
      throw new RangeError(
        `${call}: expected statistics of the heads${where} for combine ${text}, got none; ${hint}`,
      )
    }
    if (statistics.heads.join() !== heads.join()) {
      const what = `of the network's heads (${heads.join(', ')})`
      throw argumentError(call, `statistics for combine ${text}`, what, statistics.heads.join(', '))
    }
    return text === 'table' ? combineByTable(schedule, statistics) : combineByBlue(schedule, statistics)
  }
  if (ALL_HEADS.includes(text as Head)) {
    if (heads.includes(text as Head)) return text as Head
    throw argumentError(call, 'combine', `among the network's heads (${heads.join(', ')})`, text)
  }
  const pairs = text.split(',').map((part) => /^(\w+)=([\d.eE+-]+)$/.exec(part.trim()))
  if (pairs.every((pair) => pair !== null)) {
    const weights = Object.fromEntries(pairs.map((pair) => [pair[1], Number(pair[2])])) as HeadWeights
    if (Object.keys(weights).length < pairs.length)
      throw argumentError(call, 'combine', 'weights that name each head once', text)
    headWeights(call, weights, heads) // which checks them
    return weights
  }
  throw new RangeError(
    `${call}: expected combine to be signal, table, blue, mean, gate, one of ${heads.join(', ')}, or weights such as xStart=0.3,v=0.7, got ${show(text)}`,
  )
}

/**
 * `parseCombine`, which also understands `table=FILE` and `blue=FILE` with statistics that `writeHeadStatistics` wrote.
 *
 * @throws DataError for a file that holds no statistics
 */
export async function openCombine(
  text: string,
  schedule: TrainedProcess,
  heads: readonly Head[],
  sources: CombineSources = {},
): Promise<Combine> {
  const [, word, file] = /^(table|blue)=(.+)$/.exec(text) ?? []
  if (word === undefined || file === undefined) return parseCombine(text, schedule, heads, sources)
  const { statistics, network } = await readMeasuredHeads(file)
  await sources.onRead?.(file, statistics, network)
  return parseCombine(word, schedule, heads, { statistics, path: file })
}

/** @internal What to say of statistics that have seen too little for some noise levels; undefined where they have not. */
export function fewImagesWarning(
  source: string,
  statistics: HeadStatistics,
  advice = 'measure with a larger --count',
): string | undefined {
  const bins = Array.from({ length: statistics.binCount }, (_, bin) => bin)
  const { length } = bins.filter((bin) => statistics.bestHead(bin) === undefined)
  if (length === 0) return undefined
  return `warning: ${source} saw fewer than ${LEAST_COUNT} images at ${length} of ${bins.length} noise levels, where --combine is signal; ${advice}`
}

/**
 * @internal Checks words of `openCombine` for a network that is not there yet; checkpoints of several heads will have statistics.
 *
 * @throws RangeError for words that mean nothing to such a network, DataError for a file that holds no statistics
 */
export async function checkCombine(text: string, heads: readonly Head[], hasGate: boolean): Promise<void> {
  const logSnr = Float64Array.of(1, -1)
  const statistics = heads.length > 1 ? new HeadStatistics({ heads, logSnr }) : undefined
  const process = { alphaBarAt: () => 0.5 } // only what is returned asks for it
  checkOpened(
    await openCombine(text, process, heads, { statistics, path: 'a run of one head' }),
    heads,
    hasGate,
  )
}

/**
 * @internal Checks that a network of these heads can predict so.
 *
 * @param endsInNoise - whether the process has a timestep without signal, where eps predicts nothing
 * @throws RangeError
 */
export function checkOpened(
  chosen: Combine,
  heads: readonly Head[],
  hasGate: boolean,
  endsInNoise = false,
): void {
  const call = 'parseCombine'
  if (chosen === 'gate') {
    if (!hasGate) throw argumentError(call, 'combine', 'another word for a network without a gate', chosen)
  } else if (typeof chosen !== 'function') {
    const weights = headWeights(call, chosen, heads)
    const usesEps = weights.some((weight, h) => heads[h] === 'eps' && weight !== 0)
    if (endsInNoise && usesEps)
      throw argumentError(
        call,
        'combine',
        'without eps, because no signal is left at the last timestep',
        chosen,
      )
  }
}
