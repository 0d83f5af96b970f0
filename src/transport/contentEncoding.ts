/**
 * Decompresses answers. None is requested compressed, but some proxies and servers still send them.
 *
 * @internal
 */
import type { Transform } from "node:stream"
import { setImmediate } from "node:timers"
import * as Zlib from "node:zlib"
import type { Exchange, TransportFailure, TransportHandler } from "../Transport.js"

/** Maximum number of layers. */
const maxLayers = 3

/**
 * A limit against decompression bombs: this many bytes are allowed in any case, and beyond them this ratio. Model
 * answers stay far below it.
 */
const free = 1024 * 1024
const maxRatio = 200

type Headers = { readonly [name: string]: string | ReadonlyArray<string> | undefined }

/**
 * The encodings of an answer in the order applied; empty if none.
 *
 * @internal
 */
export const layersOf = (headers: Headers): ReadonlyArray<string> => {
  const value = headers["content-encoding"]
  if (value === undefined) return none
  const text = typeof value === "string" ? value : value.join(",")
  return text
    .split(",")
    .map((name) => name.trim().toLowerCase())
    .filter((name) => name !== "" && name !== "identity")
}
const none: ReadonlyArray<string> = []

type Decompress = Transform & { flush(callback: () => void): void }

/** Available in Node from 22.15 on. */
const zstd = (Zlib as { readonly createZstdDecompress?: () => Decompress }).createZstdDecompress

/** `deflate` is ambiguous: most send a zlib header, some do not. */
const inflate = (first: number): Decompress => ((first & 0x0f) === 8 ? Zlib.createInflate() : Zlib.createInflateRaw())

const makers: { readonly [name: string]: ((first: number) => Decompress) | undefined } = {
  gzip: () => Zlib.createGunzip(),
  "x-gzip": () => Zlib.createGunzip(),
  deflate: inflate,
  br: () => Zlib.createBrotliDecompress(),
  zstd
}

/**
 * Why an answer with these encodings cannot be read.
 *
 * @internal
 */
export const unreadable = (layers: ReadonlyArray<string>): TransportFailure | undefined => {
  const unknown = layers.find((name) => !Object.hasOwn(makers, name) || makers[name] === undefined)
  const what =
    unknown !== undefined
      ? `the encoding '${unknown.slice(0, 40)}', which is not read here`
      : layers.length > maxLayers
        ? `${layers.length} encodings on top of each other`
        : undefined
  return what === undefined
    ? undefined
    : { reason: "malformed", message: `answered with ${what}; it was asked for none (accept-encoding: identity)` }
}

/**
 * Stands between an exchange and its handler, after the head. Data is passed on as soon as it is decompressed, with
 * back-pressure.
 *
 * @internal
 */
export class Decoding implements Exchange {
  private chain: ReadonlyArray<Decompress> | undefined
  private open = true
  /** The handler has paused it; and the decompression has. */
  private held = false
  private full = false
  private bytesIn = 0
  private bytesOut = 0

  constructor(
    private readonly layers: ReadonlyArray<string>,
    private readonly handler: TransportHandler,
    private readonly source: Exchange
  ) {}

  data(bytes: Uint8Array): void {
    if (!this.open || bytes.length === 0) return
    this.bytesIn += bytes.length
    this.chain ??= this.make(bytes[0] ?? 0)
    // Copied, because the reader may reuse its buffer.
    const [first] = this.chain
    if (first?.write(new Uint8Array(bytes)) !== false) return
    this.full = true
    this.source.pause()
  }

  end(): void {
    if (!this.open) return
    const first = this.chain?.[0]
    // A truncated end is reported after the data, which a failure would discard.
    if (first !== undefined) first.flush(() => setImmediate(() => this.open && first.end()))
    else {
      this.open = false
      this.handler.end()
    }
  }

  /** The connection broke: the readable part comes first. */
  error(failure: TransportFailure): void {
    if (!this.open) return
    const { chain = [] } = this
    this.held = false
    chain.at(-1)?.resume()
    const drain = (at: number): void => {
      const stage = chain[at]
      if (stage !== undefined) stage.flush(() => setImmediate(drain, at + 1))
      else this.fail(failure)
    }
    drain(0)
  }

  abort(): void {
    if (!this.open) return
    this.close()
    this.source.abort()
  }
  pause(): void {
    this.held = true
    this.chain?.at(-1)?.pause()
    this.source.pause()
  }
  resume(): void {
    this.held = false
    this.chain?.at(-1)?.resume()
    if (!this.full) this.source.resume()
  }

  private make(first: number): ReadonlyArray<Decompress> {
    // The last applied encoding is removed first. What lies beneath starts with an unknown byte.
    const chain = this.layers.toReversed().map((name, at) => (makers[name] as typeof inflate)(at === 0 ? first : 0x78))
    chain.forEach((stage, at) => {
      const next = chain[at + 1]
      stage.on("error", (error: NodeJS.ErrnoException) => this.broken(error))
      if (next !== undefined) stage.pipe(next)
    })
    chain[0]?.on("drain", () => {
      this.full = false
      if (this.open && !this.held) this.source.resume()
    })
    const last = chain.at(-1)
    last?.on("data", (bytes: Uint8Array) => this.read(bytes))
    last?.on("end", () => {
      if (!this.open) return
      this.open = false
      this.handler.end()
    })
    if (this.held) last?.pause()
    return chain
  }

  private read(bytes: Uint8Array): void {
    if (!this.open) return
    this.bytesOut += bytes.length
    if (this.bytesOut > free + maxRatio * this.bytesIn) {
      const message = `answered with ${this.bytesIn} compressed bytes that become more than ${maxRatio} times as many`
      this.fail({ reason: "malformed", message })
      return
    }
    try {
      this.handler.data(bytes)
    } catch (error) {
      // An exception here would be uncaught: it fails this exchange only.
      this.fail({ reason: "network", message: error instanceof Error ? error.message : String(error) })
    }
  }

  private broken(error: NodeJS.ErrnoException): void {
    if (error.code === "Z_BUF_ERROR") this.fail({ reason: "network", message: "the compressed answer ends too soon" })
    else {
      const encoding = this.layers.join(", ")
      this.fail({
        reason: "malformed",
        message: `answered with what is not the ${encoding} that it says: ${error.message}`
      })
    }
  }

  private fail(failure: TransportFailure): void {
    if (!this.open) return
    this.close()
    this.source.abort()
    this.handler.error(failure)
  }

  private close(): void {
    this.open = false
    for (const stage of this.chain ?? []) stage.destroy()
  }
}
