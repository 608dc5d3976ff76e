import type { LineFigure } from './figure.ts'
import type { RunFolder } from './run-folder.ts'

/** Figures from heads.jsonl. */
export function headFigures(_run: RunFolder): LineFigure[] {
  return []
}
