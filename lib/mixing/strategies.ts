import { argumentError, nearest, show } from '../check.ts'
import type { Choose, Space } from '../native.ts'
import type { Head } from '../prediction/heads.ts'
import { allHeadsPolicy } from './all-heads.ts'
import { allOwnPolicy } from './all-own.ts'
import { consensusPolicy } from './consensus.ts'
import { mergePolicy } from './merge.ts'
import { minimumPolicy } from './minimum.ts'
import type { MixContext } from './mix-context.ts'
import { normalisedPolicy } from './normalised.ts'
import type { HeadPolicy } from './policy.ts'
import { relaxedPolicy } from './relaxed.ts'
import { softminPolicy } from './softmin.ts'
import { tablePolicy } from './table.ts'
import { uncertaintyPolicy } from './uncertainty.ts'

interface Argument {
  readonly standard: number
  readonly min: number
  readonly max: number
  readonly isWhole?: boolean
}
const argument = (standard: number, min = 0, max = Number.MAX_SAFE_INTEGER, isWhole = false): Argument => ({
  ...{ standard, min, max, isWhole },
})
const CAP = { cap: argument(5) }

interface Strategy {
  /** One line for people. */
  readonly about: string
  readonly choose: Choose
  /** Instead of it, from the first step on, where `warmup` is not 0. */
  readonly chooseWithWarmup?: Choose
  readonly compare: Space
  /** Space of the loss unless another one is asked for. */
  readonly space: Space
  readonly arguments?: Readonly<Record<string, Argument>>
  /** It changes over the run, up to a last step. */
  readonly hasCourse?: true
  /** Spaces of the loss that it can have; all by default. */
  readonly spaces?: readonly Space[]
  /** Heads that it needs. */
  readonly heads?: readonly Head[]
  /** It divides the errors by their size at each noise level. */
  readonly evensOut?: true
  /** Its heads differ in what they were trained for, or how much, though its choice does not say so. */
  readonly specialises?: (args: Readonly<Record<string, number>>) => boolean
  readonly policy?: (context: MixContext, args: Readonly<Record<string, number>>) => HeadPolicy
}

const COMMON = ['xStart', 'v', 'eps', 'F'] as const

/** Choices that train a head less, or not at all, where it is behind. */
export const SPECIALISING: ReadonlySet<string | undefined> = new Set([
  'min',
  'minBatch',
  'minPixel',
  'relaxed',
  'softmin',
] satisfies Choose[])

const minimum = (choose: Choose, compare: Space, about: string): Strategy => ({
  about,
  ...{ choose, compare, space: 'own' },
  ...(choose === 'min' && {
    arguments: { warmup: argument(0) },
    ...{ chooseWithWarmup: 'relaxed' as const, policy: minimumPolicy },
  }),
})

/** Every way to train several heads together, by the name that `mix` takes. */
const STRATEGIES = {
  paper: minimum('min', 'own', 'the smallest raw loss of each example (Xie & Agam 2025)'),
  'paper-batch': minimum('minBatch', 'own', 'the smallest raw loss of the batch'),
  'paper-pixel': minimum('minPixel', 'own', 'the smallest raw loss of each pixel'),
  'min-common': minimum('min', 'xStart', 'the smallest error of each example in xStart space'),
  'all-own': {
    about: 'all heads always, each with its own loss',
    ...{ choose: 'mean', compare: 'own', space: 'own' },
    arguments: { xStart: argument(1, 1e-3), v: argument(1, 1e-3), eps: argument(1, 1e-3) },
    specialises: (factors) => Object.values(factors).some((factor) => factor !== 1),
    policy: allOwnPolicy,
  },
  all: {
    about: 'all heads always, in one space',
    ...{ choose: 'mean', compare: 'own', space: 'F', arguments: CAP },
    policy: allHeadsPolicy,
  },
  relaxed: {
    about: 'the best head of each example, and a shrinking floor for the others',
    ...{ choose: 'relaxed', compare: 'xStart', space: 'F', hasCourse: true },
    arguments: { from: argument(0.3, 0, 1), to: argument(0.1, 0, 1), ...CAP },
    policy: relaxedPolicy,
  },
  softmin: {
    about: 'a softmin over the heads of each example that is annealed towards the minimum',
    ...{ choose: 'softmin', compare: 'xStart', space: 'F', hasCourse: true },
    arguments: { from: argument(1, 1e-6), to: argument(0.03, 1e-6), stop: argument(0, 0, 1), ...CAP },
    policy: softminPolicy,
  },
  table: {
    about: 'the best head of each noise level, from running statistics',
    ...{ choose: 'given', compare: 'own', space: 'F' },
    arguments: { best: argument(0.8, 0, 1), warmup: argument(50), ...CAP },
    specialises: () => true,
    policy: tablePolicy,
  },
  consensus: {
    about: 'all heads, and their best linear mixture at each noise level',
    ...{ choose: 'mean', compare: 'own', space: 'F', spaces: COMMON },
    arguments: { kappa: argument(1), warmup: argument(50), ...CAP },
    specialises: () => true,
    policy: consensusPolicy,
  },
  uncertainty: {
    about: 'all heads, each divided by its learned error at each noise level',
    ...{ choose: 'mean', compare: 'own', space: 'own', spaces: ['own'] },
    arguments: { lr: argument(0.01), features: argument(16, 1, 256, true) },
    evensOut: true,
    policy: uncertaintyPolicy,
  },
  normalised: {
    about: 'all heads, each divided by the moving average of its error at each noise level',
    ...{ choose: 'mean', compare: 'own', space: 'own', spaces: ['own'] },
    arguments: { halfLife: argument(200, 20) },
    evensOut: true,
    policy: normalisedPolicy,
  },
  merge: {
    about: 'only the mixture (1 - alphaBar) xStart + alphaBar eps (progressive distillation)',
    ...{ choose: 'given', compare: 'own', space: 'F', spaces: COMMON, heads: ['xStart', 'eps'] },
    policy: mergePolicy,
  },
} as const satisfies Record<string, Strategy>

