// What is timed: networks, and the image size and batches that go with each. networks.json is read by bench/native/run.py too.
import { type UNetConfig, type UNetOptions, unetConfig } from '../lib/index.ts'
import list from './networks.json' with { type: 'json' }

/** A network with the images that it is timed on. */
export interface BenchNetwork {
  readonly name: string
  readonly about: string
  readonly config: UNetConfig
  /** Height and width of the images. */
  readonly size: number
  readonly batches: readonly number[]
}

export const NETWORKS: readonly BenchNetwork[] = list.networks.map(({ options, ...rest }) => ({
  ...rest,
  config: unetConfig({ ...list.common, ...options } as UNetOptions),
}))
