import { once } from "node:events"
import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import type { Transform } from "node:stream"
import * as Zlib from "node:zlib"
import { describe, expect, it } from "vitest"
import { failure, model, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const fleet = useFleet()
type Protocol = "ollama" | "openai"

const line = (value: object) => `${JSON.stringify(value)}\n`
const chunk = (delta: object, finish_reason: string | null = null) =>
  `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason }] })}\n\n`

const wires = {
  ollama: {
    type: "application/x-ndjson",
    list: "/api/tags",
    models: { models: [{ name: model, model }] },
    token: (content: string) => line({ model, message: { role: "assistant", content }, done: false }),
    end: line({ model, message: { role: "assistant", content: "" }, done: true, done_reason: "stop" }),
    embedded: { embeddings: [[1, 2]] }
  },
  openai: {
    type: "text/event-stream",
    list: "/v1/models",
    models: { object: "list", data: [{ id: model }] },
    token: (content: string) => chunk({ content }),
    end: `${chunk({}, "stop")}data: [DONE]\n\n`,
    embedded: { data: [{ index: 0, embedding: [1, 2] }] }
  }
} as const

type Compress = Transform & { flush(callback: () => void): void }
const zstd = (Zlib as { readonly createZstdCompress?: () => Compress }).createZstdCompress

const encodings: ReadonlyArray<readonly [name: string, layers: ReadonlyArray<() => Compress>]> = [
  ["gzip", [() => Zlib.createGzip()]],
  ["X-GZip", [() => Zlib.createGzip()]],
  ["deflate", [() => Zlib.createDeflate()]],
  ["deflate", [() => Zlib.createDeflateRaw()]],
  ["br", [() => Zlib.createBrotliCompress()]],
  ["gzip, br", [() => Zlib.createGzip(), () => Zlib.createBrotliCompress()]],
  ["identity, gzip", [() => Zlib.createGzip()]],
  ...(zstd === undefined ? [] : ([["zstd", [zstd]]] as const))
]

/** Compresses what is written, and sends each piece at once. */
const writer = (layers: ReadonlyArray<() => Compress>, response: ServerResponse) => {
  const stages = layers.map((make) => make())
  stages.forEach((stage, at) => {
    stage.pipe((stages[at + 1] ?? response) as NodeJS.WritableStream)
  })
  const flush = async (at: number): Promise<void> => {
    const stage = stages[at]
    if (stage === undefined) return
    await new Promise<void>((resolve) => stage.flush(resolve))
    await new Promise<void>((resolve) => setImmediate(resolve))
    await flush(at + 1)
  }
  return {
    write: (text: string | Buffer) => {
      stages[0]?.write(text)
      return flush(0)
    },
    end: (text: string | Buffer = "") => stages[0]?.end(text)
  }
}

interface Report {
  readonly url: string
  readonly accepts: ReadonlyArray<string | string[] | undefined>
  readonly [Symbol.asyncDispose]: () => Promise<void>
}

/** A server whose answers `answer` writes; its lists, and answers without `answer`, are compressed whole. */
const start = async (
  protocol: Protocol,
  encoding: string,
  layers: ReadonlyArray<() => Compress>,
  answer: (response: ServerResponse) => unknown = (response) => {
    const wire = wires[protocol]
    writer(layers, response).end(wire.token("Hel") + wire.token("lo") + wire.end)
  }
): Promise<Report> => {
  const wire = wires[protocol]
  const accepts: Array<string | string[] | undefined> = []
  const server = createServer((request, response) => {
    request.resume().on("end", () => {
      accepts.push(request.headers["accept-encoding"])
      const { url = "" } = request
      const isChat = /chat/.test(url)
      if (!isChat && url !== wire.list && !/embed/.test(url)) {
        response.writeHead(404).end()
        return
      }
      response.writeHead(200, {
        "content-type": isChat ? wire.type : "application/json",
        "content-encoding": encoding
      })
      response.flushHeaders()
      if (isChat) answer(response)
      else writer(layers, response).end(JSON.stringify(url === wire.list ? wire.models : wire.embedded))
    })
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  return fleet.keep({
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    accepts,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  })
}

const gzip = [() => Zlib.createGzip()]
const broken = [
  ["text that is not compressed", Buffer.from("data: {}\n\n")],
  ["a damaged body", damaged()]
] as const

function damaged(): Buffer {
  const bytes = Zlib.gzipSync(Buffer.from("some text that is long enough to be damaged in its middle".repeat(20)))
  bytes.fill(0xff, 12, 40)
  return bytes
}

/** A flood of zeros, that nobody holds in one piece. */
const bomb = async (response: ServerResponse) => {
  const stage = Zlib.createGzip({ level: 9 })
  stage.pipe(response)
  const zeros = Buffer.alloc(1024 * 1024, 0x20)
  for (let i = 0; i < 2_000 && !response.destroyed; i++) {
    if (!stage.write(zeros)) await once(stage, "drain")
  }
  stage.destroy()
}

describe.each(["ollama", "openai"] as const)("compressed answers (%s)", (protocol) => {
  const wire = wires[protocol]

  describe.each(encodings)("%s", (encoding, layers) => {
    it("are decoded, as are model lists and vectors", async () => {
      const server = await start(protocol, encoding, layers)
      const cortex = fleet.cortex([{ url: server.url, protocol }])
      expect(await cortex.listServers()).toMatchObject([{ reachable: true, models: [model] }])
      expect(await cortex.complete("Hi")).toMatchObject({ text: "Hello", attempts: [] })
      expect((await cortex.embed("Hi", { model })).embeddings).toEqual([[1, 2]])
      expect(new Set(server.accepts)).toEqual(new Set(["identity"]))
    })

    it("are decoded piece by piece", async () => {
      let seen: (count: number) => void = () => {}
      const server = await start(protocol, encoding, layers, async (response) => {
        const out = writer(layers, response)
        // Each piece waits until the one before has arrived.
        for (let i = 1; i <= 5; i++) {
          const arrived = new Promise<void>((resolve) => {
            seen = (count) => count === i && resolve()
          })
          await out.write(wire.token(`${i} `))
          await arrived
        }
        out.end(wire.end)
      })
      const cortex = fleet.cortex([{ url: server.url, protocol }])
      let text = ""
      let count = 0
      for await (const event of await cortex.chat("Hi", { stream: true, maxRetries: 1 })) {
        if (event.type !== "token") continue
        text += event.content
        seen(++count)
      }
      expect(text).toBe("1 2 3 4 5 ")
    })

    it.each([false, true])("reach a gateway's client (stream: %s)", async (stream) => {
      const server = await start(protocol, encoding, layers)
      const gateway = fleet.keep(await startGateway([{ url: server.url }]))
      const messages = [{ role: "user", content: "Hi" }]
      const response = await gateway.post("/v1/chat/completions", { model, messages, stream })
      expect(response.status).toBe(200)
      const text = await response.text()
      const reported = [...text.matchAll(/"content":"([^"]*)"/g)].map(([, content]) => content).join("")
      expect(reported).toBe("Hello")
    })
  })

  it.each(broken)("that are not compressed are a failure of the server (%s)", async (_, bytes) => {
    const server = await start(protocol, "gzip", gzip, (response) => response.end(bytes))
    const cortex = fleet.cortex([{ url: server.url, protocol }])
    const error = await failure(cortex.complete("Hi", { maxRetries: 1 }))
    expect(error.attempts).toMatchObject([{ reason: "malformed" }])
    expect(error.attempts[0].message).toMatch(/^answered with what is not the gzip that it says/)
  })

  it("that are truncated are interrupted after their content so far", async () => {
    const server = await start(protocol, "gzip", gzip, async (response) => {
      const stage = Zlib.createGzip()
      stage.on("data", (bytes: Buffer) => response.write(bytes))
      stage.write(wire.token("Hel"))
      await new Promise<void>((resolve) => stage.flush(resolve))
      response.end()
    })
    const cortex = fleet.cortex([{ url: server.url, protocol }])
    const error = await failure(
      cortex.chat("Hi", { stream: true, maxRetries: 1 }).then(async (stream) => {
        for await (const _ of stream);
      })
    )
    expect(error).toMatchObject({ _tag: "StreamInterrupted", partial: "Hel" })
    expect(error.attempts).toMatchObject([{ reason: "cut" }])
  })

  it("whose connection breaks are interrupted after their content so far", async () => {
    const brotli = [() => Zlib.createBrotliCompress()]
    const server = await start(protocol, "br", brotli, async (response) => {
      const out = writer(brotli, response)
      await out.write(wire.token("Hel"))
      response.socket?.destroySoon()
    })
    const cortex = fleet.cortex([{ url: server.url, protocol, maxInFlight: 1 }])
    const error = await failure(
      cortex.chat("Hi", { stream: true, maxRetries: 1 }).then(async (stream) => {
        for await (const _ of stream);
      })
    )
    expect(error).toMatchObject({ _tag: "StreamInterrupted", partial: "Hel" })
    expect(error.attempts).toMatchObject([{ reason: "cut" }])
  })

  it.each([
    ["compress", "compress"],
    ["gzip, lzma", "lzma"],
    ["constructor", "constructor"],
    ...(zstd === undefined ? [["zstd", "zstd"]] : [])
  ])("with an unknown encoding are an error that names it (%s)", async (encoding, unknown) => {
    const server = await start(protocol, encoding, gzip)
    const cortex = fleet.cortex([{ url: server.url, protocol }])
    const [found] = await cortex.listServers()
    expect(found).toMatchObject({ reachable: false })
    expect(found?.problem).toContain(`answered with the encoding '${unknown}', which is not read here`)
    const error = await failure(cortex.complete("Hi", { maxRetries: 1 }))
    expect(error.attempts).toMatchObject([{ reason: "malformed" }])
    expect(error.attempts[0].message).toContain(`the encoding '${unknown}'`)
  })

  it("that expand beyond the limit are aborted early", async () => {
    const server = await start(protocol, "gzip", gzip, bomb)
    const cortex = fleet.cortex([{ url: server.url, protocol }])
    const before = process.memoryUsage().rss
    const error = await failure(cortex.complete("Hi", { maxRetries: 1 }))
    expect(error.attempts).toMatchObject([{ reason: "malformed" }])
    expect(error.attempts[0].message).toContain("compressed bytes that become more than 200 times as many")
    expect(process.memoryUsage().rss - before).toBeLessThan(256 * 1024 * 1024)
  })

  it("that are long and repetitive are still decoded", async () => {
    const server = await start(protocol, "gzip", gzip, async (response) => {
      const out = writer(gzip, response)
      for (let i = 0; i < 500; i++) out.write(wire.token("the same "))
      out.end(wire.end)
    })
    const cortex = fleet.cortex([{ url: server.url, protocol }])
    expect((await cortex.complete("Hi", { maxRetries: 1 })).text).toBe("the same ".repeat(500))
  })
})
