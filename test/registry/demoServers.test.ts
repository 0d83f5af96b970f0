/** From addresses to an answer: a registry of two servers with the demo model, among ones that are off, hostile or lost. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { createServer, type RequestListener } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, it } from "vitest"
import { createCortex } from "../../src/promise.js"
import { useDemoServers } from "../support/demoProcess.js"
import { useKeep } from "../support/keep.js"
import { unusedPort } from "../support/ports.js"

const keep = useKeep()

const serve = async (answer: RequestListener): Promise<string> => {
  const server = createServer(answer)
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve))
  keep({
    [Symbol.asyncDispose]: async () => {
      server.close()
      server.closeAllConnections()
    }
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

it("two servers with the demo model are recorded, others are skipped, and the registry serves a chat", async () => {
  const demos = await useDemoServers()
  keep({ [Symbol.asyncDispose]: async () => demos.close() })
  const [one, two] = [await demos.start(), await demos.start()]
  const folder = mkdtempSync(join(tmpdir(), "aicortex-demo-"))
  keep({ [Symbol.asyncDispose]: async () => rmSync(folder, { recursive: true, force: true }) })
  const registry = join(folder, "models")
  const bad: ReadonlyArray<readonly [url: string, reason: RegExp]> = [
    [`http://127.0.0.1:${await unusedPort()}`, /refused the connection/],
    [await serve(() => {}), /did not say within 3 s/],
    [await serve((_, response) => response.writeHead(302, { location: one.url }).end()), /redirect/],
    [await serve((_, response) => response.end(JSON.stringify({ models: [7, { name: null }] }))), /something else/]
  ]
  const settings = { configFile: false, stateFile: false, servers: [] } as const
  await using maker = createCortex({ ...settings, registry })
  const { changes, rejected } = await maker.registry.refresh({
    sources: [one.url, two.url, ...bad.map(([url]) => url)],
    timeout: "3 seconds"
  })
  assert.sameDeepMembers(
    changes.map(({ change, model, server }) => [change, model, server]),
    [one.url, two.url].map((url) => ["added", "tiny:2m", url])
  )
  for (const [url, reason] of bad) assert.match(rejected.find(({ source }) => source === url)?.reason ?? "", reason)
  assert.deepEqual(readdirSync(folder), ["models"])
  const rows = readdirSync(registry).flatMap((name) => JSON.parse(readFileSync(join(registry, name), "utf8")).models)
  assert.sameMembers(
    rows.map(({ ip_port: url, model_name: name, protocol }) => `${url} ${name} ${protocol}`),
    [one.url, two.url].map((url) => `${url} tiny:2m openai`)
  )
  await using reader = createCortex({ ...settings, registry })
  const { server, text } = await reader.complete("Hello", { model: "tiny:2m", maxTokens: 8 })
  assert.include([one.url, two.url], server)
  assert.isNotEmpty(text)
})
