import { createHash } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { basename, join } from 'node:path'
import { argumentError, checkInteger } from '../check.ts'
import { reportPage } from './page/page.ts'
import { readFolders } from './report.ts'

/** Where a live page is served, and how often the folder is looked at. */
export interface WatchOptions {
  /** Port of 127.0.0.1; a free one if it is taken, and with 0, the default. */
  readonly port?: number
  /** Milliseconds between looks at the folder. Default 1000. */
  readonly everyMs?: number
}

/** A page that is being served. */
export interface Watch {
  /** http://127.0.0.1:PORT/ */
  readonly url: string
  readonly port: number
  /** Ends the server and the connections of browsers. */
  close(): Promise<void>
}

/**
 * Serves the page of `writeReport` on 127.0.0.1, renewed whenever a file of the run, or of the study and its cells, changes. The
 * folder may still be empty, or missing.
 *
 * @example
 * const watch = await watchRun('runs/digits')
 * console.log(watch.url)
 */
export async function watchRun(folder: string, options: WatchOptions = {}): Promise<Watch> {
  const call = 'watchRun'
  if (typeof folder !== 'string')
    throw argumentError(call, 'folder', 'the folder of a run', folder, { kind: 'type' })
  const { port = 0, everyMs = 1000 } = options
  checkInteger(call, 'port', port, 0, 65535)
  checkInteger(call, 'everyMs', everyMs, 1)
  const listeners = new Set<ServerResponse>()
  let version = await folderVersion(folder)
  const server = createServer((request, response) => {
    answer(request, response).catch((error: Error) => {
      if (!response.headersSent) response.writeHead(500, { 'content-type': 'text/plain; charset=utf-8' })
      response.end(error.message)
    })
  })

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { port: own } = server.address() as AddressInfo
    // A page of another site must not read this one through a name of its own for 127.0.0.1.
    if (![`127.0.0.1:${own}`, `localhost:${own}`].includes(request.headers.host ?? ''))
      return refuse(response, 403, 'this host is not served')
    if (request.method !== 'GET' && request.method !== 'HEAD') return refuse(response, 405, 'GET only')
    const { pathname } = new URL(request.url ?? '/', 'http://127.0.0.1')
    if (pathname === '/events') return listen(response)
    if (pathname !== '/') return refuse(response, 404, 'not found')
    version = await folderVersion(folder)
    const page = await reportPage(await readFolders([folder]), version)
    const headers = {
      'content-type': 'text/html; charset=utf-8',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    }
    response.writeHead(200, headers)
    response.end(request.method === 'HEAD' ? undefined : page)
  }

  function listen(response: ServerResponse): void {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
    response.write(`data: ${version}\n\n`)
    listeners.add(response)
    response.on('close', () => listeners.delete(response))
  }

  let isLooking = false
  const timer = setInterval(async () => {
    if (isLooking || listeners.size === 0) return
    isLooking = true
    version = await folderVersion(folder)
    for (const listener of listeners) listener.write(`data: ${version}\n\n`)
    isLooking = false
  }, everyMs)

  try {
    const bound = await listenOn(server, port)
    return {
      url: `http://127.0.0.1:${bound}/`,
      port: bound,
      async close() {
        clearInterval(timer)
        const closed = new Promise<void>((resolve) => server.close(() => resolve()))
        server.closeAllConnections()
        await closed
      },
    }
  } catch (error) {
    clearInterval(timer)
    throw error
  }
}

function refuse(response: ServerResponse, code: number, words: string): void {
  response.writeHead(code, { 'content-type': 'text/plain; charset=utf-8' })
  response.end(`${words}\n`)
}

/** Listens on a port, or on a free one if it is taken. */
async function listenOn(server: Server, port: number): Promise<number> {
  const attempt = (wanted: number) =>
    new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(wanted, '127.0.0.1', () => {
        server.off('error', reject)
        resolve()
      })
    })
  await attempt(port).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EADDRINUSE' || port === 0) throw error
    return attempt(0)
  })
  return (server.address() as AddressInfo).port
}

/** Changes when a file that the page shows does: of the run, or of the study and its cells. */
async function folderVersion(folder: string): Promise<string> {
  const hash = createHash('sha256')
  for (const part of [folder, ...(await cellFolders(folder))]) hash.update(await runVersion(part))
  return hash.digest('hex').slice(0, 16)
}

/** ARM/seed-K of a study. */
async function cellFolders(folder: string): Promise<string[]> {
  const under = async (parent: string) => {
    const entries = await readdir(parent, { withFileTypes: true }).catch(() => [])
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(parent, name))
  }
  const cells = await Promise.all((await under(folder)).map(under))
  return cells
    .flat()
    .filter((cell) => /^seed-\d+$/.test(basename(cell)))
    .sort()
}

async function runVersion(folder: string): Promise<string> {
  const hash = createHash('sha256')
  for (const under of ['', 'previews', 'instruments', 'checkpoints']) {
    const names = (await readdir(join(folder, under)).catch(() => [])).sort()
    for (const name of names) {
      const file = join(folder, under, name)
      const facts = await stat(file).catch(() => undefined)
      if (facts && (facts.isFile() || under === 'checkpoints'))
        hash.update(`${file}\0${facts.size}\0${facts.mtimeMs}\n`)
    }
  }
  return hash.digest('hex')
}
