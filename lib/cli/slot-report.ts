import { lossCurve, type TimestepLoss } from '../analysis/timestep-loss.ts'
import { lossShares } from '../curriculum/partition.ts'
import type { Slot } from '../curriculum/slot.ts'
import { timestepLossPlot } from '../report/run-plots.ts'

/** Slots as lines: range, number of timesteps, share of the loss. */
export function slotTable(slots: readonly Slot[], curve: Float64Array): string {
  const shares = lossShares(slots, curve)
  const width = String(curve.length).length
  return slots
    .map(({ begin, end }, k) => {
      const range = `t ${String(begin).padStart(width)} to ${String(end - 1).padStart(width)}`
      const share = (100 * (shares[k] as number)).toFixed(1)
      return `  slot ${String(k).padStart(2)}: ${range}, ${String(end - begin).padStart(width)} timesteps, ${share.padStart(4)} % of the loss`
    })
    .join('\n')
}

/** Measured losses and slots as SVG. */
export async function measuredPlot(
  measured: TimestepLoss,
  timestepCount: number,
  slots: readonly Slot[],
): Promise<string> {
  const perHead = Object.fromEntries(
    measured.heads.map((head) => [head, lossCurve(measured, timestepCount, head)]),
  )
  return timestepLossPlot({ perHead, slots })
}
