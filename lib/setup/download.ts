// Downloads one file over HTTP(S), continuing where a broken connection stopped, and checks hashes.
import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream, statSync } from 'node:fs'
import { get as httpGet, type IncomingMessage } from 'node:http'
import { get as httpsGet } from 'node:https'
import { basename } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { SetupError } from '../errors.ts'

const attempts = 4
const idleMs = 60_000

/** Thrown for an address that answers, but not with the file. */
export class HttpError extends SetupError {
  readonly status: number

  constructor(message: string, status: number) {
    super(message)
    this.status = status
  }
}

/** Downloads `address` to `file`; a connection that breaks is taken up again with a range request, at most three times. */
export async function download(
  address: string,
  file: string,
  onBytes: (done: number, total: number) => void = () => {},
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await downloadRest(address, file, onBytes)
      return
    } catch (error) {
      if (error instanceof SetupError) throw error
      if (attempt === attempts) {
        throw new SetupError(`trislot setup: cannot download ${address}: ${(error as Error).message}`, {
          cause: error,
        })
      }
    }
  }
}

async function downloadRest(
  address: string,
  file: string,
  onBytes: (done: number, total: number) => void,
): Promise<void> {
  const have = statSync(file, { throwIfNoEntry: false })?.size ?? 0
  const response = await request(address, have > 0 ? { range: `bytes=${have}-` } : {})
  const status = response.statusCode ?? 0
  if (status !== 200 && status !== 206) {
    response.resume()
    throw new HttpError(`trislot setup: expected ${address} to answer 200, got ${status}`, status)
  }
  let done = status === 206 ? have : 0
  const length = Number(response.headers['content-length'] ?? Number.NaN)
  const total = Number.isNaN(length) ? 0 : done + length
  response.on('data', (chunk: Buffer) => {
    done += chunk.length
    onBytes(done, total)
  })
  await pipeline(response, createWriteStream(file, { flags: done > 0 ? 'a' : 'w' }))
}

async function request(
  address: string,
  headers: Record<string, string>,
  redirects = 5,
): Promise<IncomingMessage> {
  const url = new URL(address)
  const response = await new Promise<IncomingMessage>((done, fail) => {
    const get = url.protocol === 'https:' ? httpsGet : httpGet
    const sent = get(url, { headers }, done)
    sent.setTimeout(idleMs, () => sent.destroy(new Error(`no answer for ${idleMs / 1000} s`)))
    sent.on('error', fail)
  })
  const location = response.headers.location
  if (location === undefined || ![301, 302, 303, 307, 308].includes(response.statusCode ?? 0)) return response
  response.resume()
  if (redirects === 0)
    throw new SetupError(`trislot setup: expected ${address} to redirect at most 5 times, got more`)
  const next = new URL(location, url)
  if (url.protocol === 'https:' && next.protocol !== 'https:') {
    throw new SetupError(
      `trislot setup: expected ${address} to stay on HTTPS, got a redirect to ${next.href}`,
    )
  }
  return await request(next.href, headers, redirects - 1)
}

/** The sha256 of a file, in hexadecimal. */
export async function sha256File(file: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

/** Throws when a file's sha256 is not the expected one. */
export async function checkHash(file: string, expected: string): Promise<void> {
  const got = await sha256File(file)
  if (got === expected.toLowerCase()) return
  throw new SetupError(
    `trislot setup: expected ${basename(file)} to have the sha256 ${expected.toLowerCase()}, got ${got}; the file is damaged or another one`,
  )
}