/** The name of a strategy. */
export type MixName = keyof typeof STRATEGIES
/** The strategies that `parseMix` knows. */
export const MIX_NAMES = Object.keys(STRATEGIES) as [MixName, ...MixName[]]

/** A way to train several heads together: options of the loss, and who decides at each step. */
export interface Mix {
  readonly name: MixName
  /** In one line, with its numbers. */
  readonly about: string
  /** Options of the trainer's loss; `space` may be another of `spaces`. */
  readonly loss: { readonly choose: Choose; readonly compare: Space; readonly space: Space }
  /** Spaces of the loss that it can have. */
  readonly spaces: readonly Space[]
  /** Heads that the network needs; at least two in any case. */
  readonly heads: readonly Head[]
  /** It changes over the run, up to a last step. */
  readonly hasCourse: boolean
  /** Its heads differ in what they were trained for, or how much. */
  readonly specialises: boolean
  /** Who decides; strategies that are wholly a loss have a policy that adds nothing. */
  policy(context: MixContext): HeadPolicy
}

/**
 * Reads a strategy: its name, and after a colon its numbers, such as `relaxed` or `relaxed:from=0.4,to=0.2`.
 *
 * @param call - what messages of errors begin with
 * @throws RangeError that names the strategies, or the numbers of the one that is meant
 */
export function parseMix(text: string, call = 'parseMix'): Mix {
  if (typeof text !== 'string') throw argumentError(call, 'mix', 'a string', text, { kind: 'type' })
  const name = nameOfMix(text)
  if (!Object.hasOwn(STRATEGIES, name)) {
    const guess = nearest(name, MIX_NAMES)
    throw argumentError(
      call,
      'mix',
      `one of ${MIX_NAMES.join(', ')}`,
      text,
      guess ? { hint: `did you mean ${guess}?` } : {},
    )
  }
  const strategy: Strategy = STRATEGIES[name as MixName]
  const args = argumentsOf(call, name, strategy.arguments ?? {}, text.slice(name.length + 1))
  const { compare, space, about, spaces, heads = [], hasCourse = false, policy } = strategy
  const choose = (args.warmup && strategy.chooseWithWarmup) || strategy.choose
  const specialises = strategy.specialises?.(args) ?? SPECIALISING.has(strategy.choose)
  const numbers = Object.entries(args).map(([key, value]) => `${key}=${value}`)
  return {
    name: name as MixName,
    about: `${about}${numbers.length > 0 ? ` (${numbers.join(', ')})` : ''}`,
    ...{ loss: { choose, compare, space }, heads, hasCourse, specialises },
    spaces: spaces ?? ['own', ...COMMON],
    policy: (context) => ({ decide: () => ({}), ...policy?.(context, args), name }),
  }
}

/** @internal The name in the words of a strategy, which need not be one that there is. */
export function nameOfMix(words: string): string {
  return words.split(':', 1)[0] as string
}

/** @internal Whether two words for strategies mean the same, however their numbers are written. */
export function isSameMix(a: unknown, b: unknown): boolean {
  const meant = (words: unknown): string => {
    const { name, about } = parseMix(words as string)
    return `${name} ${about}`
  }
  return a === b || (typeof a === 'string' && typeof b === 'string' && meant(a) === meant(b))
}

/** @internal Whether the words of a strategy divide the errors of the heads by their size at each noise level. */
export function evensOut(mix: string | undefined): boolean {
  const name = nameOfMix(mix ?? '')
  return Object.hasOwn(STRATEGIES, name) && (STRATEGIES[name as MixName] as Strategy).evensOut === true
}

function argumentsOf(
  call: string,
  name: string,
  known: Readonly<Record<string, Argument>>,
  text: string,
): Record<string, number> {
  const args = Object.fromEntries(Object.entries(known).map(([key, { standard }]) => [key, standard]))
  const names = Object.keys(known)
  const given = new Set<string>()
  for (const part of text === '' ? [] : text.split(',')) {
    const [, key = '', word = ''] = /^([a-zA-Z]+)=(.+)$/.exec(part.trim()) ?? []
    const spec = known[key]
    if (!spec) {
      const what =
        names.length > 0 ? `numbers such as ${names.map((n) => `${n}=${args[n]}`).join(',')}` : 'nothing'
      throw new RangeError(`${call}: expected mix ${name} to be followed by ${what}, got ${show(part)}`)
    }
    if (given.has(key)) throw argumentError(call, `${key} of mix ${name}`, 'given once', text)
    given.add(key)
    const value = /^[\d.eE+-]+$/.test(word) ? Number(word) : Number.NaN
    const { min, max, isWhole } = spec
    if (!(value >= min && value <= max && (Number.isInteger(value) || !isWhole))) {
      const number = isWhole ? 'an integer' : 'a number'
      const what = max === Number.MAX_SAFE_INTEGER ? `${number} >= ${min}` : `${number} in [${min}, ${max}]`
      throw argumentError(call, `${key} of mix ${name}`, what, word)
    }
    args[key] = value
  }
  return args
}

/** The strategies with their numbers and what they do, a line each. */
export function describeMixes(): string[] {
  return MIX_NAMES.map((name) => {
    const { about, arguments: known = {} }: Strategy = STRATEGIES[name]
    const numbers = Object.entries(known).map(([key, { standard }]) => `${key}=${standard}`)
    return `${name}${numbers.length > 0 ? `:${numbers.join(',')}` : ''}  ${about}`
  })
}
