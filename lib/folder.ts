import { randomUUID } from 'node:crypto'
import { access, mkdir, open, rename, rm, stat } from 'node:fs/promises'
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

/**
 * Writes a file whole or not at all, and waits until the disk has it.
 *
 * @param partial - its name until then; one that is always the same leaves no second file behind when processes are killed
 */
export async function writeDurably(
  path: string,
  content: string | Uint8Array,
  partial = `${path}.${randomUUID()}.partial`,
): Promise<void> {
  try {
    const handle = await open(partial, 'w')
    try {
      await handle.writeFile(content)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(partial, path)
  } catch (error) {
    await rm(partial, { force: true }).catch(() => {})
    const { message } = error as Error
    if (!message.includes(path)) (error as Error).message = `${message} (${path})` // a full disk names no file
    throw error
  }
}

/** Whether there is anything under a path that this process may see. */
export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

/** Whether a path is a folder that this process may see. */
export async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() === true
}
