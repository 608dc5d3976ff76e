import { type RawUNetOptions, UNet } from '../../lib/model/unet.ts'
import { expectClose, expectCloseToMax } from '../support/close.ts'
import { float32 } from '../support/fixtures.ts'
import { loadSineWeights } from '../support/sine-weights.ts'

const BASE: RawUNetOptions = {
  model_channels: 32,
  out_channels: 6,
  num_res_blocks: 1,
  attention_resolutions: [2],
  channel_mult: [1, 2],
  num_heads: 4,
  use_scale_shift_norm: true,
  resblock_updown: true,
  num_classes: 10,
}
const waves = (count: number, step: number, start: number) =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(step * i + start))

// What differs from BASE; the first four outputs; sum, sum of magnitudes, sum of squares.
const NETWORKS: [string, Partial<RawUNetOptions>, number[], number[]][] = [
  ['of the base options', {}, [0.15478, 0.250725, 0.299891, 0.327333], [393.54741, 1515.51548, 292.68758]],
  [
    'that resize by convolutions',
    { resblock_updown: false },
    [0.135845, 0.228965, 0.283086, 0.277912],
    [-660.2066, 1294.50969, 293.58523],
  ],
  [
    'with the new order of attention',
    { use_new_attention_order: true },
    [0.229436, 0.340196, 0.360705, 0.360406],
    [387.09817, 1529.15365, 304.79467],
  ],
  [
    'without scale and shift',
    { use_scale_shift_norm: false },
    [0.14373, 0.223822, 0.502716, 0.826301],
    [454.76592, 3442.29246, 1933.65094],
  ],
  [
    'without classes, one head, resizing without convolutions',
    { num_heads: 1, num_classes: null, resblock_updown: false, conv_resample: false },
    [-0.026867, 0.016002, -0.009355, -0.014445],
    [352.68972, 1659.70369, 411.94852],
  ],
  [
    'with heads of 32 channels',
    { num_head_channels: 32 },
    [0.209032, 0.339436, 0.397488, 0.421337],
    [380.47241, 1542.24341, 315.37976],
  ],
  [
    'of super-resolution',
    { superres: true },
    [0.160986, 0.207392, 0.16519, 0.160391],
    [400.54252, 1766.10357, 423.31153],
  ],
]

describe('Networks with weights by formula, against the original', () => {
  for (const [what, options, first, sums] of NETWORKS) {
    it(`give the outputs ${what}`, async () => {
      const raw = { ...BASE, ...options }
      const unet = await UNet.fromGuidedDiffusion(raw)
      await loadSineWeights(unet)
      const output = await unet.forward({
        x: { data: waves(6 * 1024, 0.013, 0.2), shape: [2, 3, 32, 32] },
        t: { data: Int32Array.of(0, 500), shape: [2] },
        ...(raw.num_classes && { y: { data: Int32Array.of(1, 7), shape: [2] } }),
        ...(raw.superres && { lowRes: { data: waves(6 * 64, 0.11, 0.4), shape: [2, 3, 8, 8] } }),
      })
      const out = float32(output)
      expectCloseToMax(out.subarray(0, 4), first, 1e-4, 'first outputs')
      const sum = (of: (v: number) => number) => out.reduce((total, v) => total + of(v), 0)
      const actual = [sum((v) => v), sum(Math.abs), sum((v) => v * v)]
      expectClose(actual, sums, { absolute: 1e-5 * (sums[1] as number), relative: 1e-5, what: 'sums' })
      unet.dispose()
    })
  }
})
