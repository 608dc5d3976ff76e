import type { Head } from '../prediction/heads.ts'
import { openCombine } from '../sampling/combine.ts'
import type { Combine } from '../sampling/denoiser.ts'
import { headStatisticsOf, type loadForSampling } from '../training/checkpoint.ts'
import type { RunConfig } from '../training/run-config.ts'
import type { EvaluationSettings } from './study-file.ts'

/** A way to combine the heads of an arm's network. */
export interface Combination {
  /** What a row of results says of it: nothing for the arm's own way. */
  readonly named: { readonly combine?: string }
  readonly combine: Combine
}

/** The arm's own way to combine the heads, and the others that the settings ask for where there is something to combine. */
export async function openCombinations(
  checkpoint: string,
  { unet, schedule, state }: Awaited<ReturnType<typeof loadForSampling>>,
  settings: EvaluationSettings,
  config: Pick<RunConfig, 'combine'>,
): Promise<Combination[]> {
  const { heads } = unet.layout
  const sources = { statistics: headStatisticsOf(state), path: checkpoint }
  const open = (words: string) => openCombine(words, schedule, heads, sources)
  const { combine: words = config.combine } = settings
  const others = otherCombinations(settings, words, heads)
  return Promise.all([
    open(words).then((combine) => ({ named: {}, combine })),
    ...others.map(async (other) => ({ named: { combine: other }, combine: await open(other) })),
  ])
}

/** The combinations that the settings ask for beside the arm's own, each once; none of one head. */
export function otherCombinations(
  { combinations = [] }: EvaluationSettings,
  own: string,
  heads: readonly Head[],
): string[] {
  return heads.length === 1 ? [] : [...new Set(combinations)].filter((words) => words !== own)
}
