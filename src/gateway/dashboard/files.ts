/** The page at `/` and its files, as they were built. */
import { readdirSync, readFileSync } from "node:fs"
import { extname } from "node:path"
import { gzipSync } from "node:zlib"
import type { GatewayContext } from "../GatewayContext.js"
import { make, RequestRejected } from "../http/errorResponse.js"
import type { RequestContext } from "../http/RequestContext.js"

const types: { readonly [extension: string]: string } = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml"
}

interface PageFile {
  readonly type: string
  readonly whole: Buffer
  readonly small: Buffer
}

/** From src/gateway/dashboard/ and from dist/gateway/dashboard/ alike. */
const folder = new URL("../../../dist/dashboard/", import.meta.url)

let files: ReadonlyMap<string, PageFile> | undefined

/** They are read once, at the first request. */
const load = (): ReadonlyMap<string, PageFile> => {
  const found = new Map<string, PageFile>()
  let names: ReadonlyArray<string>
  try {
    names = readdirSync(folder)
  } catch {
    // The package was built without the page.
    return found
  }
  for (const name of names) {
    const type = types[extname(name)]
    if (type === undefined) continue
    const whole = readFileSync(new URL(name, folder))
    found.set(name, { type, whole, small: gzipSync(whole, { level: 9 }) })
  }
  return found
}

const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data: blob:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'"
].join("; ")

const send = (context: RequestContext, { small, type, whole }: PageFile, caching: string): void => {
  const { headers, request } = context
  const zipped = /\bgzip\b/.test(String(request.headers["accept-encoding"] ?? ""))
  headers["vary"] = headers["vary"] === undefined ? "accept-encoding" : `${headers["vary"]}, accept-encoding`
  headers["content-security-policy"] = policy
  headers["x-content-type-options"] = "nosniff"
  headers["x-frame-options"] = "DENY"
  headers["referrer-policy"] = "no-referrer"
  headers["cross-origin-opener-policy"] = "same-origin"
  headers["cache-control"] = caching
  if (zipped) headers["content-encoding"] = "gzip"
  context.sendBytes(type, zipped ? small : whole)
}

/** Whether there is a page. */
export const isBuilt = (): boolean => {
  files ??= load()
  return files.has("index.html")
}

/** `GET /` for a browser. */
export const page = (context: RequestContext): void => {
  files ??= load()
  const file = files.get("index.html")
  if (file !== undefined) send(context, file, "no-cache")
}

/** `GET /dashboard/{id}`: their names change with what they hold. */
export const asset = (_: GatewayContext, context: RequestContext, name: string): void => {
  files ??= load()
  const file = name === "index.html" ? undefined : files.get(name)
  if (file === undefined) throw new RequestRejected(make(404, "There is no such file.", "unknown_url"))
  send(context, file, "public, max-age=31536000, immutable")
}
