import type { Html } from './html.ts'

export interface StudyFolder {
  readonly name: string
}

export async function studyParts(_study: StudyFolder): Promise<(Html | undefined)[]> {
  return []
}
