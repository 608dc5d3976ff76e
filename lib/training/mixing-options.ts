import type { z } from 'zod'
import { argumentError } from '../check.ts'
import { HeadStatistics } from '../mixing/head-statistics.ts'
import { logSnrOf } from '../mixing/log-snr-bins.ts'
import type { HeadPolicy } from '../mixing/policy.ts'
import { MIX_NAMES, type Mix, parseMix } from '../mixing/strategies.ts'
import { withStatistics } from '../mixing/with-statistics.ts'
import type { Choose, Space } from '../native.ts'
import { integer, text } from '../options.ts'
import type { Head } from '../prediction/heads.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import { checkChosenHead } from './trainer.ts'

const about = <T extends z.ZodType>(description: string, schema: T): T =>
  schema.meta({ description, group: 'loss' }) as T

/** Options of a run that say how several heads are trained together. */
export const MIXING_SHAPE = {
  mix: about(
    `how several heads are trained together: ${MIX_NAMES.join(', ')}, with numbers after a colon, such as relaxed:from=0.3,to=0.1; sets choose, compare and, unless given, space`,
    text().optional(),
  ),
  mixSteps: about('step at which the course of mix ends; steps by default', integer(1).optional()),
} as const satisfies Record<string, z.ZodType>

/** What a run's options say about its loss. */
interface LossWords {
  readonly mix?: string | undefined
  readonly mixSteps?: number | undefined
  readonly choose?: Choose | undefined
  readonly compare?: Space | undefined
  readonly space?: Space | undefined
  readonly heads?: readonly Head[] | undefined
  readonly steps: number
}

/**
 * The options that `mix` settles.
 *
 * @param given - the options as they were given, without defaults
 * @throws RangeError for a `choose`, `compare` or `space` that contradicts it
 */
export function mixOptions(call: string, given: LossWords) {
  const { mix: words, mixSteps, steps } = given
  if (words === undefined) {
    if (mixSteps !== undefined) throw argumentError(call, 'mixSteps', 'absent without mix', mixSteps)
    if (given.choose === 'given') {
      throw argumentError(call, 'choose', 'another word without mix', given.choose, {
        hint: 'shares are given by a strategy, such as mix table',
      })
    }
    return {}
  }
  const { name, loss, heads, spaces, hasCourse } = parseMix(words, call)
  for (const key of ['choose', 'compare'] as const) {
    if (given[key] === undefined || given[key] === loss[key]) continue
    throw argumentError(call, key, `absent or ${loss[key]} with mix ${name}`, given[key])
  }
  const { space = loss.space } = given
  if (!spaces.includes(space)) {
    throw argumentError(call, 'space', `absent or one of ${spaces.join(', ')} with mix ${name}`, space)
  }
  if (space === 'own' && /[:,]\s*cap=/.test(words)) {
    throw argumentError(call, 'mix', 'without cap where space is own, which converts nothing', words)
  }
  if (!hasCourse && mixSteps !== undefined) {
    throw argumentError(call, 'mixSteps', `absent with mix ${name}, which has no course`, mixSteps)
  }
  return {
    ...{ ...loss, space },
    ...(hasCourse && { mixSteps: mixSteps ?? steps }),
    // The heads that it needs are all that it trains: one more would be read by samplers all the same.
    ...(heads.length > 0 && given.heads === undefined && { heads: [...heads] }),
  }
}

/**
 * Checks that a network of these heads can be trained so, before there is one.
 *
 * @throws RangeError for a strategy or a choice that they do not allow
 */
export function checkMixing(
  call: string,
  { mix: words, choose, space, sigmaData }: Omit<LossWords, 'steps'> & { readonly sigmaData: number },
  heads: readonly Head[],
): void {
  if (choose !== undefined) checkChosenHead(call, 'choose', choose, heads)
  if (words === undefined) return
  const mix = parseMix(words, call)
  checkHeads(call, mix, heads)
  const logSnr = Float64Array.of(1, -1)
  const statistics = new HeadStatistics({ heads, logSnr })
  try {
    mix.policy({ heads, logSnr, statistics, sigmaData, space: space ?? mix.loss.space, courseSteps: 1 })
  } catch (error) {
    throw error instanceof RangeError ? new RangeError(error.message.replace(/^[\w.]+:/, `${call}:`)) : error
  }
}

function checkHeads(call: string, mix: Mix, heads: readonly Head[]): void {
  const needed = heads.length < 2 ? 'several heads' : mix.heads.some((head) => !heads.includes(head))
  if (!needed) return
  const what = needed === true ? mix.heads.join(' and ') : needed
  throw argumentError(call, 'heads', `${what}, for mix ${mix.name}`, heads)
}

/**
 * The statistics that a run of several heads keeps, and the policy that decides about them; undefined for one head.
 *
 * @throws RangeError for a strategy that the network's heads do not allow
 */
export function runMixing(
  config: LossWords & { readonly sigmaData: number },
  heads: readonly Head[],
  schedule: NoiseSchedule,
): { statistics: HeadStatistics; policy: HeadPolicy; about?: string } | undefined {
  const mix = config.mix === undefined ? undefined : parseMix(config.mix, 'run')
  if (mix) checkHeads('run', mix, heads)
  if (heads.length < 2) return undefined
  const logSnr = logSnrOf(schedule.tables.snr)
  const statistics = new HeadStatistics({ heads, logSnr })
  const policy: HeadPolicy = mix?.policy({
    ...{ heads, logSnr, statistics, sigmaData: config.sigmaData },
    space: config.space ?? mix.loss.space,
    courseSteps: config.mixSteps ?? config.steps,
  }) ?? { name: 'none', decide: () => ({}) }
  const over = mix?.hasCourse ? `, over ${config.mixSteps ?? config.steps} steps` : ''
  return {
    statistics,
    policy: withStatistics(policy, statistics),
    ...(mix && { about: `heads: ${mix.name}, ${mix.about}; loss in space ${config.space}${over}` }),
  }
}
