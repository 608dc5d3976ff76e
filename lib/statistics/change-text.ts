/**
 * A relative change in words: `-3.20 %`, and a factor where per cent say little, `÷ 25.0` below a tenth of what was, `× 4.00`
 * above three times it.
 *
 * @param change - value / other - 1
 * @param digits - digits after the point of per cent; 2 below a tenth and 1 above by default
 */
export function changeText(change: number, digits = Math.abs(change) < 0.1 ? 2 : 1): string {
  const ratio = 1 + change
  if (ratio > 3) return `× ${factorText(ratio)}`
  if (ratio > 0 && ratio < 0.1) return `÷ ${factorText(1 / ratio)}`
  return `${change > 0 ? '+' : ''}${(100 * change).toFixed(digits)} %`
}

function factorText(factor: number): string {
  return factor >= 1000 ? String(Number(factor.toPrecision(3))) : factor.toPrecision(3)
}
