import { readdir, realpath, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { DataError } from '../errors.ts'

/** An image file below a folder. */
export interface ImageFile {
  /** Relative to the folder, with forward slashes. */
  readonly path: string
  readonly bytes: number
  readonly modifiedMs: number
}

/** Extensions of image files, in lower case. */
export const IMAGE_EXTENSIONS = ['png', 'jpg', 'jpeg', 'webp', 'gif', 'avif'] as const

/**
 * All image files below a folder in guided-diffusion's order: the entries of each folder sorted, folders in their
 * place. Hidden entries (a leading dot) are left out, links are followed, a link back to an open folder is not.
 *
 * @throws DataError when the folder does not exist, is no folder, or cannot be read
 */
export async function listImages(call: string, folder: string): Promise<ImageFile[]> {
  const files: ImageFile[] = []
  const open = new Set<string>()

  async function visit(relative: string): Promise<void> {
    const real = await realpath(join(folder, relative))
    if (open.has(real)) return
    open.add(real)
    for (const name of (await readdir(real)).sort()) {
      if (name.startsWith('.')) continue
      const path = relative ? `${relative}/${name}` : name
      const status = await stat(join(real, name)).catch(() => undefined) // a dangling link is no image
      if (status?.isDirectory()) await visit(path)
      else if (status?.isFile() && isImageName(name)) {
        files.push({ path, bytes: status.size, modifiedMs: status.mtimeMs })
      }
    }
    open.delete(real)
  }

  const status = await stat(folder).catch((cause: NodeJS.ErrnoException) => {
    throw new DataError(`${call}: expected folder to be readable, got ${cause.code} for ${folder}`, folder, {
      cause,
    })
  })
  if (!status.isDirectory())
    throw new DataError(`${call}: expected folder to be a folder, got a file ${folder}`, folder)
  try {
    await visit('')
  } catch (cause) {
    const { code, path = folder } = cause as NodeJS.ErrnoException
    throw new DataError(`${call}: expected folder to be readable, got ${code} for ${path}`, path, { cause })
  }
  return files
}

function isImageName(name: string): boolean {
  const dot = name.lastIndexOf('.')
  return dot !== -1 && (IMAGE_EXTENSIONS as readonly string[]).includes(name.slice(dot + 1).toLowerCase())
}

/** Where the class of an image is written: nowhere, in the first folder of its path, or before the first `_` of its name. */
export type LabelMode = 'none' | 'folder' | 'prefix'

/**
 * The class of each file; class names are sorted, so that labels do not depend on the order of files.
 * `prefix` is guided-diffusion's rule (`n01440764_2708.JPEG`).
 *
 * @throws DataError when a file has no class in its path
 */
export function labelFiles(
  call: string,
  folder: string,
  paths: readonly string[],
  mode: Exclude<LabelMode, 'none'>,
): { labels: Int32Array; classNames: string[] } {
  const names = paths.map((path) => {
    const name = mode === 'folder' ? path.split('/', 1)[0]! : basename(path).split('_', 1)[0]!
    if (mode === 'folder' ? name === path : name === basename(path)) {
      const what =
        mode === 'folder' ? 'to lie in a folder named after its class' : 'to be named <class>_<rest>'
      throw new DataError(
        `${call}: expected every image ${what}, got ${path} in ${folder}`,
        join(folder, path),
      )
    }
    return name
  })
  const classNames = [...new Set(names)].sort()
  const labelOf = new Map(classNames.map((name, label) => [name, label]))
  return { labels: Int32Array.from(names, (name) => labelOf.get(name)!), classNames }
}
