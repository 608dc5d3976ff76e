import { access, mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * Makes a folder and those above it, where they are not there. Node's recursive mkdir never returns below a folder in which
 * nothing can be made and that says so by ENOENT, such as /proc.
 *
 * @throws the error of the file system
 */
export async function makeFolder(path: string): Promise<void> {
  try {
    return await makeOne(path)
  } catch (error) {
    const parent = dirname(path)
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || parent === path) throw error
    await makeFolder(parent)
  }
  await makeOne(path) // once more and no more: its parent is there now, whoever made it
}

/** Makes a folder whose parent is there; one that is there itself will do. */
async function makeOne(path: string): Promise<void> {
  await mkdir(path).catch(async (error: unknown) => {
    if (!(await isFolder(path))) throw error
  })
}

/** Whether there is anything under a path that this process may see. */
export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() === true
}
